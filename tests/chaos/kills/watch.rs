//! Subscribers: one that is there from the beginning, one that comes in the middle, one after the end.

use std::{
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use futures::{
    StreamExt as _,
    stream::{BoxStream, unfold},
};
use qtasks::{
    JobHandle, Update,
    job::{Ending, State},
};
use qtasks_tests::kills::{check, ledger::now};

use crate::tasks::{AWAY, reply};

/// What users saw of the jobs.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Values that came.
    pub(crate) seen: AtomicUsize,
    /// Values of acknowledged jobs that never came.
    pub(crate) lost: AtomicUsize,
    /// Subscribers whose stream missed or repeated a value, or ended in an error.
    pub(crate) streams: AtomicUsize,
    /// Results that differ from those of a run without kills.
    pub(crate) results: AtomicUsize,
    /// Attempts that a watcher saw after later ones, as only a server makes it that loses what it has acknowledged.
    pub(crate) turned_back: AtomicUsize,
    /// Failures, which none of the jobs has.
    pub(crate) failures: AtomicUsize,
    /// How often the store was away when it was asked, and was asked again: no fault of a worker's or a job's.
    pub(crate) troubles: AtomicUsize,
    /// What came in place of what was due.
    pub(crate) wrong: Mutex<Vec<String>>,
}

impl Watch {
    /// Whether nothing went wrong.
    pub(crate) fn is_good(&self) -> bool {
        [&self.lost, &self.streams, &self.results, &self.turned_back, &self.failures]
            .iter()
            .all(|count| count.load(Relaxed) == 0)
    }

    /// Asks until the store is there to answer.
    pub(crate) async fn insist<T, F: Future<Output = qtasks::Result<T>>>(
        &self,
        ask: impl Fn() -> F,
    ) -> qtasks::Result<T> {
        loop {
            match ask().await {
                Err(error) if error.is_store_trouble() => self.trouble().await,
                answer => return answer,
            }
        }
    }

    /// Whether this came, and nothing else.
    fn is_due<T: PartialEq + fmt::Debug>(&self, came: qtasks::Result<T>, due: Option<&T>) -> bool {
        let good = came.as_ref().ok() == due && due.is_some();
        if !good {
            self.wrong.lock().unwrap().push(format!("{came:?} in place of {due:?}"));
        }
        good
    }

    async fn trouble(&self) {
        self.troubles.fetch_add(1, Relaxed);
        tokio::time::sleep(AWAY).await;
    }
}

/// Follows a job that yields the `count` numbers from `first` on until it has ended.
pub(crate) async fn follow(job: JobHandle<Vec<u64>>, first: u64, count: u64, watch: &Watch) -> check::Job {
    let expected: Vec<u64> = (first..first + count).map(reply).collect();
    let mut seen = Vec::new();
    let from_the_beginning = async {
        let (mut values, mut good) = (values(&job, 0, watch), true);
        while let Some(value) = values.next().await {
            good &= watch.is_due(value, expected.get(seen.len()));
            seen.push(now());
            watch.seen.fetch_add(1, Relaxed);
        }
        good && seen.len() == expected.len()
    };
    let from_the_middle = async {
        let (middle, offset) = (count / 2, count / 3);
        // When a value of the middle is there, the job is under way.
        values(&job, middle, watch).next().await;
        sees(values(&job, offset, watch), &expected[offset as usize..], watch).await
    };
    let of_all = sees_all(&job, &expected, watch);
    let (one, other, all) = tokio::join!(from_the_beginning, from_the_middle, of_all);
    let after_the_end = sees(values(&job, 0, watch), &expected, watch).await;
    let missed = [one, other, all, after_the_end].iter().filter(|good| !**good).count();
    watch.streams.fetch_add(missed, Relaxed);
    watch.lost.fetch_add(expected.len().saturating_sub(seen.len()), Relaxed);
    let result = watch.insist(|| job.result()).await;
    watch.results.fetch_add(usize::from(!watch.is_due(result, Some(&expected))), Relaxed);
    watch.failures.fetch_add(failures(&job, watch).await, Relaxed);
    check::Job { id: job.id(), first, seen, lost: lost(&job, watch).await }
}

