//! How jobs with keys are enqueued.

use std::sync::Arc;

use redis::Cmd;

use super::enqueue::Batch;
use crate::{
    error::{Error, Result},
    model::{
        job::{AfterFailure, JobId, NewJob},
        unique::Duplicate,
    },
    store::{
        Changes, Joined,
        redis::{batcher::Batcher, encoding, error::Fault},
        refusal::Earlier,
    },
};

/// Adds the keys of jobs to a call.
pub(crate) fn add_keys(call: &mut Cmd, jobs: &[NewJob], may_be_refused: bool) {
    let keyed = || jobs.iter().filter_map(|new| Some((new, new.keyed()?)));
    call.arg(keyed().count());
    for (new, ((task, key), unique)) in keyed() {
        let on_duplicate = match unique.on_duplicate {
            Duplicate::Refuse if may_be_refused => "refuse",
            Duplicate::Replace => "replace",
            Duplicate::Refuse | Duplicate::Join => "join",
        };
        let replaces = unique.on_duplicate == Duplicate::Replace;
        call.arg(&new.call.id.to_bytes()).arg(format!("{task} {key}")).arg(on_duplicate);
        call.arg(unique.until.map_or(0, encoding::millis)).arg(encoding::millis(new.call.enqueued));
        call.arg(encoding::millis(new.due));
        call.arg(unique.put_off.map(|most| encoding::limit_millis(most).to_string()).unwrap_or_default());
        call.arg(if replaces { encoding::replacing_job(new) } else { Vec::new() });
    }
}

/// Adds the jobs to a call that come after others.
fn add_after(call: &mut Cmd, jobs: &[NewJob]) {
    call.arg(jobs.iter().filter(|new| new.call.after.is_some()).count());
    let mut earlier = Earlier::default();
    for new in jobs {
        if let Some(after) = &new.call.after {
            call.arg(&new.call.id.to_bytes()).arg(encoding::millis(new.due)).arg(encoding::millis(new.call.enqueued));
            call.arg(if after.on_failure == AfterFailure::Run { "1" } else { "" });
            call.arg(bytes_of(&earlier.not_among(new))).arg(bytes_of(&after.jobs));
        }
        earlier.add(new);
    }
}

fn bytes_of(ids: &[JobId]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_bytes()).collect()
}

/// Enqueues jobs of which some have keys or come after others.
pub(crate) async fn enqueue(batcher: &Arc<Batcher>, jobs: &[NewJob]) -> Result<Result<Vec<Joined>>, Fault> {
    let link = &batcher.link;
    let mut call = link.call(|scripts| &scripts.claim);
    add_after(&mut call, jobs);
    add_keys(&mut call, jobs, true);
    Batch::of(jobs).add_to(&mut call, link);
    let answer: Vec<Vec<u8>> = batcher.ask(call).await?;
    if let [job, parent, _, _] = &answer[..]
        && answer[3].is_empty()
    {
        let (job, parent) = (encoding::job_id(job)?, encoding::job_id(parent)?);
        let refused = jobs.iter().find(|new| new.call.id == job).ok_or(Fault::Unreadable)?;
        return Ok(Err(Error::no_parent(refused, parent)));
    }
    if let [job, holder, _] = &answer[..] {
        let (job, holder) = (encoding::job_id(job)?, encoding::job_id(holder)?);
        let refused = jobs.iter().find(|new| new.call.id == job).ok_or(Fault::Unreadable)?;
        return Ok(Err(Error::duplicate(refused, holder)));
    }
    let joined =
        |pair: &[Vec<u8>]| Ok(Joined { job: encoding::job_id(&pair[0])?, holder: encoding::job_id(&pair[1])? });
    let joined = answer.chunks_exact(2).map(joined).collect::<Result<Vec<_>, Fault>>()?;
    link.notifier.notify(&Changes::enqueued());
    joined.iter().for_each(|joined| link.notifier.notify(&Changes::placed(joined.holder)));
    Ok(Ok(joined))
}
