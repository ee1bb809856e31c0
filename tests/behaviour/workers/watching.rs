//! All that is seen of a job as it changes: its states, its progress and its steps in one stream.

use std::{
    result,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::{FutureExt as _, Stream};
use qtasks::{
    Error, Update,
    job::{Output, Progress, State as JobState},
    json::Json,
    prelude::*,
    store::Memory,
};
use qtasks_tests::{
    Diary, Stage,
    edge::{Behind, CarryOut, Edge},
    in_time,
    ledger::Ledger,
    on_every_store,
};

on_every_store![
    a_watcher_sees_states_progress_and_numbered_steps_while_they_come,
    a_watcher_sees_a_plain_task_wait_run_and_end,
    a_watcher_that_comes_after_the_end_sees_all_that_was,
    a_watcher_goes_on_where_another_one_stopped,
    a_watcher_in_a_neighbour_sees_the_same,
    a_watcher_sees_many_steps_once_and_in_order,
    a_watcher_sees_each_step_once_however_often_the_job_is_tried,
    a_watcher_sees_what_was_skipped,
    a_watcher_of_a_cancelled_job_sees_that_at_last,
    a_watcher_of_a_pruned_job_gets_an_error,
    a_watcher_that_gives_up_waiting_again_and_again_misses_nothing,
];

async fn when_shown(value: u32, diary: State<Diary>) -> u32 {
    diary.told(&format!("tell {value}")).await;
    value * 10
}

#[qtask(generate_handler = when_shown, echo = true)]
async fn shown_tells(ctx: TaskContext, n: u32) -> Vec<u32> {
    for value in 0..n {
        ctx.progress(value.into(), n.into());
        yield_!(value);
    }
}

#[qtask]
async fn shown_counts(n: u32) -> Vec<u32> {
    for value in 0..n {
        yield_!(value);
    }
}

/// Has a reply that cannot be read as a number, and a progress, without a step.
#[qtask(echo = true)]
async fn shown_adds(ctx: TaskContext, diary: State<Diary>, a: u32, b: u32) -> u32 {
    ctx.progress(1, 2);
    diary.told("add").await;
    a + b
}

/// What there was to see, as short texts.
fn said(update: qtasks::Result<Update>) -> String {
    match update {
        Ok(Update::Status(standing)) => format!("{} {}", standing.state.name(), standing.attempt),
        Ok(Update::Progress(Progress { done, total })) => format!("{done}/{total}"),
        Ok(Update::Step(step)) => match step.value::<u32>() {
            Ok(value) => format!("{}: {value}", step.seq),
            Err(error) => error.to_string(),
        },
        Ok(other) => panic!("{other:?} is new"),
        Err(error) => format!("error: {error}"),
    }
}

async fn next(updates: &mut (impl Stream<Item = qtasks::Result<Update>> + Unpin)) -> Option<String> {
    in_time(updates.next()).await.map(said)
}

async fn all(updates: impl Stream<Item = qtasks::Result<Update>>) -> Vec<String> {
    in_time(updates.map(said).collect()).await
}

/// Sees updates until one is this.
async fn until(updates: &mut (impl Stream<Item = qtasks::Result<Update>> + Unpin), last: &str) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|seen| seen != last) {
        seen.push(next(updates).await.unwrap_or_else(|| panic!("{last} does not come, but {seen:?}")));
    }
    seen
}

async fn a_watcher_sees_states_progress_and_numbered_steps_while_they_come(stage: Stage) {
    let job = stage.app.enqueue(shown_tells(2)).await.unwrap();
    let mut updates = job.watch();
    assert_eq!(next(&mut updates).await.unwrap(), "waiting 0");
    let worker = stage.app.worker().start().await.unwrap();
    assert_eq!(next(&mut updates).await.unwrap(), "running 1");
    assert_eq!(next(&mut updates).await.unwrap(), "0/2");
    stage.diary.note("tell 0");
    // The progress before the next value may come with the step, or after it.
    let mut between = [next(&mut updates).await.unwrap(), next(&mut updates).await.unwrap()];
    between.sort();
    assert_eq!(between, ["0: 0", "1/2"]);
    stage.diary.note("tell 1");
    assert_eq!(all(updates).await, ["1: 10", "done 1"]);
    worker.shutdown().await.unwrap();
}

async fn a_watcher_sees_a_plain_task_wait_run_and_end(stage: Stage) {
    let job = stage.app.enqueue(shown_adds(2, 3)).await.unwrap();
    let mut updates = job.watch();
    assert_eq!(next(&mut updates).await.unwrap(), "waiting 0");
    let worker = stage.app.worker().start().await.unwrap();
    assert_eq!(until(&mut updates, "1/2").await, ["running 1", "1/2"]);
    stage.diary.note("add");
    let last = in_time(updates.next()).await.unwrap().unwrap();
    let Update::Status(standing) = last else { panic!("{last:?}") };
    assert_eq!(standing.state, JobState::Done { output: Output::Value(Json::encode(&5).unwrap()) });
    assert!(next(&mut updates).await.is_none() && next(&mut updates).await.is_none());
    worker.shutdown().await.unwrap();
}

