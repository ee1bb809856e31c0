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

/// A step: whether it was skipped, the hash, the reply.
pub(crate) fn step(step: &Step) -> Vec<u8> {
    let reply = &step.reply;
    [&[u8::from(reply.is_skipped())][..], &step.hash.to_be_bytes(), reply.as_str().as_bytes()].concat()
}

/// Whether a step was skipped.
pub(crate) fn is_skipped(step: &[u8]) -> bool {
    step.first() == Some(&1)
}

/// The step of number `seq`.
pub(crate) fn read_step(seq: u64, bytes: &[u8]) -> Read<Step> {
    let mut left = Unread(bytes);
    let (skipped, hash, text) = (left.u8()?, left.u64()?, left.rest()?);
    let reply = if skipped == 1 { Reply::Skipped(text.to_owned()) } else { Reply::Value(Json::from_stored(text)) };
    Ok(Step { seq, hash, reply })
}

/// A memo: its number, which use of the name, the length of the name, the name, the value.
pub(crate) fn memo(memo: &Memo) -> Vec<u8> {
    let numbers = [memo.number.to_be_bytes(), memo.nth.to_be_bytes()].concat();
    [&numbers, &length(memo.name.len())[..], memo.name.as_bytes(), memo.value.as_str().as_bytes()].concat()
}

/// A memo for `step`, or for the body.
pub(crate) fn read_memo(step: Option<u64>, bytes: &[u8]) -> Read<Memo> {
    let mut left = Unread(bytes);
    let (number, nth, length) = (left.u64()?, left.u64()?, left.u32()?);
    let name = left.text(length)?.to_owned();
    Ok(Memo { number, step, name, nth, value: Json::from_stored(left.rest()?) })
}

/// An attempt that has ended: its number, the worker, when it was started and ended, why, and the text of that.
pub(crate) fn attempt(attempt: &Attempt) -> Vec<u8> {
    let (code, text) = ending(&attempt.ending);
    let mut bytes = attempt.number.to_be_bytes().to_vec();
    bytes.extend(attempt.worker.to_bytes());
    bytes.extend(attempt.started.map_or(UNKNOWN, millis).to_be_bytes());
    bytes.extend(millis(attempt.ended).to_be_bytes());
    bytes.push(code);
    bytes.extend(text.unwrap_or_default().as_bytes());
    bytes
}

pub(crate) fn read_attempt(bytes: &[u8]) -> Read<Attempt> {
    let mut left = Unread(bytes);
    let (number, worker) = (left.u32()?, WorkerId::from_bytes(left.take()?));
    let (started, ended) = (left.i64()?, time(left.i64()?));
    let ending = read_ending(left.u8()?, || left.rest().map(str::to_owned))?.ok_or(Fault::Unreadable)?;
    Ok(Attempt { number, worker, started: (started != UNKNOWN).then(|| time(started)), ended, ending })
}
