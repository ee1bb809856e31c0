//! What becomes of a job: the only place where that is decided.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    job::{Ending, NextState, Output, Standing, State, Suspect},
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
    /// The worker gives the job back before it has started: it waits as it did.
    GivenBack,
}

/// What is to become of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Its next state.
    pub next: NextState,
    /// Its failures in a row from now on.
    pub failures: u32,
    /// Whether it is a [suspect](Standing::suspect) from now on, and what is known of it. It does not run any more, so that it is
    /// neither leased nor liable.
    pub suspect: Option<Suspect>,
}

impl Outcome {
    /// How a job stands from now on whose latest attempt had this number.
    pub fn standing(self, attempt: u32) -> Standing {
        Standing { state: self.next.into(), attempt, failures: self.failures, suspect: self.suspect }
    }
}

/// Says what becomes of a job, which stands so `before`, after an attempt that came to `verdict`, and why the attempt ended.
///
/// `progressed` tells whether the attempt made a new step durable, which forgives earlier failures; `chance`, in
/// `0.0..1.0`, spreads the delay.
pub fn settle(
    before: &Standing,
    verdict: Verdict,
    progressed: bool,
    retry: &Retry,
    chance: f64,
    now: Timestamp,
) -> (Outcome, Ending) {
    let failures = if progressed { 0 } else { before.failures };
    let came_to = |next, failures, ending| (came_to(before, next, failures, progressed), ending);
    match verdict {
        Verdict::Done(output) => came_to(NextState::Done { output }, failures, Ending::Done),
        Verdict::Failed { error, wait, again } => {
            let failures = failures.saturating_add(1);
            let next = if again && failures <= retry.limit {
                NextState::Waiting { due: later(now, wait.unwrap_or_else(|| retry.delay(failures, chance))) }
            } else {
                NextState::Dead { error: error.clone() }
            };
            came_to(next, failures, Ending::Failed { error })
        }
        Verdict::Snoozed(wait) => came_to(NextState::Waiting { due: later(now, wait) }, failures, Ending::Snoozed),
        Verdict::Cancelled(reason) => {
            came_to(NextState::Cancelled { reason: reason.clone() }, failures, Ending::Cancelled { reason })
        }
        Verdict::Discarded(reason) => {
            came_to(NextState::Dead { error: reason.clone() }, failures, Ending::Discarded { reason })
        }
        Verdict::Released => came_to(NextState::Waiting { due: now }, failures, Ending::Released),
        Verdict::GivenBack => {
            let due = match before.state {
                State::Waiting { due, .. } | State::Running { due, .. } => due,
                State::Done { .. } | State::Dead { .. } | State::Cancelled { .. } => now,
            };
            came_to(NextState::Waiting { due }, failures, Ending::Released)
        }
    }
}

/// A suspect stays one until it ends, and what it has survived is not forgotten.
fn came_to(before: &Standing, next: NextState, failures: u32, progressed: bool) -> Outcome {
    let suspect = before.suspect.filter(|_| !next.is_ended());
    let suspect = suspect.map(|Suspect { survived, losses, .. }| Suspect {
        survived,
        losses: if progressed { 0 } else { losses },
        ..Suspect::default()
    });
    Outcome { next, failures, suspect }
}

/// Says what becomes of a job that runs, and stands so `before`, whose worker is gone. `retry` is that of its task, if this
/// program knows it.
///
/// The first time it is not known whether the job had been started at all, or which of the jobs that the worker held has
/// killed it: each is due again at once, uncharged, and a [suspect](Suspect) from now on. A suspect is charged if it was
/// [liable](Suspect::liable). As many failures as `retry` forgives end it, one at least; before that it is due again at
/// once. A program that does not know the task cannot tell, and leaves the end to one that does.
pub fn lost(before: &Standing, retry: Option<&Retry>, now: Timestamp) -> Outcome {
    let suspect = before.suspect.unwrap_or_default();
    let failures = before.failures.saturating_add(u32::from(suspect.liable));
    if suspect.liable && retry.is_some_and(|retry| failures >= retry.limit.max(1)) {
        let error =
            format!("its worker was lost while it ran, failure {failures} in a row: it may be what kills its workers");
        return Outcome { next: NextState::Dead { error }, failures, suspect: None };
    }
    let suspect = Suspect {
        survived: suspect.survived.max(lived(&suspect, now)),
        losses: suspect.losses.saturating_add(1),
        ..Suspect::default()
    };
    Outcome { next: NextState::Waiting { due: now }, failures, suspect: Some(suspect) }
}

