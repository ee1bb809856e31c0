//! Each promise broken by hand, and found to be broken.

use std::collections::BTreeSet;

use qtasks::job::{Ending, WorkerId};
use serde_json::json;

use super::*;

/// A job of two steps that one attempt handled; each test breaks it in one place.
struct Scene {
    job: JobId,
    worker: WorkerId,
    events: Vec<Event>,
    fate: Fate,
    expected: Expected,
}

impl Scene {
    fn new() -> Self {
        let (job, worker) = (JobId::new(), WorkerId::new());
        let step = |seq: u64| Item::Value(json!(seq * 10));
        let mut events = vec![
            Event::Enqueued { job },
            Event::Opened { stream: 1, job, from: 0 },
            Event::Opened { stream: 2, job, from: 1 },
            Event::Leased { job, attempt: 1, worker },
        ];
        for seq in 0..2 {
            events.extend([
                Event::Begun { job, seq, attempt: 1, value: json!(seq) },
                Event::Returned { job, seq, attempt: 1 },
                Event::Durable { job, seq, attempt: Some(1) },
                Event::Item { stream: 1, item: step(seq) },
            ]);
        }
        events.extend([
            Event::Settled { job, attempt: Some(1), state: "done".into() },
            Event::Item { stream: 2, item: step(1) },
            Event::Closed { stream: 1, end: End::Job("done".into()) },
            Event::Closed { stream: 2, end: End::Job("done".into()) },
            Event::Result { job, result: json!([0, 10]) },
        ]);
        let fate = Fate {
            state: "done".into(),
            result: Some(json!([0, 10])),
            attempt: 1,
            failures: 0,
            steps: vec![(0, step(0)), (1, step(1))],
            attempts: vec![(1, Ending::Done)],
        };
        let expected = Expected {
            state: "done".into(),
            result: fate.result.clone(),
            steps: vec![step(0), step(1)],
            failures: 0,
            ahead: Some(1),
        };
        Self { job, worker, events, fate, expected }
    }

    fn after(&mut self, found: impl Fn(&Event) -> bool, events: impl IntoIterator<Item = Event>) {
        let at = self.events.iter().position(found).unwrap() + 1;
        self.events.splice(at..at, events);
    }

    fn verdict(&self) -> Verdict {
        check(&self.events, &[(self.job, self.fate.clone())].into(), &[(self.job, self.expected.clone())].into())
    }

    /// The promises that are broken, each once, with the sentence that says how.
    fn broken(&self) -> Vec<(Promise, String)> {
        let id = self.job.to_string();
        let mut broken: Vec<_> = self
            .verdict()
            .violations
            .into_iter()
            .map(|violation| (violation.promise, violation.what.replace(&id, "J")))
            .collect();
        broken.dedup_by_key(|broken| broken.0);
        broken
    }
}

fn is_durable(step: u64) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Durable { seq, .. } if *seq == step)
}

fn is_settled(event: &Event) -> bool {
    matches!(event, Event::Settled { .. })
}

#[test]
fn a_run_without_fault_breaks_no_promise() {
    let verdict = Scene::new().verdict();
    assert_eq!(
        verdict.to_string(),
        "1 jobs, 2 values, 2 handler calls; lost: 0, handled again after the record: 0, handled again while in flight: \
         0; 2 streams"
    );
}

#[test]
fn a_value_in_flight_at_a_crash_may_be_handled_again() {
    let mut scene = Scene::new();
    let (job, worker) = (scene.job, scene.worker);
    let lost = [
        Event::Begun { job, seq: 1, attempt: 1, value: json!(1) },
        Event::Killed { worker },
        Event::Settled { job, attempt: None, state: "waiting".into() },
        Event::Leased { job, attempt: 2, worker: WorkerId::new() },
        Event::Begun { job, seq: 1, attempt: 2, value: json!(1) },
    ];
    scene.events.retain(|event| !matches!(event, Event::Begun { seq: 1, .. } | Event::Durable { seq: 1, .. }));
    scene.events.iter_mut().for_each(|event| {
        if let Event::Settled { attempt, .. } = event {
            *attempt = Some(2);
        }
    });
    scene.after(is_durable(0), lost);
    let verdict = scene.verdict();
    assert_eq!((verdict.again_after_record, verdict.again_in_flight), (0, 1));
    assert_eq!(scene.broken(), []);
}

#[test]
fn i1_a_lost_enqueue_is_found() {
    let mut scene = Scene::new();
    let job = JobId::new();
    scene.events.push(Event::Enqueued { job });
    assert_eq!(scene.broken(), [(Promise::I1, format!("job {job} was acknowledged and is not there"))]);
    assert_eq!(scene.verdict().lost, 1);
}

#[test]
fn i2_a_job_that_never_ends_is_found() {
    let mut scene = Scene::new();
    scene.fate.state = "running".into();
    assert_eq!(scene.broken()[0], (Promise::I2, "job J never ended: it is running, at attempt 1".into()));
}

