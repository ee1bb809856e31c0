//! Up to where nothing waits any more.
//!
//! Postgres keeps the index entries of jobs that were taken until no transaction could see them, and that is as long as
//! somebody keeps a transaction open. A search that began at the most urgent place would pass over all of them each time.
//! So a store remembers how far it has taken everything, and begins there. It begins anew when it was told of work without
//! being told where, and now and then in any case.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::encoding;
use crate::{
    model::job::{Job, NewJob},
    store::Ask,
};

/// Minus the priority, and the id: what is less is leased first.
pub(super) type Urgency = (i32, Uuid);

pub(super) fn urgency(job: &NewJob) -> Urgency {
    (-i32::from(job.call.priority), encoding::job_id(job.call.id))
}

/// Before everything.
const START: Urgency = (i32::MIN, Uuid::nil());

/// Up to where a store has taken everything.
#[derive(Default)]
pub(super) struct Watermark(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Up to where, for the lanes of the last lease.
    taken: Option<(Lanes, Urgency)>,
    /// What came to wait while leases were under way, of each the most urgent.
    under_way: Vec<(u64, Option<Urgency>)>,
    leases: u64,
}

/// The queues and tasks that were asked for.
type Lanes = (Arc<[String]>, Arc<[&'static str]>);

/// A lease that is under way.
pub(super) struct Search {
    number: u64,
    /// What is not less urgent than this need not be looked for.
    pub(super) from: Urgency,
}

impl Watermark {
    /// Begins a lease.
    pub(super) fn search(&self, ask: &Ask) -> Search {
        let mut known = self.known();
        known.leases += 1;
        let number = known.leases;
        known.under_way.push((number, None));
        let is_same = |lanes: &Lanes| lanes.0 == ask.queues && lanes.1 == ask.tasks;
        let from = known.taken.as_ref().filter(|(lanes, _)| is_same(lanes)).map_or(START, |(_, taken)| *taken);
        Search { number, from }
    }

    /// Ends a lease that has taken all that it found, up to the last of `jobs`.
    pub(super) fn took(&self, search: &Search, ask: &Ask, jobs: &[Job]) {
        let mut known = self.known();
        let Some(came) = known.end(search) else { return };
        let urgency = |job: &Job| (-i32::from(job.call.priority), encoding::job_id(job.call.id));
        let Some(last) = jobs.iter().map(urgency).max() else { return };
        let taken = came.map_or(last, |came| last.min(before(came)));
        known.taken = Some(((Arc::clone(&ask.queues), Arc::clone(&ask.tasks)), taken));
    }

    /// Ends a lease that has left something behind, or may have.
    pub(super) fn left(&self, search: &Search) {
        let mut known = self.known();
        known.end(search);
        known.taken = None;
    }

    /// Jobs have come to wait, the first of them there.
    pub(super) fn came(&self, first: Urgency) {
        let mut known = self.known();
        for (_, came) in &mut known.under_way {
            *came = Some(came.map_or(first, |came| came.min(first)));
        }
        if let Some((_, taken)) = &mut known.taken {
            *taken = (*taken).min(before(first));
        }
    }

    /// Jobs may have come to wait anywhere.
    pub(super) fn forget(&self) {
        let mut known = self.known();
        known.taken = None;
        known.under_way.clear();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// What came to wait meanwhile; nothing where that was forgotten.
    fn end(&mut self, search: &Search) -> Option<Option<Urgency>> {
        let place = self.under_way.iter().position(|(number, _)| *number == search.number)?;
        Some(self.under_way.swap_remove(place).1)
    }
}

/// The place just before.
fn before((rank, id): Urgency) -> Urgency {
    match id.as_u128().checked_sub(1) {
        Some(id) => (rank, Uuid::from_u128(id)),
        None => (rank - 1, Uuid::max()),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{
        model::{
            job::{Counts, JobCall, JobId, Standing, State, WorkerId},
            json::Json,
        },
        store::Suspects,
    };

    fn ask(queue: &str) -> Ask {
        let (queues, tasks) = ([queue.to_owned()].into(), ["task"].into());
        Ask {
            worker: WorkerId::new(),
            queues,
            tasks,
            limit: 9,
            suspects: Suspects::PassOver,
            now: Timestamp::UNIX_EPOCH,
        }
    }

    fn job(id: JobId, priority: i16) -> Job {
        let (worker, enqueued) = (WorkerId::new(), Timestamp::UNIX_EPOCH);
        Job {
            call: JobCall {
                id,
                task: "task".into(),
                queue: "queue".into(),
                priority,
                args: Json::from_stored("{}"),
                max_time: None,
                enqueued,
            },
            standing: Standing { state: State::Running { worker }, attempt: 1, failures: 0, suspect: None },
            counts: Counts::default(),
        }
    }

    fn at(job: &Job) -> Urgency {
        (-i32::from(job.call.priority), encoding::job_id(job.call.id))
    }

    #[test]
    fn the_next_search_begins_where_all_was_taken() {
        let (watermark, ask) = (Watermark::default(), ask("queue"));
        let jobs = [job(JobId::new(), 5), job(JobId::new(), 0), job(JobId::new(), 0)];
        let search = watermark.search(&ask);
        assert_eq!(search.from, START);
        watermark.took(&search, &ask, &jobs);
        assert_eq!(watermark.search(&ask).from, at(&jobs[2]));
        assert_eq!(watermark.search(&self::ask("other")).from, START);
    }

    #[test]
    fn what_comes_before_that_place_is_found() {
        let (watermark, ask) = (Watermark::default(), ask("queue"));
        let (early, late) = (job(JobId::new(), 0), job(JobId::new(), 0));
        let search = watermark.search(&ask);
        watermark.took(&search, &ask, std::slice::from_ref(&late));
        watermark.came(at(&early));
        assert!(watermark.search(&ask).from < at(&early));

        // While it is under way too.
        let search = watermark.search(&ask);
        watermark.came(at(&early));
        watermark.took(&search, &ask, std::slice::from_ref(&late));
        assert!(watermark.search(&ask).from < at(&early));
    }

    #[test]
    fn where_it_is_not_known_what_is_left_the_search_begins_anew() {
        let (watermark, ask) = (Watermark::default(), ask("queue"));
        let last = job(JobId::new(), 0);
        let search = watermark.search(&ask);
        watermark.took(&search, &ask, std::slice::from_ref(&last));
        let search = watermark.search(&ask);
        watermark.left(&search);
        assert_eq!(watermark.search(&ask).from, START);

        let search = watermark.search(&ask);
        watermark.forget();
        watermark.took(&search, &ask, std::slice::from_ref(&last));
        assert_eq!(watermark.search(&ask).from, START);
    }
}
