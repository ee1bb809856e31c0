//! How jobs are found that have expired.

use jiff::Timestamp;
use redis::Value;

use crate::store::{
    Expired,
    redis::{connection::Link, encoding, error::Fault},
};

pub(crate) async fn expired(link: &Link, now: Timestamp, limit: usize) -> Result<Expired, Fault> {
    let mut call = link.call(|scripts| &scripts.expired);
    call.arg(encoding::millis(now)).arg(limit);
    let (looked, values): (usize, Vec<Value>) = link.ask(&call).await?;
    Ok(Expired { jobs: encoding::jobs(&values, encoding::job)?, more: looked == limit })
}