#[test]
fn i3_a_write_of_an_earlier_attempt_is_found() {
    let mut scene = Scene::new();
    let (job, worker) = (scene.job, WorkerId::new());
    let anew =
        [Event::Settled { job, attempt: None, state: "waiting".into() }, Event::Leased { job, attempt: 2, worker }];
    scene.after(|event| matches!(event, Event::Returned { seq: 1, .. }), anew);
    let broken = scene.broken();
    assert_eq!(broken, [(Promise::I3, "attempt 1 of job J wrote step 1 although attempt 2 exists".into())]);
}

#[test]
fn i3_an_attempt_number_that_is_used_twice_is_found() {
    let mut scene = Scene::new();
    let (job, worker) = (scene.job, scene.worker);
    let again =
        [Event::Settled { job, attempt: None, state: "waiting".into() }, Event::Leased { job, attempt: 1, worker }];
    scene.after(is_durable(1), again);
    let what = format!("worker {worker} leased job J as attempt 1 after there was attempt 1");
    assert_eq!(scene.broken(), [(Promise::I3, what)]);
}

#[test]
fn i3_a_lease_that_is_taken_although_held_is_found() {
    let mut scene = Scene::new();
    let (job, worker) = (scene.job, WorkerId::new());
    scene.after(is_settled, [Event::Leased { job, attempt: 2, worker }]);
    assert_eq!(scene.broken(), [], "it had ended");
    scene.events.retain(|event| !is_settled(event));
    assert!(scene.broken()[0].1.contains("while attempt 1 on"), "{:?}", scene.broken());
}

#[test]
fn i4_a_handler_that_is_called_for_a_recorded_step_is_found() {
    let mut scene = Scene::new();
    let (job, worker) = (scene.job, WorkerId::new());
    let anew = [
        Event::Settled { job, attempt: None, state: "waiting".into() },
        Event::Leased { job, attempt: 2, worker },
        Event::Begun { job, seq: 0, attempt: 2, value: json!(0) },
        Event::Settled { job, attempt: Some(2), state: "waiting".into() },
        Event::Leased { job, attempt: 3, worker },
    ];
    scene.after(is_durable(0), anew);
    scene.events.retain(|event| !matches!(event, Event::Begun { seq: 1, .. } | Event::Durable { seq: 1, .. }));
    let what = "attempt 2 of job J handled step 0, which was recorded before it began";
    assert!(scene.broken().contains(&(Promise::I4, what.into())), "{:?}", scene.broken());
    assert_eq!(scene.verdict().again_after_record, 1);
}

#[test]
fn i5_another_result_another_step_and_a_gap_are_found() {
    let mut scene = Scene::new();
    scene.fate.result = Some(json!([0]));
    scene.events.retain(|event| !matches!(event, Event::Result { .. }));
    assert_eq!(scene.broken().len(), 1);
    assert_eq!(scene.broken()[0].0, Promise::I5);

    let mut scene = Scene::new();
    scene.fate.steps[1].0 = 2;
    assert!(scene.broken().contains(&(Promise::I5, "step 2 of job J stands at place 1".into())));

    let mut scene = Scene::new();
    scene.fate.steps.pop();
    assert!(scene.broken()[0].1.starts_with("step 1 of job J was durable and is not there"));
    assert_eq!(scene.verdict().lost, 1);
}

#[test]
fn i5_a_body_that_yields_something_else_the_second_time_is_found() {
    let mut scene = Scene::new();
    let (job, worker) = (scene.job, scene.worker);
    scene.expected.ahead = None;
    scene.after(
        |event| matches!(event, Event::Begun { seq: 1, .. }),
        [
            Event::Settled { job, attempt: None, state: "waiting".into() },
            Event::Leased { job, attempt: 2, worker },
            Event::Begun { job, seq: 1, attempt: 2, value: json!(7) },
        ],
    );
    assert!(scene.broken().contains(&(Promise::I5, "the body of job J yielded 7 for step 1, and 1 before".into())));
}

#[test]
fn i6_streams_that_skip_repeat_or_do_not_end_are_found() {
    let is_item = |event: &Event| matches!(event, Event::Item { stream: 1, .. });
    let mut scene = Scene::new();
    let at = scene.events.iter().position(is_item).unwrap();
    let item = scene.events.remove(at);
    assert_eq!(scene.broken()[0].0, Promise::I6, "one left out");
    scene.events.splice(at..at, [item.clone(), item]);
    assert!(scene.broken().iter().any(|broken| broken.0 == Promise::I6), "one given twice");

    let mut scene = Scene::new();
    scene.events.retain(|event| !matches!(event, Event::Closed { stream: 1, .. }));
    assert_eq!(scene.broken(), [(Promise::I6, "stream 1 of job J, opened at 0, never ended".into())]);
    scene.events.push(Event::Closed { stream: 1, end: End::Job("dead".into()) });
    assert_eq!(scene.broken()[0].0, Promise::I6, "another end");
    scene.events.push(Event::Item { stream: 1, item: Item::Value(json!(20)) });
    assert!(scene.broken()[0].1.ends_with("gave something after its end"));

    let mut scene = Scene::new();
    let last = scene.events.iter().rposition(is_item).unwrap();
    scene.events.remove(last);
    assert_eq!(scene.broken(), [(Promise::I6, "stream 1 of job J, opened at 0, ended after 1 of 2 items".into())]);
}