async fn a_watcher_that_comes_after_the_end_sees_all_that_was(stage: Stage) {
    let job = stage.app.enqueue(shown_tells(2)).await.unwrap();
    (0..2).for_each(|value| stage.diary.note(format!("tell {value}")));
    stage.work().await;
    assert_eq!(all(job.watch()).await, ["1/2", "0: 0", "1: 10", "done 1"]);
}

async fn a_watcher_goes_on_where_another_one_stopped(stage: Stage) {
    let job = stage.app.enqueue(shown_counts(4)).await.unwrap();
    let (live, beyond) = (job.watch_from(2), job.watch_from(9));
    stage.work().await;
    let steps = |seen: Vec<String>| seen.into_iter().filter(|seen| seen.contains(": ")).collect::<Vec<_>>();
    assert_eq!(steps(all(live).await), ["2: 2", "3: 3"]);
    assert_eq!(steps(all(beyond).await), [""; 0]);
    assert_eq!(all(job.watch_from(3)).await, ["3: 3", "done 1"]);
    assert_eq!(all(job.watch_from(4)).await, ["done 1"]);
}

async fn a_watcher_in_a_neighbour_sees_the_same(stage: Stage) {
    let neighbour = stage.neighbour().await;
    let job = stage.app.enqueue(shown_tells(2)).await.unwrap();
    let mut updates = neighbour.any_job(job.id()).await.unwrap().watch();
    assert_eq!(next(&mut updates).await.unwrap(), "waiting 0");
    let worker = stage.app.worker().start().await.unwrap();
    let begun = until(&mut updates, "0/2").await;
    assert_eq!(begun, ["running 1", "0/2"]);
    stage.diary.note("tell 0");
    assert!(until(&mut updates, "0: 0").await.len() <= 2);
    stage.diary.note("tell 1");
    let end = all(updates).await;
    assert_eq!(end[end.len() - 2..], ["1: 10", "done 1"], "{end:?}");
    worker.shutdown().await.unwrap();
}

async fn a_watcher_sees_many_steps_once_and_in_order(stage: Stage) {
    let job = stage.app.enqueue(shown_counts(10_000)).await.unwrap();
    let live = tokio::spawn(all(job.watch()));
    stage.work().await;
    let expected: Vec<_> = (0..10_000).map(|seq| format!("{seq}: {seq}")).collect();
    for seen in [in_time(live).await.unwrap(), all(job.watch()).await] {
        let (last, before) = seen.split_last().unwrap();
        let steps: Vec<_> = before.iter().filter(|seen| seen.contains(": ")).cloned().collect();
        assert_eq!((steps, &**last), (expected.clone(), "done 1"));
    }
}

/// Fails after each new step, and ends well when there is none left.
#[qtask(backoff = "1ms..1ms")]
async fn shown_failing() -> result::Result<Vec<u32>, String> {
    let attempt = TaskContext::current().attempt();
    for value in 0..3 {
        yield_!(value);
        if value + 1 == attempt {
            return Err(format!("attempt {attempt}"));
        }
    }
    Ok(())
}

#[qtask(retry = 1, backoff = "1ms..1ms")]
async fn shown_dying() -> result::Result<u32, String> {
    Err("on purpose".to_owned())
}

async fn a_watcher_sees_each_step_once_however_often_the_job_is_tried(stage: Stage) {
    let (job, dead) =
        (stage.app.enqueue(shown_failing()).await.unwrap(), stage.app.enqueue(shown_dying()).await.unwrap());
    let (updates, of_dead) = (job.watch(), dead.watch());
    let worker = stage.app.worker().start().await.unwrap();
    let seen = all(updates).await;
    let steps: Vec<_> = seen.iter().filter(|seen| seen.contains(": ")).collect();
    assert_eq!(steps, ["0: 0", "1: 1", "2: 2"]);
    assert_eq!(seen.last().unwrap(), "done 4");
    let states = seen.iter().filter(|seen| !seen.contains(": "));
    let attempts: Vec<u32> = states.map(|state| state.split_once(' ').unwrap().1.parse().unwrap()).collect();
    assert!(attempts.is_sorted(), "{seen:?}");
    assert_eq!(all(of_dead).await.last().unwrap(), "dead 2");
    let last = in_time(dead.watch().collect::<Vec<_>>()).await.pop().unwrap().unwrap();
    assert!(
        matches!(&last, Update::Status(standing) if standing.state == JobState::Dead { error: "on purpose".into() }),
        "{last:?}"
    );
    worker.shutdown().await.unwrap();
}

async fn refuses_one(value: u32) -> result::Result<u32, String> {
    if value == 1 { Err("not this one".to_owned()) } else { Ok(value) }
}

#[qtask(generate_handler = refuses_one, on_error = "skip")]
async fn shown_skips() -> Vec<u32> {
    for value in 0..3 {
        yield_!(value);
    }
}

