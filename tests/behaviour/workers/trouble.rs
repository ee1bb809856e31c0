//! A store that fails: no error is taken for success, and work goes on by itself.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use jiff::Timestamp;
use qtasks::{
    Error, Result,
    job::Ending,
    prelude::*,
    store::{Filter, Memory, Store},
};
use qtasks_tests::{
    Diary, Stage,
    edge::{Behind, CarryOut, Edge},
    eventually, in_time,
    ledger::Ledger,
};
use tokio::sync::Notify;

use self::Fault::{AnswerLost, Late, Refused};

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It is not carried out.
    Refused,
    /// It is carried out, and its answer is lost.
    AnswerLost,
    /// It is on its way until the test lets it through.
    Late,
}

/// The next calls of a store go wrong as the test says.
#[derive(Debug, Default)]
struct Shaky {
    faults: Mutex<HashMap<&'static str, Vec<Fault>>>,
    let_through: Notify,
    /// Callers wait for nothing.
    hurries: AtomicBool,
}

impl Shaky {
    fn fail(&self, call: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().entry(call).or_default().extend(faults);
    }

    /// Whether all that was to go wrong did.
    fn is_well(&self) -> bool {
        self.faults.lock().unwrap().values().all(Vec::is_empty)
    }

    /// How many more of these calls go wrong.
    fn left(&self, call: &'static str) -> usize {
        self.faults.lock().unwrap().get(call).map_or(0, Vec::len)
    }
}

impl Edge for Shaky {
    async fn pass<T: Send + 'static>(&self, call: &'static str, carry_out: CarryOut<T>) -> Result<T> {
        let fault = self.faults.lock().unwrap().get_mut(call).and_then(Vec::pop);
        match fault {
            None => carry_out().await,
            Some(Fault::Refused) => Err(trouble()),
            Some(Fault::AnswerLost) => carry_out().await.and(Err(trouble())),
            Some(Fault::Late) => {
                self.let_through.notified().await;
                carry_out().await
            }
        }
    }

    fn patience(&self, of_the_store: Duration) -> Duration {
        if self.hurries.load(Relaxed) { Duration::ZERO } else { of_the_store }
    }
}

fn trouble() -> Error {
    Error::Store { doing: "hear us", source: "the cable is out".into() }
}

fn notes(value: i64, diary: State<Diary>) -> i64 {
    diary.note(format!("handle {value}"));
    value * 10
}

#[qtask(generate_handler = notes)]
async fn adds_up(n: i64) -> Vec<i64> {
    let mut sum = 0;
    for value in 0..n {
        sum += yield_!(value + sum);
    }
}

#[qtask(generate_handler = notes, backoff = "1h..1h")]
async fn fails_first(n: i64) -> std::result::Result<Vec<i64>, String> {
    for value in 0..n {
        yield_!(value);
    }
    if TaskContext::current().attempt() == 1 { Err("first".to_owned()) } else { Ok(()) }
}

async fn shaky() -> (Stage, Arc<Behind<Shaky>>) {
    let store = Arc::new(Behind::new(Shaky::default(), Arc::new(Memory::new()), &Ledger::default()));
    (Stage::on(store.clone()).await, store)
}

#[tokio::test]
async fn a_call_that_fails_says_so() {
    let (stage, shaky) = shaky().await;
    shaky.edge.hurries.store(true, Relaxed);
    let id = JobId::new();
    shaky.edge.fail("enqueue", [Refused]);
    let error = stage.app.enqueue(adds_up(1).id(id)).await.unwrap_err();
    assert!(error.is_store_trouble());
    assert_eq!(
        error.to_string(),
        format!(
            "job {id} may have been enqueued; `any_job({id})` finds it then, and the same call with `.id({id})` makes no \
             second one: the store could not hear us: the cable is out"
        )
    );
    assert_eq!(error.jobs_in_doubt(), [id]);
    assert_eq!(stage.app.jobs(Filter::default(), None, 9).await.unwrap(), []);
    shaky.edge.fail("enqueue", [AnswerLost]);
    let error = stage.app.enqueue_all([adds_up(1), adds_up(2)]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "2 jobs may have been enqueued; `jobs_in_doubt()` of this error gives their ids, and the same calls with `.id(..)` \
         make no second ones: the store could not hear us: the cable is out"
    );
    for id in error.jobs_in_doubt() {
        stage.app.job::<adds_up>(*id).await.unwrap();
    }
    shaky.edge.fail("standing", [Refused]);
    let job = stage.app.enqueue(adds_up(1)).await.unwrap();
    assert!(job.result().await.unwrap_err().is_store_trouble());
    shaky.edge.fail("attempts", [Refused]);
    assert!(job.status().await.unwrap_err().is_store_trouble());
    shaky.edge.fail("settle", [Refused]);
    assert!(job.cancel().await.unwrap_err().is_store_trouble());
    shaky.edge.fail("steps", [Refused]);
    stage.work().await;
    assert!(job.result().await.unwrap_err().is_store_trouble(), "not an empty result");
    shaky.edge.fail("steps", [Refused]);
    let items: Vec<_> = job.stream().collect().await;
    assert!(items.len() == 1 && items[0].as_ref().is_err_and(Error::is_store_trouble), "not an early end");
}