/// How long a suspect has lived whose worker is gone, as far as that is known: the time at which a loss is found may be days
/// later, and clocks may have been set. While it had the turn, that is no longer than the turn; and otherwise no longer than
/// two of them, so that a loss makes a turn four times as long at most.
fn lived(suspect: &Suspect, now: Timestamp) -> Duration {
    let lived = suspect.leased.and_then(|leased| now.duration_since(leased).try_into().ok()).unwrap_or_default();
    let turns = if suspect.liable { 1 } else { 2 };
    Duration::min(lived, suspect.turn().saturating_mul(turns))
}

/// Says what becomes of a job, which stands so `before`, when a user calls it off, and why the attempt ended if one ran;
/// nothing when it has ended already.
pub fn cancel(before: &Standing, reason: &str) -> Option<(Outcome, Ending)> {
    let outcome = |reason| Outcome { next: NextState::Cancelled { reason }, failures: before.failures, suspect: None };
    let has_ended = before.state.is_ended();
    (!has_ended).then(|| (outcome(reason.to_owned()), Ending::Cancelled { reason: reason.to_owned() }))
}

/// Says why a job that was due at `due`, and was never started, is not started any more at `now`; nothing while it still is.
pub fn expire(expires: Option<Duration>, due: Timestamp, now: Timestamp) -> Option<String> {
    let expires = expires.filter(|expires| later(due, *expires) <= now)?;
    let within = SignedDuration::try_from(expires).unwrap_or(SignedDuration::MAX);
    Some(format!("expired: not started within {within:#}"))
}

/// Says what becomes of a job, which stands so `before`, when a user has it tried again; nothing unless it is dead or cancelled.
pub fn retry(before: &Standing, now: Timestamp) -> Option<Outcome> {
    matches!(before.state, State::Dead { .. } | State::Cancelled { .. }).then_some(Outcome {
        next: NextState::Waiting { due: now },
        failures: 0,
        suspect: None,
    })
}

