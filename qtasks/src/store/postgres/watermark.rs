//! A low-water mark, from which a search for fresh jobs begins.
//!
//! Fresh jobs stand in their index by id until they are pruned, whatever becomes of them. So a store remembers up to where
//! it has taken all of them, and begins there. That is only a shortcut, for jobs may wait behind it whose lease was rolled
//! back or whose notification was lost. A search of everything begins at the [marks](super::calls::mark) in the database,
//! and looks also for jobs that have come to light behind these. It is made when nothing else is found, when a job has come
//! that is older than the last ones taken, and now and then.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use uuid::Uuid;

use super::encoding;
use crate::{
    model::job::{Job, NewJob},
    store::Ask,
};

/// Of this many searches at least one is of everything.
const ONE_OF: u32 = 128;
/// A mark in the database is made after this many leased jobs.
const JOBS_A_MARK: usize = 1_000;
/// Where fewer jobs are leased, a mark is made after this many searches of everything.
const SEARCHES_A_MARK: u32 = 8;
/// A job that is older than this beside the last one taken may stand behind the mark in the database, which stays 50 ms
/// behind the time.
const LATE: Duration = Duration::from_millis(25);

/// A low-water mark: the id up to which a store has taken all fresh jobs, so that the next search skips their index entries.
#[derive(Default)]
pub(super) struct Watermark(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// The mark, for the lanes of the last lease. Without it the next search is of everything.
    taken: Option<(Lanes, Uuid)>,
    /// The searches that are under way, each with the first job that has come since it began.
    under_way: Vec<(u64, Option<Uuid>)>,
    searches: u64,
    /// How many searches there were since the last search of everything.
    narrow: u32,
    /// How many jobs were leased since the last mark in the database.
    leased: usize,
    everywhere: u32,
    is_marking: bool,
}

/// The queues and tasks that a lease asked for.
type Lanes = (Arc<[String]>, Arc<[&'static str]>);

/// A search that is under way.
pub(super) struct Search {
    number: u64,
    /// Jobs with lesser ids need not be looked for.
    pub(super) from: Uuid,
    /// Whether jobs that came to light behind the marks are looked for too.
    pub(super) everywhere: bool,
}

/// Whether a job is found by its id: it is due when it is enqueued, and has priority 0.
pub(super) fn is_fresh(job: &NewJob) -> bool {
    job.call.priority == 0 && job.due <= job.call.enqueued
}

/// The queues and tasks that are asked for, each once.
pub(super) fn lanes(ask: &Ask) -> (Vec<&str>, Vec<&'static str>) {
    (once_each(ask.queues.iter().map(String::as_str)), once_each(ask.tasks.iter().copied()))
}

fn once_each<'t>(names: impl Iterator<Item = &'t str>) -> Vec<&'t str> {
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}

impl Watermark {
    /// Begins a search: from the mark where there is one for these lanes, and else of everything.
    pub(super) fn search(&self, ask: &Ask) -> Search {
        let mut known = self.known();
        known.searches += 1;
        let number = known.searches;
        known.under_way.push((number, None));
        let is_same = |lanes: &Lanes| lanes.0 == ask.queues && lanes.1 == ask.tasks;
        let from = known.taken.as_ref().filter(|(lanes, _)| is_same(lanes)).map(|(_, taken)| *taken);
        let from = from.filter(|_| known.narrow < ONE_OF);
        known.narrow = if from.is_some() { known.narrow + 1 } else { 0 };
        known.everywhere += u32::from(from.is_none());
        Search { number, from: from.unwrap_or_default(), everywhere: from.is_none() }
    }

    /// Ends a search that has taken all jobs that it found, up to the last of `jobs`.
    pub(super) fn took(&self, search: &Search, ask: &Ask, jobs: &[Job]) {
        let mut known = self.known();
        let Some(came) = known.end(search) else { return };
        let fresh = jobs.iter().filter(|job| job.call.priority == 0).map(|job| encoding::job_id(job.call.id));
        let Some(last) = fresh.max() else { return };
        let last = last.max(search.from);
        let taken = came.map_or(last, |came| last.min(came));
        known.taken = Some(((Arc::clone(&ask.queues), Arc::clone(&ask.tasks)), taken));
    }

    /// Ends a search that has left jobs behind, or may have.
    pub(super) fn left(&self, search: &Search) {
        let mut known = self.known();
        known.end(search);
        known.taken = None;
    }

    /// Notes that fresh jobs have come, the first of them with this id.
    pub(super) fn came(&self, first: Uuid) {
        let mut known = self.known();
        for (_, came) in &mut known.under_way {
            *came = Some(came.map_or(first, |came| came.min(first)));
        }
        match &mut known.taken {
            Some((_, taken)) if is_late(first, *taken) => known.taken = None,
            Some((_, taken)) => *taken = (*taken).min(first),
            None => {}
        }
    }

    /// Notes that jobs may have come anywhere.
    pub(super) fn forget(&self) {
        let mut known = self.known();
        known.taken = None;
        known.under_way.clear();
    }

