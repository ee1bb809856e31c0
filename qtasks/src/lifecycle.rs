//! What becomes of a job: the only place where that is decided.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    job::{Ending, Job, Output, State},
    retry::Retry,
};

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The body came to its end.
    Done(Output),
    /// An error, a panic, or `max_time` passed.
    Failed {
        /// The text of the error.
        error: String,
        /// The wait that the task asked for, in place of the policy's.
        wait: Option<Duration>,
        /// Whether a further try makes sense at all.
        again: bool,
    },
    /// The task wants to go on later; no failure.
    Snoozed(Duration),
    /// The task called the job off.
    Cancelled(String),
    /// The task gave the job up.
    Discarded(String),
    /// The worker stops and gives the job back; no failure.
    Released,
}

/// What is to become of a job, and what its history says of the attempt that ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Its next state.
    pub next: State,
    /// Its failures in a row from now on.
    pub failures: u32,
    /// Whether it is a [suspect](Job::suspect) from now on.
    pub suspect: bool,
    /// Why the attempt ended.
    pub ending: Ending,
}

/// Says what becomes of `job` after an attempt that came to `verdict`.
///
/// `progressed` tells whether the attempt made a new step durable, which forgives earlier failures; `chance`, in
/// `0.0..1.0`, spreads the delay.
pub fn settle(job: &Job, verdict: Verdict, progressed: bool, retry: &Retry, chance: f64, now: Timestamp) -> Outcome {
    let before = if progressed { 0 } else { job.failures };
    match verdict {
        Verdict::Done(output) => came_to(job, State::Done { output }, before, Ending::Done),
        Verdict::Failed { error, wait, again } => {
            let failures = before.saturating_add(1);
            let next = if again && failures <= retry.limit {
                State::Waiting { due: later(now, wait.unwrap_or_else(|| retry.delay(failures, chance))) }
            } else {
                State::Dead { error: error.clone() }
            };
            came_to(job, next, failures, Ending::Failed { error })
        }
        Verdict::Snoozed(wait) => came_to(job, State::Waiting { due: later(now, wait) }, before, Ending::Snoozed),
        Verdict::Cancelled(reason) => {
            came_to(job, State::Cancelled { reason: reason.clone() }, before, Ending::Cancelled { reason })
        }
        Verdict::Discarded(reason) => {
            came_to(job, State::Dead { error: reason.clone() }, before, Ending::Discarded { reason })
        }
        Verdict::Released => came_to(job, State::Waiting { due: now }, before, Ending::Released),
    }
}

/// A suspect stays one until it ends.
fn came_to(job: &Job, next: State, failures: u32, ending: Ending) -> Outcome {
    Outcome { suspect: job.suspect && !next.is_ended(), next, failures, ending }
}

/// Says what becomes of a running `job` whose worker is gone.
///
/// The first time nobody knows whether the job had been started at all, or which of the jobs that the worker held has
/// killed it: each is due again at once, uncharged, and a suspect from now on. A suspect is leased only to be started at
/// once, so its loss is a failure. As many as `retry` forgives end it, one at least; before that it is due again at once.
pub fn lost(job: &Job, retry: &Retry, now: Timestamp) -> Outcome {
    let failures = job.failures.saturating_add(u32::from(job.suspect));
    if job.suspect && failures >= retry.limit.max(1) {
        let error =
            format!("its worker was lost while it ran, failure {failures} in a row: it may be what kills its workers");
        return came_to(job, State::Dead { error }, failures, Ending::Lost);
    }
    Outcome { next: State::Waiting { due: now }, failures, suspect: true, ending: Ending::Lost }
}

/// Says what becomes of `job` when a user calls it off; nothing when it has ended already.
pub fn cancel(job: &Job, reason: &str) -> Option<Outcome> {
    (!job.state.is_ended()).then(|| Outcome {
        next: State::Cancelled { reason: reason.to_owned() },
        failures: job.failures,
        suspect: false,
        ending: Ending::Cancelled { reason: reason.to_owned() },
    })
}

/// Says what becomes of `job` when a user has it tried again; nothing unless it is dead or cancelled.
pub fn retry(job: &Job, now: Timestamp) -> Option<Outcome> {
    matches!(job.state, State::Dead { .. } | State::Cancelled { .. }).then_some(Outcome {
        next: State::Waiting { due: now },
        failures: 0,
        suspect: false,
        ending: Ending::Released,
    })
}

