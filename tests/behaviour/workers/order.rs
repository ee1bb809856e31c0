//! Which jobs run, when, and how many at once.

use std::time::Duration;

use jiff::Timestamp;
use qtasks::{Budget, Clock, Find, prelude::*};
use qtasks_tests::{Diary, Stage, eventually, in_time, on_every_store};

on_every_store![
    more_urgent_jobs_run_first,
    jobs_of_one_priority_run_in_the_order_of_their_enqueueing,
    jobs_that_come_to_a_worker_run_in_the_order_of_their_enqueueing,
    handles_come_in_the_order_of_their_calls,
    a_delayed_job_waits_until_it_is_due,
    a_worker_listens_to_its_queues_only,
    a_worker_listens_to_every_queue_that_a_task_names,
    no_more_jobs_run_at_once_than_a_worker_may,
    an_idle_worker_is_woken_by_an_enqueue_of_a_neighbour,
    running_until_idle_runs_what_comes_due_meanwhile,
    a_handle_of_a_neighbour_waits_for_the_result,
];

#[qtask]
async fn says(word: String, diary: State<Diary>) -> String {
    diary.note(&word);
    word
}

#[qtask(priority = 5, queue = "mail")]
fn says_in_mail(word: String, diary: State<Diary>) {
    diary.note(word);
}

async fn more_urgent_jobs_run_first(stage: Stage) {
    let app = &stage.app;
    for (word, priority) in [("low", -3), ("usual", 0), ("high", 9), ("urgent", i16::MAX), ("last", i16::MIN)] {
        app.enqueue(says(word.into()).priority(priority)).await.unwrap();
    }
    app.enqueue(says_in_mail("of the task".into())).await.unwrap();
    app.enqueue(says("of the call".into()).priority(4)).await.unwrap();
    in_time(app.worker().concurrency(1).run_until_idle()).await.unwrap();
    assert_eq!(stage.diary.lines(), ["urgent", "high", "of the task", "of the call", "usual", "low", "last"]);
}

async fn jobs_of_one_priority_run_in_the_order_of_their_enqueueing(stage: Stage) {
    let words: Vec<_> = (0..40).map(|number| number.to_string()).collect();
    for word in &words[..20] {
        stage.app.enqueue(says(word.clone())).await.unwrap();
    }
    stage.app.enqueue_all(words[20..].iter().map(|word| says(word.clone()))).await.unwrap();
    in_time(stage.app.worker().concurrency(1).run_until_idle()).await.unwrap();
    assert_eq!(stage.diary.lines(), words);
}

async fn jobs_that_come_to_a_worker_run_in_the_order_of_their_enqueueing(stage: Stage) {
    let words: Vec<_> = (0..200).map(|number| number.to_string()).collect();
    let worker = stage.app.worker().concurrency(1).start().await.unwrap();
    for word in &words {
        stage.app.enqueue(says(word.clone())).await.unwrap();
    }
    eventually("all have run", async || stage.diary.lines().len() == words.len()).await;
    worker.shutdown().await.unwrap();
    assert_eq!(stage.diary.lines(), words);
}

async fn handles_come_in_the_order_of_their_calls(stage: Stage) {
    let calls = (0..30).map(|number| says(number.to_string()).priority(number % 3));
    let jobs = stage.app.enqueue_all(calls).await.unwrap();
    stage.work().await;
    for (number, job) in jobs.iter().enumerate() {
        assert_eq!(job.result().await.unwrap(), number.to_string());
    }
    let none = stage.app.enqueue_all(Vec::<says>::new()).await.unwrap();
    assert!(none.is_empty());
}

async fn a_delayed_job_waits_until_it_is_due(stage: Stage) {
    let app = &stage.app;
    let later = app.enqueue(says("later".into()).delay(Duration::from_secs(3600))).await.unwrap();
    let at = app.enqueue(says("at".into()).at(Timestamp::now() + Duration::from_secs(3600))).await.unwrap();
    let never = app.enqueue(says("never".into()).delay(Duration::MAX)).await.unwrap();
    app.enqueue(says("past".into()).at(Timestamp::UNIX_EPOCH)).await.unwrap();
    stage.work().await;
    assert_eq!(stage.diary.lines(), ["past"]);
    for job in [later, at, never] {
        assert_eq!(job.status().await.unwrap().attempt, 0);
    }
    let soon = app.enqueue(says("soon".into()).delay(Duration::from_millis(30))).await.unwrap();
    let worker = app.worker().start().await.unwrap();
    assert_eq!(in_time(soon.result()).await.unwrap(), "soon");
    worker.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_worker_sleeps_until_the_next_job_is_due_and_runs_it_then() {
    let stage = Stage::in_memory(|builder| builder.clock(Clock::tokio())).await;
    let worker = stage.app.worker().start().await.unwrap();
    let start = tokio::time::Instant::now();
    let late = stage.app.enqueue(says("late".into()).delay(Duration::from_secs(7200))).await.unwrap();
    let early = stage.app.enqueue(says("early".into()).delay(Duration::from_secs(60))).await.unwrap();
    early.result().await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 60);
    late.result().await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 7200);
    worker.shutdown().await.unwrap();
}

