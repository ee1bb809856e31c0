//! Searches: rows are looked at in the order of their ids, and only those that may be meant are read as jobs.

use std::collections::HashSet;

use rusqlite::{Connection, Row, params};

use super::read;
use crate::{
    model::job::{JobId, State, StateKind},
    store::{Budget, Find, Order, Page, sqlite::encoding},
};

/// The rows of a search from id `?1` to `?2`; outcomes and arguments, which may be large, only where the search asks for them.
macro_rules! rows {
    ($source:literal, $id:literal) => {
        [rows!($source, $id, " DESC"), rows!($source, $id, "")]
    };
    ($source:literal, $id:literal, $order:literal) => {
        concat!(
            "SELECT j.id, j.lane, j.state, j.enqueued, j.ended_at, CASE WHEN ?3 THEN j.detail END, \
             CASE WHEN ?4 THEN j.args END FROM ",
            $source,
            " AND ",
            $id,
            " BETWEEN ?1 AND ?2 ORDER BY ",
            $id,
            $order,
            " LIMIT ?5"
        )
    };
}

/// By where to look, and in which order: the newest first, or the oldest.
pub(crate) const ALL: [&str; 2] = rows!("qtasks_jobs AS j NOT INDEXED WHERE 1", "j.id");
pub(crate) const DEAD: [&str; 2] = rows!("qtasks_dead AS d CROSS JOIN qtasks_jobs AS j WHERE j.id = d.job", "d.job");
/// These are few, and are sorted.
const RUNNING: [&str; 2] = rows!("qtasks_jobs AS j INDEXED BY qtasks_running WHERE j.state = 2", "j.id");

/// So many rows are looked at in one go: a read that lasts keeps the log of the file from being emptied.
const CHUNK: usize = 4096;

pub(crate) fn find(
    connection: &Connection,
    find: &Find,
    after: Option<JobId>,
    budget: Budget,
) -> rusqlite::Result<Page> {
    let lanes = lanes(connection, find)?;
    let mut page = Page::default();
    let Some(sources) = sources(find).filter(|_| !lanes.is_empty()) else { return Ok(page) };
    let rows = sources[find.order as usize];
    let search = Search { find, lanes, budget };
    let mut ids = behind(find, after);
    while let Some(between) = ids {
        match search.look(connection, rows, between, &mut page)? {
            Seen::Enough => return Ok(page),
            Seen::All => break,
            Seen::Some => ids = behind(find, page.next),
        }
    }
    Ok(Page { next: None, ..page })
}

/// The lanes whose jobs may be meant.
fn lanes(connection: &Connection, find: &Find) -> rusqlite::Result<HashSet<i64>> {
    let mut lanes = connection.prepare_cached("SELECT id, queue, task FROM qtasks_lanes")?;
    let mut rows = lanes.query([])?;
    let mut passing = HashSet::new();
    while let Some(row) = rows.next()? {
        if find.passes_lane(row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?) {
            passing.insert(row.get(0)?);
        }
    }
    Ok(passing)
}

/// Where jobs are found that may be meant. `None` where no job can be.
fn sources(find: &Find) -> Option<[&'static str; 2]> {
    use StateKind::{Cancelled, Dead, Done, Running, Waiting};
    let mut states = [Waiting, Running, Done, Dead, Cancelled].into_iter().filter(|state| find.passes_state(*state));
    match (states.next()?, states.next()) {
        (Dead, None) => Some(DEAD),
        (Running, None) => Some(RUNNING),
        _ => Some(ALL),
    }
}

/// The ids, first and last, of jobs that come behind `after` in the order of the search.
fn behind(find: &Find, after: Option<JobId>) -> Option<[[u8; 16]; 2]> {
    let number = |id: &JobId| u128::from_be_bytes(id.to_bytes());
    let ids = find.id.as_ref().map(|prefix| prefix.ids());
    let (mut first, mut last) = ids.map_or((0, u128::MAX), |ids| (number(ids.start()), number(ids.end())));
    match (find.order, after.as_ref().map(number)) {
        (_, None) => {}
        (Order::Newest, Some(after)) => last = last.min(after.checked_sub(1)?),
        (Order::Oldest, Some(after)) => first = first.max(after.checked_add(1)?),
    }
    (first <= last).then(|| [first, last].map(u128::to_be_bytes))
}

struct Search<'f> {
    find: &'f Find,
    lanes: HashSet<i64>,
    budget: Budget,
}

/// What has been seen of the jobs that there are.
enum Seen {
    /// As much as the budget allows.
    Enough,
    /// All.
    All,
    /// Some, and there may be more.
    Some,
}

impl Search<'_> {
    /// Looks at the next rows between two ids.
    fn look(
        &self,
        connection: &Connection,
        rows: &str,
        [first, last]: [[u8; 16]; 2],
        page: &mut Page,
    ) -> rusqlite::Result<Seen> {
        let mut rows = connection.prepare_cached(rows)?;
        let (outcome, args) = (self.find.error.is_some(), !self.find.args.is_empty());
        let mut rows = rows.query(params![first, last, outcome, args, encoding::count(CHUNK)])?;
        let mut seen = 0;
        while let Some(row) = rows.next()? {
            if page.jobs.len() >= self.budget.jobs.max(1) || page.looked >= self.budget.looks.max(1) as u64 {
                return Ok(Seen::Enough);
            }
            seen += 1;
            page.looked += 1;
            let id = encoding::job_id(row, 0)?;
            page.next = Some(id);
            if self.find.passes_id(id) && self.may_pass(row)? {
                page.jobs.extend(read::job(connection, id)?.filter(|job| self.find.passes(job)));
            }
        }
        Ok(if seen < CHUNK { Seen::All } else { Seen::Some })
    }

    /// Whether the job of a row is to be read: what the row says of it passes.
    fn may_pass(&self, row: &Row<'_>) -> rusqlite::Result<bool> {
        let (find, state) = (self.find, encoding::state_kind(row, 2)?);
        if !self.lanes.contains(&row.get(1)?) || !find.passes_state(state) || !self.passes_times(row)? {
            return Ok(false);
        }
        if find.error.is_some() && !find.passes_error(&State::Dead { error: row.get(5)? }) {
            return Ok(false);
        }
        // Large arguments stand apart, and are not known yet.
        let args = row.get_ref(6)?.as_str_or_null()?;
        Ok(args.is_none_or(|args| find.passes_args(args)))
    }

    fn passes_times(&self, row: &Row<'_>) -> rusqlite::Result<bool> {
        let Find { after, before, ended_after, ended_before, .. } = self.find;
        if [after, before, ended_after, ended_before] == [&None; 4] {
            return Ok(true);
        }
        let enqueued = encoding::time(row.get(3)?);
        let ended = row.get::<_, Option<i64>>(4)?.map(encoding::time);
        Ok(after.is_none_or(|after| enqueued >= after)
            && before.is_none_or(|before| enqueued < before)
            && ended_after.is_none_or(|after| ended.is_some_and(|ended| ended >= after))
            && ended_before.is_none_or(|before| ended.is_some_and(|ended| ended < before)))
    }
}
