//! How many jobs each lane has.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    model::job::StateKind,
    store::{
        JobCounts, LaneCounts,
        redis::{connection::Link, encoding, error::Fault},
    },
};

/// Names, each with a number.
type Numbers = Vec<(String, i64)>;

pub(crate) async fn counts(link: &Link, now: Timestamp) -> Result<Vec<LaneCounts>, Fault> {
    let mut call = link.call(|scripts| &scripts.counts);
    call.arg(encoding::millis(now));
    let [counts, next_in_line]: [Numbers; 2] = link.ask(&call).await?;
    let mut lanes = BTreeMap::<_, JobCounts>::new();
    for (field, jobs) in &counts {
        let (state, lane) = state_and_lane(field).ok_or(Fault::Unreadable)?;
        *lanes.entry(lane).or_default().of_mut(state) = u64::try_from(*jobs).unwrap_or(0);
    }
    let next_in_line: HashMap<_, _> = next_in_line.iter().map(|(lane, due)| (&lane[..], *due)).collect();
    let each = lanes.into_iter().map(|(name, jobs)| {
        let oldest_due = next_in_line.get(name).map(|due| encoding::time(*due));
        Ok(LaneCounts { lane: encoding::read_lane(name)?, jobs, oldest_due })
    });
    each.collect()
}

/// What a field of the counts is for: the number of a state, and the name of a lane.
fn state_and_lane(field: &str) -> Option<(StateKind, &str)> {
    let (code, lane) = field.split_at_checked(1)?;
    let code = code.parse().ok()?;
    Some((encoding::state_of_code(code)?, lane))
}

/// How long counting all jobs anew may take. The server does it in one go, some seconds for each million, so that nothing changes
/// meanwhile.
const RECOUNT: Duration = Duration::from_secs(600);

pub(crate) async fn recount(link: &Link) -> Result<usize, Fault> {
    let patient = link.patient(RECOUNT);
    patient.ask(&patient.call(|scripts| &scripts.recount)).await
}
