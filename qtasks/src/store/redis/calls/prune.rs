//! How old jobs are deleted.

use jiff::Timestamp;

use crate::store::redis::{connection::Link, encoding, error::Fault};

/// The most jobs that one script deletes.
const DELETED_AT_ONCE: usize = 500;

pub(crate) async fn prune(link: &Link, finished: Timestamp, dead: Timestamp, limit: usize) -> Result<usize, Fault> {
    let mut deleted = 0;
    loop {
        let some = (limit - deleted).min(DELETED_AT_ONCE);
        let mut call = link.call(|scripts| &scripts.prune);
        call.arg(encoding::millis(finished)).arg(encoding::millis(dead)).arg(some);
        let (looked, count): (usize, usize) = link.ask(&call).await?;
        deleted += count;
        if looked < some || deleted == limit {
            return Ok(deleted);
        }
    }
}
