//! How jobs come to their next state.

use std::{collections::HashSet, sync::Arc};

use super::record::written;
use crate::store::{
    Changes, Settlement, Written,
    redis::{batcher::Batcher, encoding, error::Fault},
};

pub(crate) async fn settle(batcher: &Arc<Batcher>, settlements: &[Settlement]) -> Result<Vec<Written>, Fault> {
    let link = &batcher.link;
    let mut call = link.call(|scripts| &scripts.settle);
    for group in groups(settlements) {
        let destination = encoding::destination(&group[0]);
        call.arg(encoding::hold(&group[0])).arg(destination).arg(encoding::time_of(&group[0])).arg(group.len());
        for settlement in group {
            call.arg(encoding::lease(settlement.job(), settlement.hold.attempt()));
            call.arg(encoding::settled(settlement));
            if !settlement.outcome.next.is_ended() {
                call.arg(settlement.attempt.as_ref().map(encoding::attempt).unwrap_or_default());
            }
        }
    }
    let written = written(batcher.ask(call).await?)?.ok_or(Fault::Unreadable)?;
    let settled = settlements.iter().zip(&written).filter(|(_, written)| **written == Written::Yes);
    link.notifier.notify(&Changes::settled(settled.map(|(settlement, _)| settlement)));
    Ok(written)
}

/// The settlements in their order, cut into groups. Those of a group have the same hold, destination and time, and no two of
/// them are for one job.
fn groups(settlements: &[Settlement]) -> Vec<&[Settlement]> {
    let common = |one: &Settlement| (encoding::hold(one), encoding::destination(one), encoding::time_of(one));
    let mut jobs = HashSet::new();
    settlements
        .chunk_by(|one, next| {
            jobs.insert(one.job());
            let together = common(one) == common(next) && !jobs.contains(&next.job());
            if !together {
                jobs.clear();
            }
            together
        })
        .collect()
}
