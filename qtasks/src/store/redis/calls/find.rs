//! How jobs are found, some at a time.

use std::ops::RangeInclusive;

use redis::{Cmd, Value};

use crate::{
    model::job::{JobId, StateKind},
    store::{
        Budget, Find, Order, Page,
        redis::{connection::Link, encoding, error::Fault},
    },
};

/// The most jobs that one script finds, or looks at.
const AT_ONCE: usize = 1_000;

/// What one script has found.
struct Found {
    jobs: Page,
    /// About how many ids of the list come before the next one.
    hint: i64,
    may_be_more: bool,
}

pub(crate) async fn find(link: &Link, find: &Find, after: Option<JobId>, budget: Budget) -> Result<Page, Fault> {
    let (most_jobs, most_looks) = (budget.jobs.max(1), budget.looks.max(1) as u64);
    let (mut page, mut behind, mut hint) = (Page::default(), after, None);
    let conditions = encoding::conditions(find);
    while page.jobs.len() < most_jobs && page.looked < most_looks {
        let mut call = link.call(|scripts| &scripts.find);
        add_range(&mut call, find, behind);
        call.arg(hint.map_or_else(String::new, |hint: i64| hint.to_string()));
        call.arg(u8::from(find.states == [StateKind::Dead]));
        call.arg((most_jobs - page.jobs.len()).min(AT_ONCE)).arg((most_looks - page.looked).min(AT_ONCE as u64));
        conditions.iter().for_each(|condition| _ = call.arg(condition));
        let found = read(link.ask(&call).await?)?;
        page.jobs.extend(found.jobs.jobs.into_iter().filter(|job| find.passes(job)));
        page.looked += found.jobs.looked;
        page.next = found.jobs.next.or(page.next);
        if !found.may_be_more {
            return Ok(Page { next: None, ..page });
        }
        (behind, hint) = (page.next, Some(found.hint));
    }
    Ok(page)
}

/// Adds where the search goes: in which order, from which id on, and up to which one.
fn add_range(call: &mut Cmd, find: &Find, behind: Option<JobId>) {
    let ids = find.id.as_ref().map(|prefix| prefix.ids());
    let is_inside = |id: &JobId| ids.as_ref().is_none_or(|ids| ids.contains(id));
    let is_newest_first = find.order == Order::Newest;
    let (first, last) = ids.clone().map(RangeInclusive::into_inner).unzip();
    let (first, last) = if is_newest_first { (last, first) } else { (first, last) };
    // Where the search has come behind all ids of the prefix, the last one ends it at once.
    let behind = behind.filter(|id| is_inside(id) || is_beyond(*id, last, is_newest_first));
    let start = behind.or(first);
    let bytes = |id: Option<JobId>| id.map(|id| id.to_bytes().to_vec()).unwrap_or_default();
    let is_excluded = behind.is_some();
    call.arg(u8::from(is_newest_first))
        .arg(bytes(start))
        .arg(u8::from(is_excluded != is_newest_first))
        .arg(bytes(last));
}

fn is_beyond(id: JobId, last: Option<JobId>, is_newest_first: bool) -> bool {
    last.is_some_and(|last| if is_newest_first { id < last } else { id > last })
}

fn read(answer: Vec<Value>) -> Result<Found, Fault> {
    let [last, Value::Int(looked), Value::Int(hint), Value::Int(may_be_more), jobs @ ..] = &answer[..] else {
        return Err(Fault::Unreadable);
    };
    let next = match last {
        Value::BulkString(id) => Some(encoding::job_id(id)?),
        _ => None,
    };
    let looked = u64::try_from(*looked).map_err(|_| Fault::Unreadable)?;
    let jobs = Page { jobs: encoding::jobs(jobs, encoding::job)?, looked, next };
    Ok(Found { jobs, hint: *hint, may_be_more: *may_be_more == 1 })
}