#[test]
fn i10_a_failure_that_is_not_the_tasks_own_is_found() {
    let mut scene = Scene::new();
    scene.fate.attempts.insert(0, (0, Ending::Failed { error: "stopped".into() }));
    let what = "attempt 0 of job J was charged with a failure that is not its own: stopped";
    assert_eq!(scene.broken(), [(Promise::I10, what.into())]);
    scene.fate.attempts[0].1 = Ending::Released;
    assert_eq!(scene.broken(), []);
    scene.fate.failures = 1;
    assert_eq!(scene.broken(), [(Promise::I10, "job J counts 1 failures, and 0 attempts are to be charged".into())]);
}

#[test]
fn i10_and_i12_a_stop_that_is_reported_as_graceful_and_keeps_a_job_is_found() {
    let mut scene = Scene::new();
    let (job, worker) = (scene.job, scene.worker);
    scene.events.push(Event::StopBegun { worker });
    scene.events.push(Event::StopEnded { worker, well: true, holds: vec![job] });
    let promises: Vec<_> = scene.broken().into_iter().map(|broken| broken.0).collect();
    assert_eq!(promises, [Promise::I10, Promise::I12]);
}

#[test]
fn i11_a_job_that_is_both_cancelled_and_done_is_found() {
    let mut scene = Scene::new();
    let job = scene.job;
    scene.after(is_durable(0), [Event::Settled { job, attempt: None, state: "cancelled".into() }]);
    let promises: BTreeSet<_> = scene.broken().into_iter().map(|broken| broken.0).collect();
    assert!(promises.contains(&Promise::I11), "{promises:?}");

    let mut scene = Scene::new();
    scene.events.push(Event::Cancelled { job: scene.job });
    let what = "a cancel of job J was acknowledged, and the job is done".to_owned();
    assert_eq!(scene.broken(), [(Promise::I11, what.clone()), (Promise::I12, what)]);

    let mut scene = Scene::new();
    scene.events.push(Event::CancelRefused { job: scene.job, state: "dead".into() });
    assert_eq!(scene.broken()[0].0, Promise::I11);
}

#[test]
fn i12_a_result_that_is_not_that_of_the_job_is_found() {
    let mut scene = Scene::new();
    scene.events.push(Event::Result { job: scene.job, result: json!([]) });
    assert_eq!(scene.broken()[0].0, Promise::I12);
}

#[test]
fn a_handler_that_runs_ahead_of_durable_steps_is_found() {
    let mut scene = Scene::new();
    let at = scene.events.iter().position(is_durable(0)).unwrap();
    let durable = scene.events.remove(at);
    scene.after(|event| matches!(event, Event::Begun { seq: 1, .. }), [durable]);
    scene.events.retain(|event| !matches!(event, Event::Item { .. } | Event::Opened { .. } | Event::Closed { .. }));
    assert_eq!(
        scene.broken(),
        [(Promise::Once, "attempt 1 of job J handled step 1 when only 0 steps were durable".into())]
    );
    scene.expected.ahead = Some(2);
    assert_eq!(scene.broken(), []);
}

#[test]
fn a_handler_under_a_lease_that_has_passed_on_is_found_unless_its_worker_was_frozen_in_that_call() {
    let mut scene = Scene::new();
    let (job, worker) = (scene.job, WorkerId::new());
    let passed_on =
        [Event::Settled { job, attempt: None, state: "waiting".into() }, Event::Leased { job, attempt: 2, worker }];
    scene.after(|event| matches!(event, Event::Returned { seq: 0, .. }), passed_on);
    for event in &mut scene.events {
        match event {
            Event::Durable { attempt, .. } => *attempt = Some(2),
            Event::Settled { attempt, state, .. } if state == "done" => *attempt = Some(2),
            _ => {}
        }
    }
    let what = "attempt 1 of job J called a handler for step 1 although attempt 2 exists";
    assert_eq!(scene.broken(), [(Promise::Once, what.into())]);
    scene.events.insert(0, Event::Frozen { worker: scene.worker });
    assert_eq!(scene.broken(), []);
}

#[test]
fn events_survive_json() {
    let scene = Scene::new();
    let text = serde_json::to_string(&scene.events).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Event>>(&text).unwrap(), scene.events);
}
