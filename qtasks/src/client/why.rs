//! Why a job does not run, in one sentence.

use std::{fmt, sync::Arc};

use jiff::{SignedDuration, Timestamp};

use super::{
    handle::JobHandle,
    known::{WorkerInfo, workers},
    pausing::pauses,
};
use crate::{
    environment::{App, patience::patiently},
    error::Result,
    model::{
        job::{Job, JobId, State, StateKind},
        pause::Pause,
    },
    store::{JobCounts, Lane},
};

/// Why a job does not run, or that it does. Its text is a sentence.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Why {
    /// It has ended.
    Ended {
        /// How it ended.
        state: StateKind,
        /// When it ended.
        at: Option<Timestamp>,
    },
    /// It runs.
    Running,
    /// It is not due yet.
    NotDue {
        /// When it is due.
        due: Timestamp,
        /// How long that is from now.
        wait: SignedDuration,
        /// How many attempts in a row have failed before.
        failures: u32,
    },
    /// It waits for other jobs to end.
    After {
        /// How many they are.
        parents: u32,
        /// The first of them, as far as that is known.
        first: Option<JobId>,
    },
    /// It is paused.
    Paused(Pause),
    /// No worker runs on this store.
    NoWorker,
    /// Workers run, and none of them listens to its queue.
    NoListener {
        /// The queue.
        queue: String,
    },
    /// Workers listen to its queue, and none of them knows its task.
    UnknownTask {
        /// The task.
        task: String,
        /// The queue.
        queue: String,
    },
    /// It was lost with a worker before, and waits for its turn: such jobs are started one after the other.
    Suspect,
    /// It waits for a slot: others are before it.
    InLine {
        /// How many jobs of its lane wait, this one among them.
        waiting: u64,
        /// How many jobs of its lane run.
        running: u64,
        /// How many jobs the workers run at once that take it, as far as they say.
        slots: usize,
    },
}

/// What is known beside a job.
struct Known {
    now: Timestamp,
    /// The first job that it waits for.
    parent: Option<JobId>,
    pauses: Vec<Pause>,
    workers: Vec<WorkerInfo>,
    lane: JobCounts,
}

impl<C> JobHandle<C> {
    /// Why the job does not run, in one sentence.
    ///
    /// ```
    /// use qtasks::{Scope, prelude::*};
    ///
    /// #[qtask(queue = "mail")]
    /// async fn remind(user: String) {}
    ///
    /// # #[tokio::main]
    /// # async fn main() -> qtasks::Result<()> {
    /// let app = QueueTasks::open("memory:").await?;
    /// let job = app.enqueue(remind("Ada".into())).await?;
    /// assert_eq!(job.why().await?.to_string(), "no worker runs on this store");
    /// app.pause(Scope::Queue("mail")).because("the provider is down").await?;
    /// assert!(job.why().await?.to_string().ends_with(": the provider is down"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchJob`](crate::Error::NoSuchJob), and [`Error::Store`](crate::Error::Store) when the store cannot be read.
    pub async fn why(&self) -> Result<Why> {
        let app = self.app();
        let job = app.job(self.id()).await?;
        if !matches!(job.standing.state, State::Waiting { .. }) {
            return Ok(why(&job, &Known::nothing(app.now())));
        }
        Ok(why(&job, &Known::of(app, &job).await?))
    }
}

impl Known {
    fn nothing(now: Timestamp) -> Self {
        Self { now, parent: None, pauses: Vec::new(), workers: Vec::new(), lane: JobCounts::default() }
    }

    async fn of(app: &Arc<App>, job: &Job) -> Result<Self> {
        let (pauses, workers, now) = (pauses(app).await?, workers(app).await?, app.now());
        let counts = patiently(&*app.store, || app.store.counts(now)).await?;
        let lane = Lane { queue: job.call.queue.clone(), task: job.call.task.clone() };
        let lane = counts.into_iter().find(|counts| counts.lane == lane).map(|counts| counts.jobs).unwrap_or_default();
        Ok(Self { now, parent: first_parent(app, job).await?, pauses, workers, lane })
    }
}

/// The first of the jobs that a job waits for.
async fn first_parent(app: &Arc<App>, job: &Job) -> Result<Option<JobId>> {
    if !matches!(job.standing.state, State::Waiting { parents: 1.., .. }) {
        return Ok(None);
    }
    for &parent in job.call.after.iter().flat_map(|after| &after.jobs) {
        let found = patiently(&*app.store, || app.store.standing(parent)).await?;
        if found.is_some_and(|(standing, _)| !standing.state.is_ended()) {
            return Ok(Some(parent));
        }
    }
    Ok(None)
}