#[tokio::test(start_paused = true)]
async fn every_call_waits_for_a_store_that_is_away() {
    let (stage, shaky) = shaky().await;
    let app = &stage.app;
    for faults in [[Refused; 3], [AnswerLost; 3], [AnswerLost, Refused, AnswerLost]] {
        let fail = |calls: &[&'static str]| calls.iter().for_each(|call| shaky.edge.fail(call, faults));
        fail(&["enqueue", "job", "standing", "jobs", "attempts", "steps", "settle"]);
        let job = app.enqueue(adds_up(2)).await.unwrap();
        app.job::<adds_up>(job.id()).await.unwrap();
        assert_eq!(app.jobs(Filter::default(), None, 9).await.unwrap().len(), 1, "{faults:?}");
        assert_eq!(job.status().await.unwrap().attempt, 0);
        job.cancel().await.unwrap();
        fail(&["standing", "settle"]);
        job.retry().await.unwrap();
        stage.work().await;
        fail(&["standing", "steps"]);
        assert_eq!(job.result().await.unwrap(), [0, 10]);
        fail(&["standing", "steps"]);
        assert_eq!(job.stream().map(Result::unwrap).collect::<Vec<_>>().await, [0, 10]);
        fail(&["enqueue"]);
        app.enqueue_json("adds_up", &adds_up { n: 1 }).await.unwrap();
        let [one, other] = [adds_up(1), adds_up(1)];
        fail(&["enqueue"]);
        app.enqueue_all([one, other]).await.unwrap();
        assert_eq!(app.jobs(Filter::default(), None, 9).await.unwrap().len(), 4, "{faults:?}");
        assert!(shaky.edge.is_well(), "{faults:?}");
        stage.work().await;
        let later = Timestamp::now() + Duration::from_secs(3600);
        assert_eq!(stage.store.prune(later, later, 9).await.unwrap(), 4);
    }
}

/// What comes of waiting, and how long that took.
async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let begun = tokio::time::Instant::now();
    (future.await, begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_no_longer_than_its_store_is_patient() {
    let (stage, shaky) = shaky().await;
    // The second one answers only when it is let through, which nobody does.
    for faults in [vec![Refused; 1000], vec![Late, Refused]] {
        let id = JobId::new();
        shaky.edge.fail("enqueue", faults);
        let (enqueued, took) = timed(stage.app.enqueue(adds_up(1).id(id))).await;
        let error = enqueued.unwrap_err();
        assert_eq!((error.jobs_in_doubt(), took.as_secs()), (&[id][..], 5));
        assert!(error.to_string().ends_with(": the store could not hear us: the cable is out"), "{error}");
        shaky.edge.faults.lock().unwrap().clear();
        let job = stage.app.enqueue(adds_up(1).id(id)).await.unwrap();
        assert_eq!(job.id(), id);
        stage.app.enqueue(adds_up(1).id(id)).await.unwrap();
    }
    assert_eq!(stage.app.jobs(Filter::default(), None, 9).await.unwrap().len(), 2);
    shaky.edge.fail("standing", vec![Refused; 1000]);
    let job = stage.app.enqueue(adds_up(1)).await.unwrap();
    let (cancelled, took) = timed(job.cancel()).await;
    assert!(cancelled.unwrap_err().is_store_trouble() && took.as_secs() == 5);
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_on_as_soon_as_the_store_rings() {
    let (stage, shaky) = shaky().await;
    shaky.edge.fail("enqueue", [Refused; 6]);
    let rings = async {
        while shaky.edge.left("enqueue") > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            shaky.store.notifier().notify_work();
        }
    };
    let enqueued = async { timed(stage.app.enqueue(adds_up(1))).await };
    let ((enqueued, took), ()) = tokio::join!(enqueued, rings);
    enqueued.unwrap();
    // Of pauses that come to 1.26 s, a fourth; and each is longer or shorter by a fourth at most.
    assert!(took < Duration::from_millis(450), "{took:?}");
}

#[test]
fn a_call_waits_without_a_runtime_too() {
    futures::executor::block_on(async {
        let (stage, shaky) = shaky().await;
        shaky.edge.fail("enqueue", [Refused; 2]);
        shaky.edge.fail("standing", [AnswerLost; 2]);
        let job = stage.app.enqueue(adds_up(1)).await.unwrap();
        job.cancel().await.unwrap();
        assert!(shaky.edge.is_well());
    });
}

#[tokio::test(start_paused = true)]
async fn a_change_that_was_made_and_not_answered_is_not_taken_for_that_of_another() {
    let (stage, shaky) = shaky().await;
    let job = stage.app.enqueue(adds_up(1)).await.unwrap();
    shaky.edge.fail("settle", [AnswerLost]);
    job.cancel().await.unwrap();
    let error = job.cancel().await.unwrap_err();
    assert!(matches!(error, Error::WrongState { state: "cancelled", .. }), "{error}");
    shaky.edge.fail("settle", [AnswerLost]);
    job.retry().await.unwrap();
    let error = job.retry().await.unwrap_err();
    assert!(matches!(error, Error::WrongState { state: "waiting", .. }), "{error}");
    // It has ended by the time that the caller looks again.
    shaky.edge.fail("settle", [Refused]);
    let work = async {
        eventually("it was refused", async || shaky.edge.left("settle") == 0).await;
        shaky.edge.fail("standing", [Late]);
        eventually("the caller looks again", async || shaky.edge.left("standing") == 0).await;
        stage.work().await;
        shaky.edge.let_through.notify_one();
    };
    let (cancelled, ()) = tokio::join!(job.cancel(), work);
    let error = cancelled.unwrap_err();
    assert!(matches!(error, Error::WrongState { state: "done", .. }), "{error}");
}

#[tokio::test]
async fn a_worker_that_cannot_reach_the_store_does_not_start() {
    let (stage, shaky) = shaky().await;
    shaky.edge.fail("renew", [Refused]);
    assert!(stage.app.worker().start().await.unwrap_err().is_store_trouble());
}

/// Runs a job to its end while calls of one kind go wrong.
async fn ends_well_although(call: &'static str, faults: &[Fault]) {
    let (stage, shaky) = shaky().await;
    let worker = stage.app.worker().start().await.unwrap();
    shaky.edge.fail(call, faults.iter().copied());
    let job = stage.app.enqueue(adds_up(4)).await.unwrap();
    let streamed = in_time(job.stream().map(Result::unwrap).collect::<Vec<_>>()).await;
    assert_eq!(streamed, [0, 10, 120, 1330], "{call} {faults:?}");
    assert_eq!(in_time(job.result()).await.unwrap(), streamed);
    let handled: Vec<_> = [0, 1, 12, 133].iter().map(|value| format!("handle {value}")).collect();
    assert_eq!(stage.diary.lines(), handled, "{call} {faults:?}");
    let status = job.status().await.unwrap();
    assert_eq!((status.steps, status.attempt, status.failures), (4, 1, 0));
    assert_eq!(status.attempts.iter().map(|attempt| &attempt.ending).collect::<Vec<_>>(), [&Ending::Done]);
    worker.shutdown().await.unwrap();
    assert!(shaky.edge.is_well(), "{call} {faults:?}");
}

#[tokio::test(start_paused = true)]
async fn steps_that_could_not_be_recorded_are_neither_lost_nor_doubled() {
    ends_well_although("record", &[Refused; 6]).await;
    ends_well_although("record", &[AnswerLost; 3]).await;
    ends_well_although("record", &[Refused, AnswerLost, Refused, AnswerLost]).await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_could_not_be_settled_is_settled_once() {
    ends_well_although("settle", &[Refused; 6]).await;
    ends_well_although("settle", &[AnswerLost; 3]).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_survives_leases_that_fail() {
    ends_well_although("lease", &[Refused; 5]).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_survives_a_pruning_that_fails() {
    ends_well_although("prune", &[Refused]).await;
}

#[tokio::test(start_paused = true)]
async fn recorded_steps_that_could_not_be_read_back_are_read_again() {
    let (stage, shaky) = shaky().await;
    let job = stage.app.enqueue(fails_first(3)).await.unwrap();
    stage.work().await;
    shaky.edge.fail("steps", [Refused; 4]);
    tokio::time::advance(Duration::from_secs(3601)).await;
    let worker = stage.app.worker().start().await.unwrap();
    eventually("done", async || job.status().await.unwrap().state.name() == "done").await;
    assert!(shaky.edge.is_well());
    assert_eq!(job.result().await.unwrap(), [0, 10, 20]);
    assert_eq!(stage.diary.lines(), ["handle 0", "handle 1", "handle 2"]);
    worker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_job_whose_lease_was_lost_on_its_way_is_given_back_and_runs() {
    let (stage, shaky) = shaky().await;
    shaky.edge.fail("lease", [AnswerLost]);
    let job = stage.app.enqueue(adds_up(2)).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), [0, 10]);
    let status = job.status().await.unwrap();
    assert_eq!((status.attempt, status.failures), (2, 0));
    worker.shutdown().await.unwrap();
}

#[tokio::test]
async fn renewals_that_fail_for_a_while_cost_no_lease() {
    let (stage, shaky) = shaky().await;
    let worker = stage.app.worker().start().await.unwrap();
    shaky.edge.fail("renew", [Refused, AnswerLost]);
    shaky.edge.fail("workers", [Refused]);
    let job = stage.app.enqueue(waits()).await.unwrap();
    eventually("renewals are well again", async || shaky.edge.is_well()).await;
    stage.diary.note("go on");
    assert_eq!(in_time(job.result()).await.unwrap(), 1);
    worker.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_cancel_that_comes_after_the_end_is_refused() {
    let (stage, shaky) = shaky().await;
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(waits()).await.unwrap();
    eventually("leased", async || job.status().await.unwrap().state.name() == "running").await;
    shaky.edge.fail("settle", [Late]);
    let cancelling = tokio::spawn({
        let job = job.clone();
        async move { job.cancel().await }
    });
    eventually("the cancel is on its way", async || shaky.edge.is_well()).await;
    stage.diary.note("go on");
    assert_eq!(in_time(job.result()).await.unwrap(), 1);
    shaky.edge.let_through.notify_one();
    let error = in_time(cancelling).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::WrongState { state: "done", .. }), "{error}");
    assert_eq!(job.result().await.unwrap(), 1, "it is done once and for all");
    worker.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_end_that_comes_after_a_cancel_is_nothing() {
    let (stage, shaky) = shaky().await;
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(waits()).await.unwrap();
    shaky.edge.fail("settle", [Late]);
    stage.diary.note("go on");
    eventually("the end is on its way", async || shaky.edge.is_well()).await;
    job.cancel().await.unwrap();
    shaky.edge.let_through.notify_one();
    worker.shutdown().await.unwrap();
    assert!(matches!(job.result().await, Err(Error::Cancelled { .. })));
    let endings: Vec<_> = job.status().await.unwrap().attempts.into_iter().map(|attempt| attempt.ending).collect();
    assert_eq!(endings, [Ending::Cancelled { reason: "called off".into() }]);
}

#[qtask(generate_handler = notes)]
async fn says_what_it_was_answered(diary: State<Diary>) -> Vec<i64> {
    let reply = yield_!(1);
    diary.note(format!("answered {reply}"));
}

#[tokio::test(start_paused = true)]
async fn a_body_gets_a_reply_only_when_its_step_is_durable() {
    let (stage, shaky) = shaky().await;
    shaky.edge.fail("record", [Refused; 5]);
    let job = stage.app.enqueue(says_what_it_was_answered()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    eventually("answered", async || {
        let answered = stage.diary.count("answered 10") == 1;
        assert!(!answered || shaky.edge.is_well(), "answered before the step was recorded");
        answered
    })
    .await;
    assert_eq!(job.result().await.unwrap(), [10]);
    worker.shutdown().await.unwrap();
}

#[qtask(generate_handler = notes)]
async fn waits_between_its_values(diary: State<Diary>) -> Vec<i64> {
    yield_!(0);
    diary.note("waits");
    diary.told("leases have run out").await;
    yield_!(1);
}

#[tokio::test(start_paused = true)]
async fn no_handler_is_called_while_the_lease_may_have_passed_on() {
    let (stage, shaky) = shaky().await;
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(waits_between_its_values()).await.unwrap();
    stage.diary.until("waits").await;
    shaky.edge.fail("renew", [Refused; 6]);
    eventually("leases run out", async || shaky.edge.left("renew") == 1).await;
    stage.diary.note("leases have run out");
    eventually("the next value is handled", async || {
        let handled = stage.diary.count("handle 1") == 1;
        assert!(!handled || shaky.edge.is_well(), "handled under a lease that had run out");
        handled
    })
    .await;
    assert_eq!(in_time(job.result()).await.unwrap(), [0, 10]);
    assert_eq!(job.status().await.unwrap().attempt, 1, "a lease that nobody took is still good");
    worker.shutdown().await.unwrap();
}

#[qtask]
async fn waits(diary: State<Diary>) -> u32 {
    diary.told("go on").await;
    TaskContext::current().attempt()
}

#[tokio::test(start_paused = true)]
async fn a_stop_gives_jobs_back_although_the_store_was_away() {
    let (stage, shaky) = shaky().await;
    let job = stage.app.enqueue(waits()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    eventually("leased", async || job.status().await.unwrap().state.name() == "running").await;
    shaky.edge.fail("settle", [Refused; 5]);
    worker.shutdown().await.unwrap();
    assert_eq!(job.status().await.unwrap().state.name(), "waiting");
    let worker = stage.app.worker().start().await.unwrap();
    eventually("leased", async || job.status().await.unwrap().state.name() == "running").await;
    shaky.edge.fail("settle", [Refused; 60]);
    let error = worker.shutdown().await;
    stage.diary.note("go on");
    let text = error.unwrap_err().to_string();
    assert!(text.contains("the store was away while the worker stopped"), "{text}");
}

/// Has all that has ended pruned before a call of this name, the second time that it is made.
#[derive(Debug)]
struct Pruning {
    store: Arc<Memory>,
    call: &'static str,
    calls: Mutex<usize>,
}

impl Edge for Pruning {
    async fn pass<T: Send + 'static>(&self, call: &'static str, carry_out: CarryOut<T>) -> Result<T> {
        let is_it = call == self.call && {
            let mut calls = self.calls.lock().unwrap();
            *calls += 1;
            *calls == 2
        };
        if is_it {
            self.store.prune(Timestamp::MAX, Timestamp::MAX, 9).await?;
        }
        carry_out().await
    }
}

#[qtask]
async fn counts_up(n: u32) -> Vec<u32> {
    for number in 0..n {
        yield_!(number);
    }
}

#[tokio::test]
async fn a_job_that_is_pruned_while_it_is_read_is_an_error_and_no_part_of_a_result() {
    for call in ["steps", "standing"] {
        let memory = Arc::new(Memory::new());
        let job = {
            let stage = Stage::on(memory.clone()).await;
            let job = stage.app.enqueue(counts_up(3_000)).await.unwrap();
            stage.work().await;
            job.id()
        };
        let pruning = || {
            let edge = Pruning { store: memory.clone(), call, calls: Mutex::new(0) };
            Behind::new(edge, memory.clone(), &Ledger::default())
        };
        let stage = Stage::on(Arc::new(pruning())).await;
        let mut values = stage.app.job::<counts_up>(job).await.unwrap().stream();
        let mut seen = 0;
        let end = loop {
            match in_time(values.next()).await {
                Some(Ok(value)) => {
                    assert_eq!(value, seen);
                    seen += 1;
                }
                end => break end,
            }
        };
        assert!(matches!(end, Some(Err(Error::NoSuchJob(_)))), "{call}: {end:?} after {seen} values");
    }
}

#[tokio::test]
async fn a_result_that_is_pruned_while_it_is_read_is_an_error() {
    let memory = Arc::new(Memory::new());
    let edge = Pruning { store: memory.clone(), call: "steps", calls: Mutex::new(0) };
    let stage = Stage::on(Arc::new(Behind::new(edge, memory.clone(), &Ledger::default()))).await;
    let job = stage.app.enqueue(counts_up(3_000)).await.unwrap();
    stage.work().await;
    let error = job.result().await.unwrap_err();
    assert!(matches!(error, Error::NoSuchJob(_)), "{error}");
}