/// `wait` after `now`; a wait without end leads to the last moment there is.
pub fn later(now: Timestamp, wait: Duration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{job::JobId, json::Json};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn job(failures: u32, state: State) -> Job {
        Job {
            id: JobId::new(),
            task: "t".into(),
            queue: "default".into(),
            priority: 0,
            args: Json::from_stored("{}"),
            max_time: None,
            enqueued: NOW,
            state,
            attempt: 1,
            failures,
            suspect: false,
            steps: 0,
            skipped: 0,
            memos: 0,
            progress: None,
        }
    }

    fn running(failures: u32) -> Job {
        job(failures, State::Running { worker: crate::job::WorkerId::new() })
    }

    fn failed(job: &Job, progressed: bool) -> Outcome {
        let verdict = Verdict::Failed { error: "no".into(), wait: None, again: true };
        settle(job, verdict, progressed, &Retry::DEFAULT, 1.0, NOW)
    }

    #[test]
    fn three_failures_are_forgiven_and_the_fourth_is_not() {
        for before in 0..3 {
            let outcome = failed(&running(before), false);
            let due = NOW + Duration::from_secs(1 << before);
            assert_eq!((outcome.next, outcome.failures), (State::Waiting { due }, before + 1));
        }
        let outcome = failed(&running(3), false);
        assert_eq!((outcome.next, outcome.failures), (State::Dead { error: "no".into() }, 4));
    }

    #[test]
    fn a_new_step_forgives_earlier_failures() {
        assert_eq!(failed(&running(3), true).failures, 1);
    }

    #[test]
    fn a_task_that_names_its_wait_gets_it() {
        let wait = Some(Duration::from_secs(7));
        let verdict = Verdict::Failed { error: "no".into(), wait, again: true };
        let outcome = settle(&running(0), verdict, false, &Retry::DEFAULT, 1.0, NOW);
        assert_eq!(outcome.next, State::Waiting { due: NOW + Duration::from_secs(7) });
    }

    #[test]
    fn an_error_that_no_try_can_mend_ends_the_job() {
        let verdict = Verdict::Failed { error: "no".into(), wait: None, again: false };
        let outcome = settle(&running(0), verdict, false, &Retry::DEFAULT, 1.0, NOW);
        assert_eq!(outcome.next, State::Dead { error: "no".into() });
    }

    #[test]
    fn snoozing_releasing_and_losing_cost_no_failure() {
        let job = running(2);
        let snoozed = settle(&job, Verdict::Snoozed(Duration::from_secs(5)), false, &Retry::DEFAULT, 1.0, NOW);
        assert_eq!(snoozed.next, State::Waiting { due: NOW + Duration::from_secs(5) });
        let released = settle(&job, Verdict::Released, false, &Retry::DEFAULT, 1.0, NOW);
        assert_eq!(released.next, State::Waiting { due: NOW });
        assert_eq!([snoozed.failures, released.failures, lost(&job, &Retry::DEFAULT, NOW).failures], [2; 3]);
    }

    #[test]
    fn the_first_loss_makes_a_suspect_and_further_ones_are_charged_until_it_is_dead() {
        for (limit, losses) in [(0, 2), (1, 2), (2, 3), (3, 4)] {
            let (retry, mut job) = (Retry { limit, ..Retry::DEFAULT }, running(0));
            for loss in 1..losses {
                let outcome = lost(&job, &retry, NOW);
                assert_eq!((outcome.next, outcome.ending), (State::Waiting { due: NOW }, Ending::Lost));
                assert_eq!((outcome.failures, outcome.suspect), (loss - 1, true), "loss {loss} of {losses}");
                (job.failures, job.suspect) = (outcome.failures, outcome.suspect);
            }
            let last = lost(&job, &retry, NOW);
            let State::Dead { error } = last.next else { panic!("not dead after {losses} losses: {last:?}") };
            let said = format!("its worker was lost while it ran, failure {} in a row", losses - 1);
            assert!(error.starts_with(&said), "{error}");
            assert!(!last.suspect, "what has ended is no suspect");
        }
    }

    #[test]
    fn a_suspect_stays_one_until_it_ends_or_a_user_has_it_tried_again() {
        let suspect = Job { suspect: true, ..running(1) };
        let after = |verdict| settle(&suspect, verdict, true, &Retry::DEFAULT, 1.0, NOW).suspect;
        assert!(after(Verdict::Failed { error: "no".into(), wait: None, again: true }));
        assert!(after(Verdict::Snoozed(Duration::ZERO)) && after(Verdict::Released));
        assert!(!after(Verdict::Done(Output::Value(Json::from_stored("1")))));
        assert!(!after(Verdict::Discarded("no".into())) && !after(Verdict::Cancelled("no".into())));
        let dead = Job { suspect: true, ..job(4, State::Dead { error: "no".into() }) };
        assert!(!retry(&dead, NOW).unwrap().suspect);
    }

    #[test]
    fn a_snooze_without_end_is_the_last_moment_there_is() {
        let outcome = settle(&running(0), Verdict::Snoozed(Duration::MAX), false, &Retry::DEFAULT, 1.0, NOW);
        assert_eq!(outcome.next, State::Waiting { due: Timestamp::MAX });
    }

    #[test]
    fn what_has_ended_cannot_be_cancelled_and_what_has_not_cannot_be_retried() {
        let done = job(0, State::Done { output: Output::Value(Json::from_stored("1")) });
        let dead = job(4, State::Dead { error: "no".into() });
        let waiting = job(0, State::Waiting { due: NOW });
        assert_eq!(cancel(&done, "stop"), None);
        assert_eq!(cancel(&dead, "stop"), None);
        assert!(cancel(&waiting, "stop").is_some() && cancel(&running(0), "stop").is_some());
        assert_eq!(retry(&done, NOW), None);
        assert_eq!(retry(&waiting, NOW), None);
        assert_eq!(retry(&dead, NOW).unwrap().failures, 0);
    }
}