async fn a_watcher_sees_what_was_skipped(stage: Stage) {
    let job = stage.app.enqueue(shown_skips()).await.unwrap();
    stage.work().await;
    assert_eq!(all(job.watch()).await, ["0: 0", "step 1 was skipped: not this one", "2: 2", "done 1"]);
    let step = in_time(job.watch().next()).await.unwrap().unwrap();
    let Update::Step(step) = step else { panic!("{step:?}") };
    let error = step.value::<String>().unwrap_err().to_string();
    assert!(error.starts_with("the reply of step 0 cannot be read as `alloc::string::String`"), "{error}");
}

async fn a_watcher_of_a_cancelled_job_sees_that_at_last(stage: Stage) {
    let waiting = stage.app.enqueue(shown_counts(2)).await.unwrap();
    let mut live = waiting.watch();
    assert_eq!(next(&mut live).await.unwrap(), "waiting 0");
    waiting.cancel().await.unwrap();
    assert_eq!(all(live).await, ["cancelled 0"]);
    assert_eq!(all(waiting.watch()).await, ["cancelled 0"]);
    let running = stage.app.enqueue(shown_tells(2)).await.unwrap();
    let mut live = running.watch();
    let worker = stage.app.worker().start().await.unwrap();
    stage.diary.note("tell 0");
    until(&mut live, "0: 0").await;
    running.cancel().await.unwrap();
    assert_eq!(all(live).await.last().unwrap(), "cancelled 1");
    worker.shutdown().await.unwrap();
    running.retry().await.unwrap();
    assert_eq!(next(&mut running.watch_from(1)).await.unwrap(), "waiting 1", "it has not ended any more");
}

async fn a_watcher_of_a_pruned_job_gets_an_error(stage: Stage) {
    let job = stage.app.enqueue(shown_counts(3)).await.unwrap();
    let handle = stage.app.any_job(job.id()).await.unwrap();
    stage.work().await;
    let mut halfway = handle.watch();
    let later = jiff::Timestamp::MAX;
    assert_eq!(stage.store.prune(later, later, 10).await.unwrap(), 1);
    let none = format!("error: {}", Error::NoSuchJob(job.id()));
    for updates in [&mut halfway, &mut handle.watch()] {
        assert_eq!(next(updates).await.unwrap(), none);
        assert!(next(updates).await.is_none() && next(updates).await.is_none());
    }
}

async fn a_watcher_that_gives_up_waiting_again_and_again_misses_nothing(stage: Stage) {
    let job = stage.app.enqueue(shown_tells(3)).await.unwrap();
    let mut updates = job.watch();
    let worker = stage.app.worker().start().await.unwrap();
    let mut seen = Vec::new();
    (0..3).for_each(|value| stage.diary.note(format!("tell {value}")));
    let watch = async {
        loop {
            // Dropped half way, wherever it was.
            match updates.next().now_or_never() {
                Some(Some(update)) => seen.push(said(update)),
                Some(None) => return,
                None => tokio::task::yield_now().await,
            }
        }
    };
    in_time(watch).await;
    let steps: Vec<_> = seen.iter().filter(|seen| seen.contains(": ")).collect();
    assert_eq!(steps, ["0: 0", "1: 10", "2: 20"]);
    assert_eq!(seen.last().unwrap(), "done 1");
    worker.shutdown().await.unwrap();
}

/// Fails so many of the next calls.
#[derive(Debug, Default)]
struct Failing(AtomicUsize);

impl Edge for Failing {
    async fn pass<T: Send + 'static>(&self, _call: &'static str, carry_out: CarryOut<T>) -> qtasks::Result<T> {
        let fails = self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok();
        if fails {
            return Err(Error::Store { doing: "hear us", source: "the cable is out".into() });
        }
        carry_out().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_watcher_waits_for_a_store_that_is_away_and_says_so_when_that_takes_too_long() {
    let store = Arc::new(Behind::new(Failing::default(), Arc::new(Memory::new()), &Ledger::default()));
    let stage = Stage::on(store.clone()).await;
    let job = stage.app.enqueue(shown_counts(3)).await.unwrap();
    stage.work().await;
    let mut updates = job.watch();
    store.edge.0.store(4, Relaxed);
    assert_eq!(next(&mut updates).await.unwrap(), "0: 0");
    assert_eq!(store.edge.0.load(Relaxed), 0, "it has asked again");
    assert_eq!(all(updates).await, ["1: 1", "2: 2", "done 1"]);
    store.edge.0.store(usize::MAX, Relaxed);
    let mut updates = job.watch_from(1);
    let away = tokio::time::Instant::now();
    assert_eq!(next(&mut updates).await.unwrap(), "error: the store could not hear us: the cable is out");
    assert!(away.elapsed() >= Duration::from_secs(5), "as long as the store's patience lasts");
    assert!(next(&mut updates).await.is_none(), "an error is the last item");
    store.edge.0.store(0, Relaxed);
    assert_eq!(all(job.watch_from(1)).await, ["1: 1", "2: 2", "done 1"]);
}