    /// Whether it is time to mark in the database how far lanes have been taken, now that so many more jobs were leased.
    /// Where it is, [`marked`](Self::marked) is to follow.
    pub(super) fn is_mark_due(&self, leased: usize) -> bool {
        let mut known = self.known();
        known.leased += leased;
        let is_due = known.leased >= JOBS_A_MARK || known.leased > 0 && known.everywhere >= SEARCHES_A_MARK;
        let begins = is_due && !known.is_marking;
        if begins {
            (known.leased, known.everywhere, known.is_marking) = (0, 0, true);
        }
        begins
    }

    /// Notes that the mark in the database has been made, or that it failed.
    pub(super) fn marked(&self) {
        self.known().is_marking = false;
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Ends a search. Gives the first job that came meanwhile; `None` if the search was forgotten.
    fn end(&mut self, search: &Search) -> Option<Option<Uuid>> {
        let place = self.under_way.iter().position(|(number, _)| *number == search.number)?;
        Some(self.under_way.swap_remove(place).1)
    }
}

/// Whether a job with this id may stand behind the mark, when jobs have been taken up to another one.
fn is_late(id: Uuid, taken: Uuid) -> bool {
    millis(id).saturating_add(LATE.as_millis()) < millis(taken)
}

/// The time in an id of version 7. Of another id it is any number.
fn millis(id: Uuid) -> u128 {
    id.as_u128() >> 80
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
                expires: None,
                trace: None,
                key: None,
                after: None,
            },
            standing: Standing {
                state: State::Running { worker, due: enqueued },
                attempt: 1,
                failures: 0,
                suspect: None,
            },
            counts: Counts::default(),
            ended: None,
        }
    }

    fn id(job: &Job) -> Uuid {
        encoding::job_id(job.call.id)
    }

    #[test]
    fn the_next_search_begins_where_all_was_taken() {
        let (watermark, ask) = (Watermark::default(), ask("queue"));
        let jobs = [job(JobId::new(), 5), job(JobId::new(), 0), job(JobId::new(), 0), job(JobId::new(), 3)];
        let search = watermark.search(&ask);
        assert!(search.everywhere && search.from.is_nil());
        watermark.took(&search, &ask, &jobs);
        let search = watermark.search(&ask);
        assert_eq!((search.from, search.everywhere), (id(&jobs[2]), false));
        assert!(watermark.search(&self::ask("other")).everywhere);
    }

    #[test]
    fn what_comes_before_that_place_is_found() {
        let (watermark, ask) = (Watermark::default(), ask("queue"));
        let (early, late) = (job(JobId::new(), 0), job(JobId::new(), 0));
        let search = watermark.search(&ask);
        watermark.took(&search, &ask, std::slice::from_ref(&late));
        watermark.came(id(&early));
        assert_eq!(watermark.search(&ask).from, id(&early));

        // While a search is under way too.
        let search = watermark.search(&ask);
        watermark.came(id(&early));
        watermark.took(&search, &ask, std::slice::from_ref(&late));
        assert_eq!(watermark.search(&ask).from, id(&early));
    }

    #[test]
    fn what_comes_from_long_ago_is_looked_for_behind_the_marks() {
        let (watermark, ask) = (Watermark::default(), ask("queue"));
        let last = job(JobId::new(), 0);
        let search = watermark.search(&ask);
        watermark.took(&search, &ask, std::slice::from_ref(&last));
        watermark.came(Uuid::from_u128(id(&last).as_u128() - (501 << 80)));
        assert!(watermark.search(&ask).everywhere);
    }

    #[test]
    fn where_it_is_not_known_what_is_left_the_search_is_one_of_everything() {
        let (watermark, ask) = (Watermark::default(), ask("queue"));
        let last = job(JobId::new(), 0);
        let search = watermark.search(&ask);
        watermark.took(&search, &ask, std::slice::from_ref(&last));
        let search = watermark.search(&ask);
        watermark.left(&search);
        assert!(watermark.search(&ask).everywhere);

        let search = watermark.search(&ask);
        watermark.forget();
        watermark.took(&search, &ask, std::slice::from_ref(&last));
        assert!(watermark.search(&ask).everywhere);
    }

    #[test]
    fn now_and_then_a_search_is_one_of_everything_in_any_case() {
        let (watermark, ask) = (Watermark::default(), ask("queue"));
        let last = job(JobId::new(), 0);
        let mut narrow = 0;
        for _ in 0..2 * ONE_OF {
            let search = watermark.search(&ask);
            narrow += u32::from(!search.everywhere);
            watermark.took(&search, &ask, std::slice::from_ref(&last));
        }
        assert!((ONE_OF..2 * ONE_OF - 1).contains(&narrow), "{narrow}");
    }

    #[test]
    fn a_mark_is_due_when_much_was_leased_or_little_for_long_and_one_at_a_time() {
        let (watermark, ask) = (Watermark::default(), ask("queue"));
        assert!(!watermark.is_mark_due(JOBS_A_MARK - 1));
        assert!(watermark.is_mark_due(1));
        assert!(!watermark.is_mark_due(2 * JOBS_A_MARK), "one is under way");
        watermark.marked();
        assert!(watermark.is_mark_due(0));
        watermark.marked();
        for _ in 0..SEARCHES_A_MARK {
            _ = watermark.search(&ask);
        }
        assert!(!watermark.is_mark_due(0), "nothing was leased");
        assert!(watermark.is_mark_due(1));
    }
}
