//! Jobs on their way in, from calls that go together.

use std::collections::{BTreeMap, BTreeSet};

use redis::Cmd;

use crate::{
    model::job::{JobId, NewJob},
    store::redis::{connection::Link, encoding},
};

/// Jobs by where and in what lane they wait, as the scripts take them.
#[derive(Clone, Default)]
pub(crate) struct Batch {
    /// The latest time at which one is due that is so already.
    reach: Option<i64>,
    ids: BTreeSet<JobId>,
    lanes: BTreeMap<Lane, Vec<Entry>>,
    bytes: usize,
}

/// Where in which lane.
type Lane = (&'static str, String);

/// For those that are due and of the usual rank: they have no score.
const LINE: &str = "line:";

#[derive(Clone)]
struct Entry {
    id: JobId,
    /// Its rank, or the time when it is due.
    score: i64,
    bytes: Vec<u8>,
}

impl Batch {
    pub(crate) fn of(jobs: &[NewJob]) -> Self {
        let mut batch = Self::default();
        jobs.iter().for_each(|job| batch.add(job));
        batch
    }

    fn add(&mut self, job: &NewJob) {
        // Of two with one id the first counts, in whatever lanes they are.
        if !self.ids.insert(job.call.id) {
            return;
        }
        let due = encoding::millis(job.due);
        let is_due = due <= encoding::millis(job.call.enqueued);
        if is_due {
            self.reach = self.reach.max(Some(due));
        }
        let rank = encoding::rank(job.call.priority);
        let place = match (is_due, rank) {
            (true, encoding::USUAL) => LINE,
            (true, _) => "ready:",
            (false, _) => "later:",
        };
        let place = (place, encoding::lane(&job.call.queue, &job.call.task));
        let score = if is_due { rank.into() } else { due };
        let bytes = encoding::new_job(job);
        self.bytes += bytes.len();
        self.lanes.entry(place).or_default().push(Entry { id: job.call.id, score, bytes });
    }

    pub(crate) fn join(mut self, other: Self) -> Self {
        self.reach = self.reach.max(other.reach);
        self.bytes += other.bytes;
        for (place, entries) in other.lanes {
            let new = entries.into_iter().filter(|entry| self.ids.insert(entry.id));
            self.lanes.entry(place).or_default().extend(new);
        }
        self
    }

    /// How many bytes they are.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many values it adds to a call.
    pub(crate) fn values(&self) -> usize {
        if self.ids.is_empty() {
            return 0;
        }
        let of_lane =
            |((place, _), entries): (&Lane, &Vec<Entry>)| 3 + entries.len() * if *place == LINE { 1 } else { 2 };
        let of_lanes = if self.is_one_line() { 3 } else { self.lanes.iter().map(of_lane).sum() };
        2 + 3 * self.ids.len() + of_lanes
    }

    /// Whether all of it stands in one line.
    fn is_one_line(&self) -> bool {
        self.lanes.len() == 1 && self.lanes.keys().all(|(place, _)| *place == LINE)
    }

    pub(crate) fn add_to(mut self, call: &mut Cmd, link: &Link) {
        if self.ids.is_empty() {
            return;
        }
        call.arg(self.reach.map(|reach| reach.to_string()).unwrap_or_default()).arg(self.ids.len());
        for id in &self.ids {
            call.arg(&id.to_bytes());
        }
        for Entry { id, bytes, .. } in self.lanes.values().flatten() {
            call.arg(link.key("j", *id)).arg(bytes);
        }
        if self.is_one_line() {
            self.lanes.keys().for_each(|(place, lane)| _ = call.arg(place).arg(lane).arg(0));
            return;
        }
        for ((place, lane), entries) in &mut self.lanes {
            entries.sort_unstable_by_key(|entry| entry.id);
            call.arg(place).arg(lane).arg(entries.len());
            for Entry { id, score, .. } in entries {
                if *place != LINE {
                    call.arg(score);
                }
                call.arg(&id.to_bytes());
            }
        }
    }
}
