//! How jobs are enqueued. The jobs of calls that are sent together make one batch.

use std::collections::{BTreeMap, BTreeSet};

use redis::Cmd;

use crate::{
    model::job::{JobId, NewJob},
    store::redis::{connection::Link, encoding},
};

/// Jobs by the kind of key under which they wait and by lane, as the scripts take them.
#[derive(Clone, Default)]
pub(crate) struct Batch {
    /// The latest due time among the jobs that are due already.
    reach: Option<i64>,
    ids: BTreeSet<JobId>,
    lanes: BTreeMap<Lane, Vec<Entry>>,
    bytes: usize,
}

/// What the key begins with under which jobs wait, and the name of their lane.
type Lane = (&'static str, String);

/// The kind of key for jobs that are due and of the usual rank. They have no score.
const LINE: &str = "line:";

#[derive(Clone)]
struct Entry {
    id: JobId,
    /// The rank of the job, or the time when it is due.
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
        // Of two jobs with one id the first counts, in whatever lanes they are.
        if !self.ids.insert(job.call.id) {
            return;
        }
        let due = encoding::millis(job.due);
        let is_due = due <= encoding::millis(job.call.enqueued);
        if is_due {
            self.reach = self.reach.max(Some(due));
        }
        let rank = encoding::rank(job.call.priority);
        let kind = match (is_due, rank) {
            (true, encoding::USUAL) => LINE,
            (true, _) => "ready:",
            (false, _) => "later:",
        };
        let lane = (kind, encoding::lane(&job.call.queue, &job.call.task));
        let score = if is_due { rank.into() } else { due };
        let bytes = encoding::new_job(job);
        self.bytes += bytes.len();
        self.lanes.entry(lane).or_default().push(Entry { id: job.call.id, score, bytes });
    }

    pub(crate) fn join(mut self, other: Self) -> Self {
        self.reach = self.reach.max(other.reach);
        self.bytes += other.bytes;
        for (lane, entries) in other.lanes {
            let new = entries.into_iter().filter(|entry| self.ids.insert(entry.id));
            self.lanes.entry(lane).or_default().extend(new);
        }
        self
    }

    /// How many bytes the jobs have.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many values the batch adds to a call.
    pub(crate) fn values(&self) -> usize {
        if self.ids.is_empty() {
            return 0;
        }
        let of_lane =
            |((kind, _), entries): (&Lane, &Vec<Entry>)| 3 + entries.len() * if *kind == LINE { 1 } else { 2 };
        let of_lanes = if self.is_one_line() { 3 } else { self.lanes.iter().map(of_lane).sum() };
        2 + 3 * self.ids.len() + of_lanes
    }

    /// Whether all jobs stand in one line.
    fn is_one_line(&self) -> bool {
        self.lanes.len() == 1 && self.lanes.keys().all(|(kind, _)| *kind == LINE)
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
            self.lanes.keys().for_each(|(kind, lane)| _ = call.arg(kind).arg(lane).arg(0));
            return;
        }
        for ((kind, lane), entries) in &mut self.lanes {
            entries.sort_unstable_by_key(|entry| entry.id);
            call.arg(kind).arg(lane).arg(entries.len());
            for Entry { id, score, .. } in entries {
                if *kind != LINE {
                    call.arg(score);
                }
                call.arg(&id.to_bytes());
            }
        }
    }
}
