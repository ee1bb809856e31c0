//! How steps, memos and attempts stand on the server.

use super::{
    bytes::{Read, Unread, length},
    codes::UNKNOWN,
};
use crate::{
    model::{
        job::{Attempt, Memo, Reply, Step, WorkerId},
        json::Json,
    },
    store::{
        codec::{ending, millis, read_ending, time},
        redis::error::Fault,
    },
};

/// A step as bytes: whether it was skipped, the hash, the reply.
pub(crate) fn step(step: &Step) -> Vec<u8> {
    let reply = &step.reply;
    [&[u8::from(reply.is_skipped())][..], &step.hash.to_be_bytes(), reply.as_str().as_bytes()].concat()
}

/// Whether a step was skipped.
pub(crate) fn is_skipped(step: &[u8]) -> bool {
    step.first() == Some(&1)
}

/// Reads the step of number `seq`.
pub(crate) fn read_step(seq: u64, bytes: &[u8]) -> Read<Step> {
    let mut unread = Unread(bytes);
    let (skipped, hash, text) = (unread.u8()?, unread.u64()?, unread.rest()?);
    let reply = if skipped == 1 { Reply::Skipped(text.to_owned()) } else { Reply::Value(Json::from_stored(text)) };
    Ok(Step { seq, hash, reply })
}

/// A memo as bytes: its number, which use of the name it is, the length of the name, the name, the value.
pub(crate) fn memo(memo: &Memo) -> Vec<u8> {
    let numbers = [memo.number.to_be_bytes(), memo.nth.to_be_bytes()].concat();
    [&numbers, &length(memo.name.len())[..], memo.name.as_bytes(), memo.value.as_str().as_bytes()].concat()
}

/// Reads a memo that is for `step`, or for the body.
pub(crate) fn read_memo(step: Option<u64>, bytes: &[u8]) -> Read<Memo> {
    let mut unread = Unread(bytes);
    let (number, nth, length) = (unread.u64()?, unread.u64()?, unread.u32()?);
    let name = unread.text(length)?.to_owned();
    Ok(Memo { number, step, name, nth, value: Json::from_stored(unread.rest()?) })
}

/// An attempt that has ended, as bytes: its number, the worker, when it was started and ended, why, and the text of that.
pub(crate) fn attempt(attempt: &Attempt) -> Vec<u8> {
    let (code, text) = ending(&attempt.ending);
    let mut bytes = Vec::with_capacity(37 + text.map_or(0, str::len));
    bytes.extend(attempt.number.to_be_bytes());
    bytes.extend(attempt.worker.to_bytes());
    bytes.extend(attempt.started.map_or(UNKNOWN, millis).to_be_bytes());
    bytes.extend(millis(attempt.ended).to_be_bytes());
    bytes.push(code);
    bytes.extend(text.unwrap_or_default().as_bytes());
    bytes
}

/// The flag in the number of an ending that steps stand at the end.
const WITH_STEPS: u8 = 128;

/// Reads an attempt, with the steps that there were, if the server has added them at its end.
pub(crate) fn read_attempt(bytes: &[u8]) -> Read<Attempt> {
    let has_steps = bytes.get(36).is_some_and(|ending| ending & WITH_STEPS != 0);
    let (bytes, steps) = if has_steps {
        let (bytes, steps) = bytes.split_last_chunk().ok_or(Fault::Unreadable)?;
        (bytes, Some(u64::from_be_bytes(*steps)))
    } else {
        (bytes, None)
    };
    let mut unread = Unread(bytes);
    let (number, worker) = (unread.u32()?, WorkerId::from_bytes(unread.take()?));
    let (started, ended) = (unread.i64()?, time(unread.i64()?));
    let ending =
        read_ending(unread.u8()? & !WITH_STEPS, || unread.rest().map(str::to_owned))?.ok_or(Fault::Unreadable)?;
    Ok(Attempt { number, worker, started: (started != UNKNOWN).then(|| time(started)), ended, ending, steps })
}
