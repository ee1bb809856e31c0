//! How jobs come to their next state.

use std::{collections::HashSet, sync::Arc};

use redis::{Cmd, Value};

use super::record::written;
use crate::store::{
    Changes, Hold, Settlement, Written,
    redis::{batcher::Batcher, connection::Link, encoding, error::Fault},
};

pub(crate) async fn settle(
    batcher: &Arc<Batcher>,
    call: Cmd,
    settlements: &[Settlement],
) -> Result<Vec<Written>, Fault> {
    let link = &batcher.link;
    let written = match batcher.ask(call).await? {
        Value::Int(1) => vec![Written::Yes; settlements.len()],
        Value::Array(both) if matches!(&both[..], [_, Value::Array(_)]) => {
            // Before this process may think that nothing is left to do: what the server sends comes later.
            link.notifier.notify_work();
            written(both.into_iter().nth(1).unwrap_or(Value::Nil))?.ok_or(Fault::Unreadable)?
        }
        answer => written(answer)?.ok_or(Fault::Unreadable)?,
    };
    let settled = settlements.iter().zip(&written).filter(|(_, written)| **written == Written::Yes);
    link.notifier.notify(&Changes::settled(settled.map(|(settlement, _)| settlement)));
    Ok(written)
}

/// The call that settles the jobs.
pub(crate) fn call(settlements: &[Settlement], link: &Link) -> Cmd {
    let mut call = link.call(|scripts| &scripts.settle);
    for group in groups(settlements) {
        let destination = encoding::destination(&group[0]);
        call.arg(encoding::hold(&group[0])).arg(destination).arg(encoding::time_of(&group[0])).arg(group.len());
        add(&mut call, group, link);
    }
    call
}

/// Adds the settlements of a group to a call, in columns: the script hands most of them on to commands as they stand.
fn add(call: &mut Cmd, group: &[Settlement], link: &Link) {
    call.arg(group.iter().flat_map(|settlement| settlement.job().to_bytes()).collect::<Vec<_>>());
    for settlement in group {
        call.arg(&encoding::lease(settlement.job(), settlement.hold.attempt()));
    }
    for settlement in group {
        call.arg(link.key("p", settlement.job())).arg(encoding::settled(settlement));
    }
    for settlement in group.iter().filter(|settlement| !settlement.outcome.next.is_ended()) {
        call.arg(settlement.attempt.as_ref().map(encoding::attempt).unwrap_or_default());
    }
}

/// The settlements in their order, cut into groups. Those of a group have the same hold, state, destination and time, and no two
/// of them are for one job.
fn groups(settlements: &[Settlement]) -> Vec<&[Settlement]> {
    let mut jobs = HashSet::new();
    settlements
        .chunk_by(|one, next| {
            jobs.insert(one.job());
            let together = are_alike(one, next) && !jobs.contains(&next.job());
            if !together {
                jobs.clear();
            }
            together
        })
        .collect()
}

fn are_alike(one: &Settlement, other: &Settlement) -> bool {
    let hold = match (one.hold, other.hold) {
        (Hold::Lease(one), Hold::Lease(other)) => one.worker == other.worker,
        (Hold::Silent { lease: one, beat }, Hold::Silent { lease: other, beat: seen }) => {
            one.worker == other.worker && beat == seen
        }
        (Hold::Seen { state: one, .. }, Hold::Seen { state: other, .. }) => one == other,
        _ => false,
    };
    let common = |one: &Settlement| (one.outcome.next.kind(), encoding::destination(one), encoding::time_of(one));
    hold && one.steps == other.steps && common(one) == common(other)
}