/// `wait` after `now`; a wait without end leads to the last moment there is.
pub fn later(now: Timestamp, wait: Duration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::json::Json;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn stands(failures: u32, state: State) -> Standing {
        Standing { state, attempt: 1, failures, suspect: None }
    }

    fn running(failures: u32) -> Standing {
        stands(failures, State::Running { worker: crate::model::job::WorkerId::new(), due: Timestamp::UNIX_EPOCH })
    }

    /// What [`super::settle`] says becomes of the job.
    fn settle(
        before: &Standing,
        verdict: Verdict,
        progressed: bool,
        retry: &Retry,
        chance: f64,
        now: Timestamp,
    ) -> Outcome {
        super::settle(before, verdict, progressed, retry, chance, now).0
    }

    fn failed(before: &Standing, progressed: bool) -> Outcome {
        let verdict = Verdict::Failed { error: "no".into(), wait: None, again: true };
        settle(before, verdict, progressed, &Retry::DEFAULT, 1.0, NOW)
    }

    #[test]
    fn three_failures_are_forgiven_and_the_fourth_is_not() {
        for before in 0..3 {
            let outcome = failed(&running(before), false);
            let due = NOW + Duration::from_secs(1 << before);
            assert_eq!((outcome.next, outcome.failures), (NextState::Waiting { due }, before + 1));
        }
        let outcome = failed(&running(3), false);
        assert_eq!((outcome.next, outcome.failures), (NextState::Dead { error: "no".into() }, 4));
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
        assert_eq!(outcome.next, NextState::Waiting { due: NOW + Duration::from_secs(7) });
    }

    #[test]
    fn an_error_that_no_try_can_mend_ends_the_job() {
        let verdict = Verdict::Failed { error: "no".into(), wait: None, again: false };
        let outcome = settle(&running(0), verdict, false, &Retry::DEFAULT, 1.0, NOW);
        assert_eq!(outcome.next, NextState::Dead { error: "no".into() });
    }

    #[test]
    fn snoozing_releasing_and_losing_cost_no_failure() {
        let before = running(2);
        let snoozed = settle(&before, Verdict::Snoozed(Duration::from_secs(5)), false, &Retry::DEFAULT, 1.0, NOW);
        assert_eq!(snoozed.next, NextState::Waiting { due: NOW + Duration::from_secs(5) });
        let released = settle(&before, Verdict::Released, false, &Retry::DEFAULT, 1.0, NOW);
        assert_eq!(released.next, NextState::Waiting { due: NOW });
        assert_eq!([snoozed.failures, released.failures, lost(&before, Some(&Retry::DEFAULT), NOW).failures], [2; 3]);
    }

    #[test]
    fn what_is_given_back_unstarted_waits_since_it_was_due() {
        let later = NOW + Duration::from_secs(60);
        let given_back = settle(&running(1), Verdict::GivenBack, false, &Retry::DEFAULT, 1.0, later);
        assert_eq!((given_back.next, given_back.failures), (NextState::Waiting { due: NOW }, 1));
    }

    /// A suspect that runs alone since `NOW`.
    fn liable(suspect: Suspect) -> Option<Suspect> {
        Some(Suspect { leased: Some(NOW), liable: true, ..suspect })
    }

    #[test]
    fn the_first_loss_makes_a_suspect_and_further_ones_are_charged_until_it_is_dead() {
        for (limit, losses) in [(0, 2), (1, 2), (2, 3), (3, 4)] {
            let (retry, mut before) = (Retry { limit, ..Retry::DEFAULT }, running(0));
            for loss in 1..losses {
                let outcome = lost(&before, Some(&retry), NOW);
                assert_eq!(outcome.next, NextState::Waiting { due: NOW });
                let suspect = outcome.suspect.unwrap();
                assert_eq!((outcome.failures, suspect.losses), (loss - 1, loss), "loss {loss} of {losses}");
                (before.failures, before.suspect) = (outcome.failures, liable(suspect));
            }
            let last = lost(&before, Some(&retry), NOW);
            let NextState::Dead { error } = last.next else { panic!("not dead after {losses} losses: {last:?}") };
            let said = format!("its worker was lost while it ran, failure {} in a row", losses - 1);
            assert!(error.starts_with(&said), "{error}");
            assert_eq!(last.suspect, None, "what has ended is no suspect");
        }
    }

    #[test]
    fn a_suspect_that_is_not_liable_is_not_charged() {
        let beside = Suspect { losses: 2, leased: Some(NOW), ..Suspect::default() };
        let outcome = lost(&Standing { suspect: Some(beside), ..running(2) }, Some(&Retry::DEFAULT), NOW);
        assert_eq!((outcome.failures, outcome.suspect.unwrap().losses), (2, 3));
    }

    #[test]
    fn a_program_that_does_not_know_the_task_charges_a_loss_and_never_ends_the_job() {
        let mut before = Standing { suspect: liable(Suspect::default()), ..running(0) };
        for failures in 1..100 {
            let outcome = lost(&before, None, NOW);
            assert_eq!((outcome.next, outcome.failures), (NextState::Waiting { due: NOW }, failures));
            (before.failures, before.suspect) = (outcome.failures, liable(outcome.suspect.unwrap()));
        }
    }

    #[test]
    fn a_suspect_keeps_the_longest_it_has_survived() {
        let after = |suspect, seconds| {
            let now = NOW + Duration::from_secs(seconds);
            lost(&Standing { suspect: Some(suspect), ..running(0) }, None, now).suspect.unwrap().survived.as_secs()
        };
        let beside = Suspect { survived: Duration::from_secs(7), losses: 1, leased: Some(NOW), liable: false };
        assert_eq!([3, 25, 90_000].map(|seconds| after(beside, seconds)), [7, 25, 28]);
        let alone = Suspect { liable: true, ..beside };
        assert_eq!(
            [3, 9, 90].map(|seconds| after(alone, seconds)),
            [7, 9, 14],
            "a clock that is set makes no survivor"
        );
        let set_back = Suspect { leased: Some(NOW + Duration::from_secs(3600)), ..beside };
        assert_eq!(after(set_back, 1), 7);
    }

    #[test]
    fn a_turn_lasts_twice_what_was_survived_or_longer_with_each_loss() {
        let turn = |survived, losses| {
            let suspect = Suspect { survived: Duration::from_secs(survived), losses, ..Suspect::default() };
            suspect.turn().as_secs()
        };
        assert_eq!([turn(0, 0), turn(0, 1), turn(0, 2), turn(0, 4)], [5, 5, 10, 40]);
        assert_eq!([turn(4, 1), turn(30, 1), turn(30, 5)], [8, 60, 80]);
        assert!(turn(u64::MAX, u32::MAX) > 0);
    }

    #[test]
    fn a_suspect_stays_one_until_it_ends_or_a_user_has_it_tried_again() {
        let known = Suspect { survived: Duration::from_secs(3), losses: 2, ..Suspect::default() };
        let suspect = Standing { suspect: liable(known), ..running(1) };
        let after = |verdict, progressed| settle(&suspect, verdict, progressed, &Retry::DEFAULT, 1.0, NOW).suspect;
        assert_eq!(after(Verdict::Failed { error: "no".into(), wait: None, again: true }, false), Some(known));
        assert_eq!(after(Verdict::Snoozed(Duration::ZERO), false), Some(known));
        assert_eq!(after(Verdict::Released, true), Some(Suspect { losses: 0, ..known }));
        assert_eq!(after(Verdict::Done(Output::Value(Json::from_stored("1"))), true), None);
        assert_eq!(after(Verdict::Discarded("no".into()), false), None);
        assert_eq!(after(Verdict::Cancelled("no".into()), false), None);
        let dead = Standing { suspect: Some(known), ..stands(4, State::Dead { error: "no".into() }) };
        assert_eq!(retry(&dead, NOW).unwrap().suspect, None);
    }

    #[test]
    fn a_job_expires_that_was_not_started_in_time_and_says_how_long_that_was() {
        let due = NOW + Duration::from_secs(5);
        let after = |expires, seconds| expire(expires, due, due + Duration::from_millis(seconds));
        let ten_minutes = Some(Duration::from_secs(600));
        assert_eq!(after(ten_minutes, 599_999), None);
        assert_eq!(after(ten_minutes, 600_000).unwrap(), "expired: not started within 10m");
        assert_eq!(
            after(Some(Duration::from_millis(90_500)), 90_500).unwrap(),
            "expired: not started within 1m 30s 500ms"
        );
        assert_eq!(expire(ten_minutes, due, NOW), None, "before it is due");
        assert_eq!(expire(None, due, Timestamp::MAX), None);
    }

    #[test]
    fn a_snooze_without_end_is_the_last_moment_there_is() {
        let outcome = settle(&running(0), Verdict::Snoozed(Duration::MAX), false, &Retry::DEFAULT, 1.0, NOW);
        assert_eq!(outcome.next, NextState::Waiting { due: Timestamp::MAX });
    }

    #[test]
    fn what_has_ended_cannot_be_cancelled_and_what_has_not_cannot_be_retried() {
        let done = stands(0, State::Done { output: Output::Value(Json::from_stored("1")) });
        let dead = stands(4, State::Dead { error: "no".into() });
        let waiting = stands(0, State::waiting(NOW));
        assert_eq!(cancel(&done, "stop"), None);
        assert_eq!(cancel(&dead, "stop"), None);
        assert!(cancel(&waiting, "stop").is_some() && cancel(&running(0), "stop").is_some());
        assert_eq!(retry(&done, NOW), None);
        assert_eq!(retry(&waiting, NOW), None);
        assert_eq!(retry(&dead, NOW).unwrap().failures, 0);
    }
}
