//! What a settlement asks for and writes.

use super::{
    bytes::length,
    codes::{CANCELLED, DEAD, DONE, SHAPES, SUSPECT, UNKNOWN, VALUE, WAITING, state_code},
    history::attempt,
    worker::beat,
};
use crate::{
    model::job::{Lease, Output, Shape, State, Suspect},
    store::{Hold, Settlement, codec::millis},
};

/// What must hold for a settlement: a letter for the kind, and what else there is.
pub(crate) fn hold(Settlement { hold, steps, .. }: &Settlement) -> Vec<u8> {
    let mut bytes = match hold {
        Hold::Lease(Lease { worker, .. }) => [b"L", &worker.to_bytes()[..]].concat(),
        Hold::Silent { lease: Lease { worker, .. }, beat: seen } => {
            // As wide as the largest one.
            let seen = format!("{:>20}", beat(*seen));
            [b"B", &worker.to_bytes()[..], seen.as_bytes()].concat()
        }
        Hold::Seen { state, .. } => vec![b'S', state_code(state)],
    };
    bytes.extend(steps.iter().flat_map(|steps| steps.to_be_bytes()));
    bytes
}

/// The attempt that a settlement is for.
pub(crate) fn attempt_of(hold: &Hold) -> u32 {
    match hold {
        Hold::Lease(lease) | Hold::Silent { lease, .. } => lease.attempt,
        Hold::Seen { attempt, .. } => *attempt,
    }
}

/// Where a job goes by a settlement.
pub(crate) fn place(settlement: &Settlement) -> &'static str {
    match settlement.next {
        State::Waiting { due } if millis(due) > millis(settlement.now) => "later:",
        State::Waiting { .. } if settlement.suspect.is_some() => "suspects:",
        State::Waiting { .. } | State::Running { .. } => "ready:",
        State::Dead { .. } => "dead",
        State::Done { .. } | State::Cancelled { .. } => "finished",
    }
}

/// When a job is due by a settlement, or else has ended.
pub(crate) fn time_of(settlement: &Settlement) -> i64 {
    match settlement.next {
        State::Waiting { due } => millis(due),
        _ => millis(settlement.now),
    }
}

/// How a job stands after a settlement.
pub(crate) fn standing(settlement: &Settlement) -> Vec<u8> {
    let (state, shape, outcome) = match &settlement.next {
        State::Waiting { .. } | State::Running { .. } => (WAITING, VALUE, ""),
        State::Done { output: Output::Value(value) } => (DONE, VALUE, value.as_str()),
        State::Done { output: Output::Steps(shape) } => (DONE, place_of(*shape), ""),
        State::Dead { error } => (DEAD, VALUE, error.as_str()),
        State::Cancelled { reason } => (CANCELLED, VALUE, reason.as_str()),
    };
    let last = settlement.attempt.as_ref().filter(|_| settlement.next.is_ended()).map(attempt).unwrap_or_default();
    let mut bytes = Vec::with_capacity(39 + last.len() + outcome.len());
    bytes.extend([state, if settlement.suspect.is_some() { SUSPECT } else { 0 }]);
    bytes.extend(attempt_of(&settlement.hold).to_be_bytes());
    bytes.extend([0; 16]);
    bytes.extend(settlement.failures.to_be_bytes());
    bytes.extend(time_of(settlement).to_be_bytes());
    bytes.push(shape);
    bytes.extend(length(last.len()));
    if let Some(Suspect { survived, losses, .. }) = settlement.suspect {
        bytes.extend(u64::try_from(survived.as_millis()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend(losses.to_be_bytes());
        bytes.extend(UNKNOWN.to_be_bytes());
    }
    bytes.extend(last);
    bytes.extend(outcome.as_bytes());
    bytes
}

fn place_of(shape: Shape) -> u8 {
    SHAPES.iter().position(|other| *other == shape).and_then(|place| place.try_into().ok()).unwrap_or(VALUE)
}
