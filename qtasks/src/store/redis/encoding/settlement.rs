//! Settlements as the script takes them.

use super::{
    bytes::length,
    codes::{CANCELLED, DEAD, DONE, SUSPECT, UNKNOWN, VALUE, WAITING, state_code},
    history::attempt,
    worker::beat,
};
use crate::{
    model::job::{Lease, NextState, Output, Suspect},
    store::{Hold, Settlement, codec::millis},
};

/// The condition of a settlement: a letter for its kind, and what belongs to it.
pub(crate) fn hold(Settlement { hold, steps, .. }: &Settlement) -> Vec<u8> {
    let mut bytes = match hold {
        Hold::Lease(Lease { worker, .. }) => [b"L", &worker.to_bytes()[..]].concat(),
        Hold::Silent { lease: Lease { worker, .. }, beat: seen } => {
            // Padded to the width of the largest beat.
            let seen = format!("{:>20}", beat(*seen));
            [b"B", &worker.to_bytes()[..], seen.as_bytes()].concat()
        }
        Hold::Seen { state, .. } => vec![b'S', state_code(*state)],
    };
    bytes.extend(steps.iter().flat_map(|steps| steps.to_be_bytes()));
    bytes
}

/// What the key begins with under which a job stands after a settlement.
pub(crate) fn destination(settlement: &Settlement) -> &'static str {
    match settlement.outcome.next {
        NextState::Waiting { due } if millis(due) > millis(settlement.now) => "later:",
        NextState::Waiting { .. } if settlement.outcome.suspect.is_some() => "suspects:",
        NextState::Waiting { .. } => "ready:",
        NextState::Dead { .. } => "dead",
        NextState::Done { .. } | NextState::Cancelled { .. } => "finished",
    }
}

/// The time at which a settlement says that a job is due, or has ended.
pub(crate) fn time_of(settlement: &Settlement) -> i64 {
    match settlement.outcome.next {
        NextState::Waiting { due } => millis(due),
        _ => millis(settlement.now),
    }
}

/// How a job stands after a settlement.
pub(crate) fn settled(settlement: &Settlement) -> Vec<u8> {
    let (state, shape, outcome) = match &settlement.outcome.next {
        NextState::Waiting { .. } => (WAITING, VALUE, ""),
        NextState::Done { output: Output::Value(value) } => (DONE, VALUE, value.as_str()),
        NextState::Done { output: Output::Steps(shape) } => (DONE, *shape as u8, ""),
        NextState::Dead { error } => (DEAD, VALUE, error.as_str()),
        NextState::Cancelled { reason } => (CANCELLED, VALUE, reason.as_str()),
    };
    let last =
        settlement.attempt.as_ref().filter(|_| settlement.outcome.next.is_ended()).map(attempt).unwrap_or_default();
    let mut bytes = Vec::with_capacity(39 + last.len() + outcome.len());
    bytes.extend([state, if settlement.outcome.suspect.is_some() { SUSPECT } else { 0 }]);
    bytes.extend(settlement.hold.attempt().to_be_bytes());
    bytes.extend([0; 16]);
    bytes.extend(settlement.outcome.failures.to_be_bytes());
    bytes.extend(time_of(settlement).to_be_bytes());
    bytes.push(shape);
    bytes.extend(length(last.len()));
    if let Some(Suspect { survived, losses, .. }) = settlement.outcome.suspect {
        bytes.extend(u64::try_from(survived.as_millis()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend(losses.to_be_bytes());
        bytes.extend(UNKNOWN.to_be_bytes());
    }
    bytes.extend(last);
    bytes.extend(outcome.as_bytes());
    bytes
}