fn why(job: &Job, known: &Known) -> Why {
    let (queue, task) = (&job.call.queue, &job.call.task);
    let due = match job.standing.state {
        State::Waiting { parents: parents @ 1.., .. } => return Why::After { parents, first: known.parent },
        State::Waiting { due, .. } => due,
        State::Running { .. } => return Why::Running,
        State::Done { .. } | State::Dead { .. } | State::Cancelled { .. } => {
            return Why::Ended { state: job.standing.state.kind(), at: job.ended };
        }
    };
    if let Some(pause) = known.pauses.iter().find(|pause| pause.keeps(queue, task, known.now)) {
        return Why::Paused(pause.clone());
    }
    if due > known.now {
        return Why::NotDue { due, wait: due.duration_since(known.now), failures: job.standing.failures };
    }
    let alive = || known.workers.iter().filter(|worker| !worker.gone);
    if alive().next().is_none() {
        return Why::NoWorker;
    }
    // A worker without a card may take anything.
    let listens = |worker: &&WorkerInfo| worker.card.as_ref().is_none_or(|card| card.queues.contains(queue));
    let knows = |worker: &&WorkerInfo| worker.card.as_ref().is_none_or(|card| card.tasks.contains(task));
    if !alive().any(|worker| listens(&worker)) {
        return Why::NoListener { queue: queue.clone() };
    }
    let takers = || alive().filter(listens).filter(knows);
    if takers().next().is_none() {
        return Why::UnknownTask { task: task.clone(), queue: queue.clone() };
    }
    if job.standing.suspect.is_some() {
        return Why::Suspect;
    }
    let slots = takers().filter_map(|worker| Some(worker.card.as_ref()?.concurrency)).sum();
    Why::InLine { waiting: known.lane.waiting, running: known.lane.running, slots }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended { state, at: Some(at) } => write!(f, "it has ended: it is {state} since {at:.0}"),
            Self::Ended { state, at: None } => write!(f, "it has ended: it is {state}"),
            Self::Running => f.write_str("it runs"),
            Self::NotDue { due, wait, failures } => {
                let wait = rounded(*wait);
                match failures {
                    0 => write!(f, "it is due in {wait:#}, at {due:.0}"),
                    1 => write!(f, "its last attempt failed, and the next one is due in {wait:#}, at {due:.0}"),
                    failures => {
                        write!(f, "its last {failures} attempts failed, and the next one is due in {wait:#}, at {due:.0}")
                    }
                }
            }
            Self::After { parents: 1, first: Some(first) } => write!(f, "it waits for the end of job {first}"),
            Self::After { parents, first: Some(first) } => {
                write!(f, "it waits for the end of {parents} jobs; the first of them is {first}")
            }
            Self::After { parents, first: None } => write!(f, "it waits for the end of other jobs: {parents}"),
            Self::Paused(pause) => pause.fmt(f),
            Self::NoWorker => f.write_str("no worker runs on this store"),
            Self::NoListener { queue } => write!(f, "no running worker listens to the queue `{queue}`"),
            Self::UnknownTask { task, queue } => {
                write!(f, "no running worker that listens to the queue `{queue}` knows the task `{task}`")
            }
            Self::Suspect => f.write_str(
                "its worker was lost while it ran, so it waits for a turn of its own: such jobs are started one after the other",
            ),
            Self::InLine { waiting: 0 | 1, running, .. } => {
                write!(f, "it is next of its task in this queue, of which {} now", run(*running))
            }
            Self::InLine { waiting, running, slots } => write!(
                f,
                "{waiting} jobs of its task wait in this queue and {}, on workers that run {slots} jobs at once",
                run(*running)
            ),
        }
    }
}

fn run(jobs: u64) -> String {
    match jobs {
        0 => "none runs".to_owned(),
        1 => "1 runs".to_owned(),
        jobs => format!("{jobs} run"),
    }
}

