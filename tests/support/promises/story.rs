//! What happened to one job.

use std::collections::BTreeMap;

use qtasks::job::WorkerId;
use serde_json::Value;

use super::Event;

/// What happened to one job; each thing with its place among the events.
#[derive(Default)]
pub(super) struct Story {
    pub(super) enqueued: bool,
    pub(super) leases: Vec<(usize, u32, WorkerId)>,
    pub(super) calls: Vec<Call>,
    pub(super) returned: usize,
    /// Since when each step is known to be durable.
    pub(super) durable: BTreeMap<u64, usize>,
    /// Writes of steps, by the attempts that made them.
    pub(super) writes: Vec<(usize, u64, u32)>,
    pub(super) settled: Vec<(usize, Option<u32>, String)>,
    pub(super) cancelled: Vec<usize>,
    pub(super) refused: Vec<(usize, String)>,
    pub(super) retried: Vec<usize>,
    pub(super) results: Vec<Value>,
}

pub(super) struct Call {
    pub(super) at: usize,
    pub(super) seq: u64,
    pub(super) attempt: u32,
    pub(super) value: Value,
}

impl Story {
    pub(super) fn add(&mut self, at: usize, event: &Event) {
        match event {
            Event::Enqueued { .. } => self.enqueued = true,
            Event::Leased { attempt, worker, .. } => self.leases.push((at, *attempt, *worker)),
            Event::Begun { seq, attempt, value, .. } => {
                self.calls.push(Call { at, seq: *seq, attempt: *attempt, value: value.clone() });
            }
            Event::Returned { .. } => self.returned += 1,
            Event::Durable { seq, attempt, .. } => {
                self.durable.entry(*seq).or_insert(at);
                self.writes.extend(attempt.map(|attempt| (at, *seq, attempt)));
            }
            Event::Settled { attempt, state, .. } => self.settled.push((at, *attempt, state.clone())),
            Event::Cancelled { .. } => self.cancelled.push(at),
            Event::CancelRefused { state, .. } => self.refused.push((at, state.clone())),
            Event::Retried { .. } => self.retried.push(at),
            Event::Result { result, .. } => self.results.push(result.clone()),
            _ => {}
        }
    }

    /// Where an attempt begins.
    pub(super) fn beginning(&self, attempt: u32) -> usize {
        let leased = self.leases.iter().find(|lease| lease.1 == attempt).map(|lease| lease.0);
        let called = || self.calls.iter().find(|call| call.attempt == attempt).map(|call| call.at);
        leased.or_else(called).unwrap_or(usize::MAX)
    }

    pub(super) fn durable_before(&self, at: usize) -> u64 {
        self.durable.values().filter(|durable| **durable < at).count() as u64
    }

    pub(super) fn retried_after(&self, at: usize) -> bool {
        self.retried.iter().any(|retried| *retried > at)
    }

    pub(super) fn came_to(&self, state: &str) -> impl Iterator<Item = usize> {
        self.settled.iter().filter(move |settled| settled.2 == state).map(|settled| settled.0)
    }
}

pub(super) fn is_end(state: &str) -> bool {
    matches!(state, "done" | "dead" | "cancelled")
}
