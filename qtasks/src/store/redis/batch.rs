//! Jobs on their way in. Those that are enqueued while the server is busy with others go together.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use redis::Cmd;
use tokio::sync::oneshot;

use super::{coding, failure::Failure, link::Link};
use crate::job::{JobId, NewJob};

/// Jobs by the lane that they wait in, as the scripts take them.
#[derive(Default)]
pub(super) struct Batch {
    /// The latest time at which one is due that is so already.
    reach: Option<i64>,
    ids: HashSet<JobId>,
    lanes: BTreeMap<(&'static str, String), Vec<Entry>>,
}

struct Entry {
    id: JobId,
    /// Its rank, or the time when it is due.
    score: i64,
    bytes: Vec<u8>,
}

impl Batch {
    pub(super) fn of(jobs: &[NewJob]) -> Self {
        let mut batch = Self::default();
        jobs.iter().for_each(|job| batch.add(job));
        batch
    }

    fn add(&mut self, job: &NewJob) {
        // Of two with one id the first counts, in whatever lanes they are.
        if !self.ids.insert(job.id) {
            return;
        }
        let due = coding::millis(job.due);
        let is_due = due <= coding::millis(job.enqueued);
        if is_due {
            self.reach = self.reach.max(Some(due));
        }
        let place = (if is_due { "ready" } else { "later" }, coding::lane(&job.queue, &job.task));
        let score = if is_due { coding::rank(job.priority).into() } else { due };
        self.lanes.entry(place).or_default().push(Entry { id: job.id, score, bytes: coding::new_job(job) });
    }

    fn join(&mut self, other: Self) {
        self.reach = self.reach.max(other.reach);
        for (place, entries) in other.lanes {
            let new = entries.into_iter().filter(|entry| self.ids.insert(entry.id));
            self.lanes.entry(place).or_default().extend(new);
        }
    }

    /// How many values it adds to a call.
    pub(super) fn values(&self) -> usize {
        if self.ids.is_empty() { 0 } else { 2 + 6 * self.ids.len() + 3 * self.lanes.len() }
    }

    pub(super) fn add_to(&self, call: &mut Cmd, link: &Link) {
        if self.ids.is_empty() {
            return;
        }
        let entries = || self.lanes.values().flatten();
        call.arg(self.reach.map(|reach| reach.to_string()).unwrap_or_default()).arg(self.ids.len());
        for Entry { id, .. } in entries() {
            call.arg(0).arg(&id.to_bytes());
        }
        for Entry { id, bytes, .. } in entries() {
            call.arg(link.key("j", *id)).arg(bytes);
        }
        for ((place, lane), entries) in &self.lanes {
            call.arg(place).arg(lane).arg(entries.len());
            for Entry { id, score, .. } in entries {
                call.arg(score).arg(&id.to_bytes());
            }
        }
    }
}

/// As many jobs go together at most, unless one call has more.
const TOGETHER: usize = 1024;

type Answer = oneshot::Sender<Result<(), Failure>>;

/// Calls that wait for those before them.
#[derive(Default)]
pub(super) struct Queue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    calls: Vec<(Batch, Answer)>,
    is_busy: bool,
}

impl Queue {
    /// Adds a call; gives whether somebody must [send](Self::send) it.
    pub(super) fn push(&self, batch: Batch, answer: Answer) -> bool {
        let mut waiting = self.waiting();
        waiting.calls.push((batch, answer));
        !std::mem::replace(&mut waiting.is_busy, true)
    }

    /// Sends what waits, until nothing does.
    pub(super) async fn send(self: Arc<Self>, link: Arc<Link>) {
        while let Some((batch, answers)) = self.take() {
            let mut call = link.call(|scripts| &scripts.enqueue);
            batch.add_to(&mut call, &link);
            let enqueued: Result<(), Failure> = link.ask(&call).await;
            if enqueued.is_ok() {
                link.bell.ring_work();
            }
            // Those who have waited for a server that is away need not wait for it each in turn.
            let others = if enqueued.as_ref().is_err_and(Failure::is_away) { self.take_all() } else { Vec::new() };
            for answer in answers.into_iter().chain(others) {
                // Whoever asked may be gone.
                _ = answer.send(enqueued.clone());
            }
        }
    }

    fn take(&self) -> Option<(Batch, Vec<Answer>)> {
        let mut waiting = self.waiting();
        let mut together = 0;
        let fits = |(batch, _): &&(Batch, _)| {
            together += batch.ids.len();
            together <= TOGETHER
        };
        let count = waiting.calls.iter().take_while(fits).count().max(1).min(waiting.calls.len());
        let mut calls = waiting.calls.drain(..count);
        let Some((mut batch, answer)) = calls.next() else {
            drop(calls);
            waiting.is_busy = false;
            return None;
        };
        let mut answers = vec![answer];
        for (other, answer) in calls {
            batch.join(other);
            answers.push(answer);
        }
        Some((batch, answers))
    }

    fn take_all(&self) -> Vec<Answer> {
        self.waiting().calls.drain(..).map(|(_, answer)| answer).collect()
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