/// A time to the second, if it is no less.
fn rounded(time: SignedDuration) -> SignedDuration {
    if time.as_secs() > 0 { SignedDuration::from_secs(time.as_secs()) } else { time }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        card::WorkerCard,
        job::{Counts, JobCall, Standing, Suspect, WorkerId},
        json::Json,
        pause::Scope,
    };

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn job(state: State) -> Job {
        let call = JobCall {
            id: JobId::new(),
            task: "send".into(),
            queue: "mail".into(),
            priority: 0,
            args: Json::from_stored("{}"),
            max_time: None,
            enqueued: second(0),
            expires: None,
            trace: None,
            key: None,
            after: None,
        };
        Job {
            call,
            standing: Standing { state, ..Standing::waiting(second(0)) },
            counts: Counts::default(),
            ended: None,
        }
    }

    fn waits(due: i64) -> Job {
        job(State::waiting(second(due)))
    }

    fn worker(queues: &[&str], tasks: &[&str]) -> WorkerInfo {
        let [queues, tasks] = [queues, tasks].map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let card = WorkerCard {
            host: None,
            process: 1,
            program: None,
            started: second(0),
            queues,
            tasks,
            schedules: Vec::new(),
            concurrency: 8,
            version: String::new(),
        };
        WorkerInfo { id: WorkerId::new(), card: Some(card), holds: false, gone: false }
    }

    fn text(job: &Job, workers: Vec<WorkerInfo>) -> String {
        let lane = JobCounts { waiting: 3, running: 2, ..JobCounts::default() };
        why(job, &Known { workers, lane, ..Known::nothing(second(9)) }).to_string()
    }

    #[test]
    fn each_reason_is_a_sentence() {
        let dead = Job { ended: Some(second(5)), ..job(State::Dead { error: "no".into() }) };
        assert_eq!(text(&dead, vec![]), "it has ended: it is dead since 2023-11-14T22:13:25Z");
        assert_eq!(
            text(&job(State::Running { worker: WorkerId::new(), due: Timestamp::UNIX_EPOCH }), vec![]),
            "it runs"
        );
        assert_eq!(text(&waits(99), vec![]), "it is due in 1m 30s, at 2023-11-14T22:14:59Z");
        let mut failed = waits(10);
        failed.standing.failures = 1;
        assert_eq!(
            text(&failed, vec![]),
            "its last attempt failed, and the next one is due in 1s, at 2023-11-14T22:13:30Z"
        );
        assert_eq!(text(&waits(0), vec![]), "no worker runs on this store");
        let gone = WorkerInfo { gone: true, ..worker(&["mail"], &["send"]) };
        assert_eq!(text(&waits(0), vec![gone.clone()]), "no worker runs on this store");
        let elsewhere = worker(&["default"], &["send"]);
        assert_eq!(text(&waits(0), vec![gone, elsewhere.clone()]), "no running worker listens to the queue `mail`");
        assert_eq!(
            text(&waits(0), vec![elsewhere, worker(&["mail"], &["other"])]),
            "no running worker that listens to the queue `mail` knows the task `send`"
        );
        let takers = || vec![worker(&["mail"], &["send"]), worker(&["mail", "x"], &["send"])];
        assert_eq!(
            text(&waits(0), takers()),
            "3 jobs of its task wait in this queue and 2 run, on workers that run 16 jobs at once"
        );
        let mut suspect = waits(0);
        suspect.standing.suspect = Some(Suspect::default());
        assert_eq!(
            text(&suspect, takers()),
            "its worker was lost while it ran, so it waits for a turn of its own: such jobs are started one after the other"
        );
        let unknown = WorkerInfo { card: None, ..worker(&[], &[]) };
        let in_line = why(&waits(0), &Known { workers: vec![unknown], ..Known::nothing(second(9)) });
        assert_eq!(in_line.to_string(), "it is next of its task in this queue, of which none runs now");
    }

    #[test]
    fn what_waits_for_others_says_for_which() {
        let text = |parents, first| {
            why(&job(State::Waiting { due: second(0), parents }), &Known { parent: first, ..Known::nothing(second(9)) })
                .to_string()
        };
        let first = JobId::from_bytes([1; 16]);
        assert_eq!(text(1, Some(first)), format!("it waits for the end of job {first}"));
        assert_eq!(text(3, Some(first)), format!("it waits for the end of 3 jobs; the first of them is {first}"));
        assert_eq!(text(2, None), "it waits for the end of other jobs: 2");
    }

    #[test]
    fn a_pause_is_the_first_reason() {
        let pauses = vec![Pause::new(Scope::Task("send"), second(1))];
        let known = Known { pauses, ..Known::nothing(second(9)) };
        let expected = "the task `send` is paused since 2023-11-14T22:13:21Z";
        assert_eq!(why(&waits(99), &known).to_string(), expected);
        assert_eq!(
            why(&job(State::Running { worker: WorkerId::new(), due: Timestamp::UNIX_EPOCH }), &known),
            Why::Running
        );
    }
}