async fn a_worker_listens_to_its_queues_only(stage: Stage) {
    let app = &stage.app;
    app.enqueue(says("default".into())).await.unwrap();
    app.enqueue(says("reports".into()).queue("reports")).await.unwrap();
    app.enqueue(says_in_mail("mail".into())).await.unwrap();
    in_time(app.worker().queues(["reports"]).run_until_idle()).await.unwrap();
    assert_eq!(stage.diary.lines(), ["reports"]);
    in_time(app.worker().queues(["mail", "default"]).concurrency(1).run_until_idle()).await.unwrap();
    assert_eq!(stage.diary.lines(), ["reports", "mail", "default"]);
}

async fn a_worker_listens_to_every_queue_that_a_task_names(stage: Stage) {
    let app = &stage.app;
    app.enqueue(says_in_mail("mail".into())).await.unwrap();
    app.enqueue(says("of no task".into()).queue("elsewhere")).await.unwrap();
    app.enqueue(says("default".into())).await.unwrap();
    in_time(app.worker().concurrency(1).run_until_idle()).await.unwrap();
    assert_eq!(stage.diary.lines(), ["mail", "default"]);
}

#[qtask]
async fn is_one_of_many(diary: State<Diary>) {
    diary.note("begin");
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    diary.note("end");
}

#[qtask]
fn is_one_of_many_too(diary: State<Diary>) -> Vec<u32> {
    diary.note("begin");
    for value in 0..20 {
        yield_!(value);
    }
    diary.note("end");
}

async fn no_more_jobs_run_at_once_than_a_worker_may(stage: Stage) {
    stage.app.enqueue_all((0..40).map(|_| is_one_of_many())).await.unwrap();
    stage.app.enqueue_all((0..40).map(|_| is_one_of_many_too())).await.unwrap();
    in_time(stage.app.worker().concurrency(3).run_until_idle()).await.unwrap();
    let (mut running, mut most) = (0, 0);
    for line in stage.diary.lines() {
        running += if line == "begin" { 1 } else { -1 };
        most = most.max(running);
    }
    assert_eq!((running, most, stage.diary.lines().len()), (0, 3, 160));
    let error = stage.app.worker().concurrency(0).start().await.unwrap_err().to_string();
    assert!(error.contains("concurrency of 0"), "{error}");
}

async fn an_idle_worker_is_woken_by_an_enqueue_of_a_neighbour(stage: Stage) {
    let worker = stage.app.worker().start().await.unwrap();
    let neighbour = stage.neighbour().await;
    for word in ["one", "two"] {
        neighbour.enqueue(says(word.into())).await.unwrap();
        stage.diary.until(word).await;
    }
    worker.shutdown().await.unwrap();
}

async fn a_handle_of_a_neighbour_waits_for_the_result(stage: Stage) {
    let job = stage.app.enqueue(says("word".into())).await.unwrap();
    let neighbour = stage.neighbour().await.job::<says>(job.id()).await.unwrap();
    let waiting = tokio::spawn(async move { neighbour.result().await });
    stage.work().await;
    assert_eq!(in_time(waiting).await.unwrap().unwrap(), "word");
}

#[qtask(retry = 0)]
async fn comes_again(times: u32) -> Result<u32, TaskError> {
    let attempt = TaskContext::current().attempt();
    if attempt < times { Err(TaskError::snooze(Duration::ZERO)) } else { Ok(attempt) }
}

async fn running_until_idle_runs_what_comes_due_meanwhile(stage: Stage) {
    let jobs = stage.app.enqueue_all((1..20).map(comes_again)).await.unwrap();
    in_time(stage.app.worker().concurrency(2).run_until_idle()).await.unwrap();
    for (job, times) in jobs.iter().zip(1..) {
        let status = job.status().await.unwrap();
        assert_eq!((status.state.name(), status.attempts.len()), ("done", times), "{:?}", job.status().await);
    }
}

#[qtask(retry = 0)]
async fn ends_badly() -> Result<(), String> {
    Err("badly".to_owned())
}

#[tokio::test(start_paused = true)]
async fn ended_jobs_are_deleted_after_their_retention() {
    let (short, long) = (Duration::from_secs(600), Duration::from_secs(1200));
    let stage = Stage::in_memory(|builder| builder.clock(Clock::tokio()).retention(short, long)).await;
    let worker = stage.app.worker().start().await.unwrap();
    let done = stage.app.enqueue(says("done".into())).await.unwrap();
    let dead = stage.app.enqueue(ends_badly()).await.unwrap();
    let waiting = stage.app.enqueue(says("waiting".into()).delay(long * 9)).await.unwrap();
    done.result().await.unwrap();
    dead.result().await.unwrap_err();
    let left =
        async || stage.app.find(Find::default().oldest_first()).budget(Budget::jobs(10)).await.unwrap().jobs.len();
    tokio::time::advance(short - Duration::from_secs(60)).await;
    assert_eq!(left().await, 3);
    tokio::time::advance(Duration::from_secs(150)).await;
    eventually("the one that is done is deleted", async || left().await == 2).await;
    let error = done.result().await.unwrap_err().to_string();
    assert_eq!(error, format!("no job {} in this store; finished jobs are pruned after their retention", done.id()));
    tokio::time::advance(long - short).await;
    eventually("the dead one is deleted", async || left().await == 1).await;
    assert_eq!(waiting.status().await.unwrap().attempt, 0);
    worker.shutdown().await.unwrap();
}
