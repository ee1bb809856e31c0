//! Whether the promises were kept: plain events and outcomes in, a verdict out. It runs nothing and waits for nothing, so
//! that simulated and real crashes are judged alike.

mod case;
mod ending;
mod event;
mod fate;
mod story;
mod stream;
mod verdict;

use std::collections::BTreeMap;

use qtasks::job::JobId;

use self::{case::Case, story::Story, stream::Listened, verdict::Report};
pub use self::{
    event::{End, Event, Item},
    fate::{Expected, Fate},
    verdict::{Promise, Verdict, Violation},
};

/// Says whether the promises were kept. `fates` holds every job that is there at the end; of jobs that are not in
/// `expected`, nothing is known about what they should have come to.
pub fn check(events: &[Event], fates: &BTreeMap<JobId, Fate>, expected: &BTreeMap<JobId, Expected>) -> Verdict {
    let mut stories: BTreeMap<JobId, Story> = fates.keys().map(|job| (*job, Story::default())).collect();
    let mut streams: BTreeMap<u64, Listened> = BTreeMap::new();
    let mut report = Report::default();
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Opened { stream, job, from } => {
                streams.insert(*stream, Listened { job: *job, from: *from, items: Vec::new(), end: None });
            }
            Event::Item { stream, item } => {
                if let Some(listened) = streams.get_mut(stream) {
                    let seq = listened.from + listened.items.len() as u64;
                    stories.entry(listened.job).or_default().durable.entry(seq).or_insert(at);
                    listened.heard(*stream, item, &mut report);
                }
            }
            Event::Closed { stream, end } => {
                if let Some(listened) = streams.get_mut(stream) {
                    listened.end = Some(end.clone());
                }
            }
            Event::StopEnded { worker, well: true, holds } => {
                holds.iter().for_each(|job| report.held_after_a_stop(*worker, *job));
            }
            Event::StopBegun { .. } | Event::StopEnded { .. } | Event::Killed { .. } | Event::Resumed { .. } => {}
            Event::Frozen { worker } => {
                report.frozen.insert(*worker);
            }
            Event::Enqueued { job }
            | Event::Leased { job, .. }
            | Event::Begun { job, .. }
            | Event::Returned { job, .. }
            | Event::Durable { job, .. }
            | Event::Settled { job, .. }
            | Event::Cancelled { job }
            | Event::CancelRefused { job, .. }
            | Event::Retried { job }
            | Event::Result { job, .. } => stories.entry(*job).or_default().add(at, event),
        }
    }
    report.verdict.streams = streams.len();
    for (job, story) in &stories {
        Case { job: *job, story, fate: fates.get(job), expected: expected.get(job) }.judge(&mut report);
    }
    for (stream, listened) in &streams {
        listened.judge(*stream, stories.get(&listened.job), fates.get(&listened.job), &mut report);
    }
    report.verdict.jobs = stories.len();
    report.verdict
}

#[cfg(test)]
mod tests;
