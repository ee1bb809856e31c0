//! How jobs are enqueued. The jobs of calls that are sent together make one batch.

use std::collections::BTreeMap;

use redis::Cmd;

use crate::{
    model::job::{JobId, NewJob},
    store::redis::{connection::Link, encoding},
};

/// Jobs as the scripts take them: in the order of their ids, each once.
#[derive(Clone, Default)]
pub(crate) struct Batch {
    /// The latest due time among the jobs that are due already.
    reach: Option<i64>,
    entries: Vec<Entry>,
    bytes: usize,
}

/// The kind of key for jobs that are due and of the usual rank. They have no score.
const LINE: &str = "line:";
/// That for jobs that come after others: where they stand is not known yet. They have no score either.
const APART: &str = "";

#[derive(Clone)]
struct Entry {
    id: JobId,
    /// What the key begins with under which the job waits.
    kind: &'static str,
    /// The rank of the job, or the time when it is due.
    score: i64,
    /// When the job expires, if it does.
    expires: Option<i64>,
    /// The job, with the name of its lane.
    bytes: Vec<u8>,
}

/// The key for the times at which jobs expire, which belong to no lane.
const EXPIRING: &str = "expiring";

/// What the key begins with under which jobs wait, and the name of their lane.
type Lane<'a> = (&'static str, &'a [u8]);

impl Batch {
    pub(crate) fn of(jobs: &[NewJob]) -> Self {
        let mut batch = Self { entries: Vec::with_capacity(jobs.len()), ..Self::default() };
        jobs.iter().for_each(|job| batch.add(job));
        batch.in_order()
    }

    fn add(&mut self, job: &NewJob) {
        let due = encoding::millis(job.due);
        let is_due = due <= encoding::millis(job.call.enqueued);
        if is_due {
            self.reach = self.reach.max(Some(due));
        }
        let rank = encoding::rank(job.call.priority);
        let kind = match (is_due, rank) {
            _ if job.call.after.is_some() => APART,
            (true, encoding::USUAL) => LINE,
            (true, _) => "ready:",
            (false, _) => "later:",
        };
        let score = if is_due { rank.into() } else { due };
        let expires = job.call.expires.map(|expires| due.saturating_add(encoding::limit_millis(expires)));
        let bytes = encoding::new_job(job);
        self.bytes += bytes.len();
        self.entries.push(Entry { id: job.call.id, kind, score, expires, bytes });
    }

    /// All jobs of some batches.
    pub(crate) fn joined(batches: Vec<Self>) -> Option<Self> {
        let joined = batches.into_iter().reduce(|mut all, batch| {
            all.reach = all.reach.max(batch.reach);
            all.bytes += batch.bytes;
            all.entries.extend(batch.entries);
            all
        });
        joined.map(Self::in_order)
    }

    fn in_order(mut self) -> Self {
        self.entries.sort_by_key(|entry| entry.id);
        // Of two jobs with one id the first counts, in whatever lanes they are.
        self.entries.dedup_by_key(|entry| entry.id);
        self
    }

    /// How many bytes the jobs have.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many values the batch adds to a call.
    pub(crate) fn values(&self) -> usize {
        if self.entries.is_empty() {
            return 0;
        }
        let of_lane =
            |((kind, _), entries): (&Lane<'_>, &Vec<_>)| 3 + entries.len() * if has_score(kind) { 2 } else { 1 };
        let of_lanes = if self.line().is_some() { 3 } else { self.lanes().iter().map(of_lane).sum() };
        let expiring = self.expiring().count();
        2 + 3 * self.entries.len() + of_lanes + if expiring > 0 { 3 + 2 * expiring } else { 0 }
    }

    /// The name of the lane, if all jobs stand in its line.
    fn line(&self) -> Option<&[u8]> {
        let lane = self.entries.first()?.lane();
        self.entries.iter().all(|entry| entry.lane() == (LINE, lane.1)).then_some(lane.1)
    }

    fn lanes(&self) -> BTreeMap<Lane<'_>, Vec<&Entry>> {
        let mut lanes = BTreeMap::<_, Vec<_>>::new();
        self.entries.iter().for_each(|entry| lanes.entry(entry.lane()).or_default().push(entry));
        lanes
    }

    pub(crate) fn add_to(&self, call: &mut Cmd, link: &Link) {
        if self.entries.is_empty() {
            return;
        }
        call.arg(self.reach.map(|reach| reach.to_string()).unwrap_or_default()).arg(self.entries.len());
        for entry in &self.entries {
            call.arg(&entry.id.to_bytes());
        }
        for Entry { id, bytes, .. } in &self.entries {
            call.arg(link.key("j", *id)).arg(bytes);
        }
        if let Some(lane) = self.line() {
            call.arg(LINE).arg(lane).arg(0);
        } else {
            self.add_lanes_to(call);
        }
        let expiring = self.expiring().count();
        if expiring > 0 {
            call.arg(EXPIRING).arg("").arg(expiring);
            for (time, id) in self.expiring() {
                call.arg(time).arg(&id.to_bytes());
            }
        }
    }

    /// When jobs expire, and their ids.
    fn expiring(&self) -> impl Iterator<Item = (i64, JobId)> {
        self.entries.iter().filter_map(|entry| Some((entry.expires?, entry.id)))
    }

    fn add_lanes_to(&self, call: &mut Cmd) {
        for ((kind, lane), entries) in self.lanes() {
            call.arg(kind).arg(lane).arg(entries.len());
            for Entry { id, score, .. } in entries {
                if has_score(kind) {
                    call.arg(score);
                }
                call.arg(&id.to_bytes());
            }
        }
    }
}

fn has_score(kind: &str) -> bool {
    kind != LINE && kind != APART
}

impl Entry {
    fn lane(&self) -> Lane<'_> {
        (self.kind, encoding::lane_of(&self.bytes))
    }
}
