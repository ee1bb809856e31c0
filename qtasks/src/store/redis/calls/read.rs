//! How jobs are read. Lists that may be long are read page by page.

use jiff::Timestamp;
use redis::{Cmd, Value, cmd};

use crate::{
    model::{
        job::{Attempt, Counts, Job, JobId, Memo, Standing, Step},
        unique::{Holder, HolderState},
    },
    store::{
        Lane,
        redis::{
            connection::Link,
            encoding::{self, Parts},
            error::Fault,
        },
    },
};

type Read<T> = Result<T, Fault>;

/// How many values the first page has.
const FIRST: usize = 100;
/// The most values that a page has.
const LARGEST: usize = 10_000;
/// About how many bytes a page has.
const BYTES: usize = 1 << 20;

pub(crate) async fn job(link: &Link, id: JobId) -> Read<Option<Job>> {
    let mut command = cmd("MGET");
    ["j", "p", "c"].iter().for_each(|kind| _ = command.arg(link.key(kind, id)));
    let parts: [Value; 3] = link.ask(&command).await?;
    Parts::of(parts.each_ref())?.map(|parts| encoding::job(id, &parts)).transpose()
}

/// Reads how a job stands without its arguments. For a job that has been leased or cancelled that is a value of its own; before
/// that, and as to when it was due first, the first bytes of the job say it.
pub(crate) async fn standing(link: &Link, id: JobId) -> Read<Option<(Standing, Counts)>> {
    let mut command = cmd("MGET");
    ["p", "c"].iter().for_each(|kind| _ = command.arg(link.key(kind, id)));
    let mut of_job = link.command("GETRANGE", "j", id);
    of_job.arg(0).arg(encoding::UP_TO_DUE - 1);
    let ([standing, counts], job): ([Value; 2], Value) = tokio::try_join!(link.ask(&command), link.ask(&of_job))?;
    // The server gives an empty text for a key that is not there.
    if job == Value::BulkString(Vec::new()) {
        return Ok(None);
    }
    Parts::of([&job, &standing, &counts])?.map(|parts| encoding::standing(&parts)).transpose()
}

/// The job that has taken a key last.
pub(crate) async fn holder(link: &Link, task: &str, key: &str) -> Read<Option<Holder>> {
    let name = format!("{task} {key}");
    let taken: Option<Vec<u8>> = link.ask(cmd("HGET").arg(link.key_of_keys()).arg(name)).await?;
    let Some(taken) = taken else { return Ok(None) };
    let (id, until) = taken.split_last_chunk().ok_or(Fault::Unreadable)?;
    let (id, until) = (encoding::job_id(id)?, i64::from_be_bytes(*until));
    let there = job(link, id).await?.map(|job| HolderState {
        state: job.standing.state.kind(),
        attempt: job.standing.attempt,
        enqueued: job.call.enqueued,
    });
    Ok(Some(Holder { job: id, until: (until > 0).then(|| encoding::time(until)), there }))
}

pub(crate) async fn due_lanes(link: &Link, now: Timestamp) -> Read<Vec<Lane>> {
    let mut call = link.call(|scripts| &scripts.due_lanes);
    call.arg(encoding::millis(now));
    let lanes: Vec<String> = link.ask(&call).await?;
    lanes.iter().map(|lane| encoding::read_lane(lane)).collect()
}

pub(crate) async fn steps(link: &Link, id: JobId, from: u64, limit: usize) -> Read<Vec<Step>> {
    let page = |from: usize, count: usize| {
        let mut command = link.command("LRANGE", "s", id);
        command.arg(from).arg(from.saturating_add(count - 1).min(i64::MAX as usize));
        command
    };
    // No list is as long as that.
    let Some(from) = usize::try_from(from).ok().filter(|from| i64::try_from(*from).is_ok()) else {
        return Ok(Vec::new());
    };
    let bytes = in_pages(link, from, limit, page).await?;
    (from as u64..).zip(bytes).map(|(seq, bytes)| encoding::read_step(seq, &bytes)).collect()
}

/// Reads up to `limit` values from index `from` on, with the commands that `page` gives for an index and a number of values.
async fn in_pages(link: &Link, from: usize, limit: usize, page: impl Fn(usize, usize) -> Cmd) -> Read<Vec<Vec<u8>>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut size = FIRST;
    while all.len() < limit {
        let count = size.min(limit - all.len());
        let some: Vec<Vec<u8>> = link.ask(&page(from.saturating_add(all.len()), count)).await?;
        let (found, bytes) = (some.len(), some.iter().map(Vec::len).sum::<usize>());
        all.extend(some);
        if found < count {
            break;
        }
        size = (BYTES * found / bytes.max(1)).clamp(1, LARGEST);
    }
    Ok(all)
}

pub(crate) async fn last_step(link: &Link, id: JobId) -> Read<Option<Step>> {
    let (mut end, mut count) = (link.ask::<u64>(&link.command("LLEN", "s", id)).await?, 1);
    while end > 0 {
        let start = end.saturating_sub(count);
        let mut command = link.command("LRANGE", "s", id);
        command.arg(start).arg(end - 1);
        let some: Vec<Vec<u8>> = link.ask(&command).await?;
        if let Some(index) = some.iter().rposition(|step| !encoding::is_skipped(step)) {
            return encoding::read_step(start + index as u64, &some[index]).map(Some);
        }
        end = start;
        count = (count * 4).min(FIRST as u64);
    }
    Ok(None)
}

pub(crate) async fn memos(link: &Link, id: JobId, step: Option<u64>, from: u64, limit: usize) -> Read<Vec<Memo>> {
    let Some(seq) = step else {
        let page = |offset: usize, count: usize| {
            let mut command = link.command("ZRANGEBYSCORE", "m", id);
            command.arg(from).arg("+inf").arg("LIMIT").arg(offset).arg(count.min(i64::MAX as usize));
            command
        };
        let bytes = in_pages(link, 0, limit, page).await?;
        return bytes.iter().map(|bytes| encoding::read_memo(None, bytes)).collect();
    };
    let mut command = link.command("ZRANGEBYSCORE", "n", id);
    command.arg(seq).arg(seq);
    // These are the memos of one call of a handler, which are few.
    let bytes: Vec<Vec<u8>> = link.ask(&command).await?;
    let memos = bytes.iter().map(|bytes| encoding::read_memo(step, bytes));
    memos.filter(|memo| memo.as_ref().is_ok_and(|memo| memo.number >= from) || memo.is_err()).take(limit).collect()
}

pub(crate) async fn attempts(link: &Link, id: JobId) -> Read<Vec<Attempt>> {
    let mut call = link.call(|scripts| &scripts.attempts);
    call.arg(&id.to_bytes());
    let bytes: Vec<Vec<u8>> = link.ask(&call).await?;
    bytes.iter().map(|bytes| encoding::read_attempt(bytes)).collect()
}
