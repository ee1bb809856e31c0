//! How a worker stands on the server: what it holds, and whether it lives.

use super::bytes::{Read, Unread};
use crate::{
    model::job::{JobId, Lease, WorkerId},
    store::{Presence, redis::error::Fault},
};

/// What is kept in place of its beat of a worker that has left and holds leases.
const LEFT: &str = "left";

/// A lease as it stands with its worker: the job and the attempt.
pub(crate) fn lease(job: JobId, attempt: u32) -> Vec<u8> {
    [&job.to_bytes()[..], &attempt.to_be_bytes()].concat()
}

pub(crate) fn read_lease(bytes: &[u8], worker: WorkerId) -> Read<Lease> {
    let mut left = Unread(bytes);
    Ok(Lease { job: JobId::from_bytes(left.take()?), attempt: left.u32()?, worker })
}

/// The beat of a worker as it is kept.
pub(crate) fn beat(beat: Option<u64>) -> String {
    beat.map(|beat| beat.to_string()).unwrap_or_default()
}

/// What can be seen of a worker, by what is kept of it.
pub(crate) fn presence(worker: &[u8], beat: &str, holds: bool) -> Read<Presence> {
    let number = match beat {
        "" | LEFT => None,
        number => Some(number.parse().map_err(|_| Fault::Unreadable)?),
    };
    Ok(Presence { worker: WorkerId::from_bytes(Unread(worker).take()?), beat: number, holds, gone: beat == LEFT })
}
