//! How a worker stands on the server: its leases, and its beat.

use super::bytes::{Read, Unread};
use crate::{
    model::job::{JobId, Lease, WorkerId},
    store::{Presence, redis::error::Fault},
};

/// Stands in place of the beat of a worker that has left and still holds leases.
const LEFT: &str = "left";

/// A lease as it stands with its worker: the job and the attempt.
pub(crate) fn lease(job: JobId, attempt: u32) -> [u8; 20] {
    let mut lease = [0; 20];
    lease[..16].copy_from_slice(&job.to_bytes());
    lease[16..].copy_from_slice(&attempt.to_be_bytes());
    lease
}

pub(crate) fn read_lease(bytes: &[u8], worker: WorkerId) -> Read<Lease> {
    let mut unread = Unread(bytes);
    Ok(Lease { job: JobId::from_bytes(unread.take()?), attempt: unread.u32()?, worker })
}

/// The beat of a worker as it is kept.
pub(crate) fn beat(beat: Option<u64>) -> String {
    beat.map(|beat| beat.to_string()).unwrap_or_default()
}

/// The presence of a worker, as the server keeps it.
pub(crate) fn presence(worker: &[u8], beat: &str, holds: bool) -> Read<Presence> {
    let number = match beat {
        "" | LEFT => None,
        number => Some(number.parse().map_err(|_| Fault::Unreadable)?),
    };
    Ok(Presence { worker: WorkerId::from_bytes(Unread(worker).take()?), beat: number, holds, gone: beat == LEFT })
}