/// The values from number `from` on, for somebody who goes on with another stream when the store was away.
fn values<'w>(job: &JobHandle<Vec<u64>>, from: u64, watch: &'w Watch) -> BoxStream<'w, qtasks::Result<u64>> {
    let job = job.clone();
    let rest = unfold((job.stream_from(from), from), move |(mut values, next)| {
        let job = job.clone();
        async move {
            loop {
                match values.next().await? {
                    Err(error) if error.is_store_trouble() => {
                        watch.trouble().await;
                        values = job.stream_from(next);
                    }
                    value => return Some((value, (values, next + 1))),
                }
            }
        }
    });
    rest.boxed()
}

async fn sees(mut values: BoxStream<'_, qtasks::Result<u64>>, expected: &[u64], watch: &Watch) -> bool {
    let (mut seen, mut good) = (0, true);
    while let Some(value) = values.next().await {
        good &= watch.is_due(value, expected.get(seen));
        seen += 1;
    }
    good && seen == expected.len()
}

/// Whether a watcher of all updates sees each step once, with its number, attempts that only grow, and at last that the job is
/// done. It goes on with another stream when the store was away.
async fn sees_all(job: &JobHandle<Vec<u64>>, expected: &[u64], watch: &Watch) -> bool {
    let (mut seen, mut attempt, mut good, mut updates) = (0, 0, true, job.watch());
    let mut last = None;
    while let Some(update) = updates.next().await {
        match update {
            Err(error) if error.is_store_trouble() => {
                watch.trouble().await;
                updates = job.watch_from(seen);
            }
            Ok(Update::Status(standing)) => {
                watch.turned_back.fetch_add(usize::from(standing.attempt < attempt), Relaxed);
                attempt = standing.attempt;
                last = Some(standing.state);
            }
            Ok(Update::Step(step)) => {
                good &= step.seq == seen && watch.is_due(step.value(), expected.get(seen as usize));
                seen += 1;
            }
            Ok(_) => {}
            Err(error) => {
                watch.wrong.lock().unwrap().push(format!("{error} in place of an update"));
                return false;
            }
        }
    }
    good && seen as usize == expected.len() && matches!(last, Some(State::Done { .. }))
}

/// How many attempts of a job ended in another way than a kill or a stop can make them.
pub(crate) async fn failures<C>(job: &JobHandle<C>, watch: &Watch) -> usize {
    let Ok(status) = watch.insist(|| job.status()).await else { return 1 };
    let good = |ending: &Ending| matches!(ending, Ending::Done | Ending::Released | Ending::Lost);
    let bad = status.attempts.iter().filter(|attempt| !good(&attempt.ending)).count();
    // The first loss is free of charge; a further one is not, until a new step forgives it.
    let lost = status.attempts.iter().filter(|attempt| attempt.ending == Ending::Lost).count();
    let unearned = (status.failures as usize).saturating_sub(lost.saturating_sub(1));
    bad + usize::from(!matches!(status.state, State::Done { .. })) + unearned
}

/// Waits for the result of a job that does not yield.
pub(crate) async fn await_plain(job: JobHandle<u64>, value: u64, watch: &Watch) -> check::Job {
    let result = watch.insist(|| job.result()).await;
    let seen = vec![now()];
    watch.seen.fetch_add(1, Relaxed);
    watch.lost.fetch_add(usize::from(result.is_err()), Relaxed);
    watch.results.fetch_add(usize::from(!watch.is_due(result, Some(&reply(value)))), Relaxed);
    check::Job { id: job.id(), first: value, seen, lost: lost(&job, watch).await }
}

/// The attempts that were lost.
async fn lost<C>(job: &JobHandle<C>, watch: &Watch) -> Vec<u32> {
    let Ok(status) = watch.insist(|| job.status()).await else { return Vec::new() };
    let lost = status.attempts.iter().filter(|attempt| attempt.ending == Ending::Lost);
    lost.map(|attempt| attempt.number).collect()
}
