//! Calls with a key: one job at a time is that of all of them.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::future::join_all;
use jiff::Timestamp;
use qtasks::{
    Clock, Duplicate, Error,
    job::{self, Version},
    prelude::*,
    store::{Memory, Note, NoteChange, Written},
};
use qtasks_tests::{
    Diary, Stage,
    edge::{Behind, CarryOut, Edge},
    ledger::Ledger,
    on_every_store,
};

on_every_store![
    of_many_calls_from_many_programs_one_makes_the_job,
    calls_are_told_apart_by_their_arguments,
    a_call_names_its_key_and_what_becomes_of_it,
    calls_that_are_enqueued_together_join_too,
    the_last_of_many_calls_counts,
    a_job_is_not_tried_again_while_another_has_its_key,
    a_body_that_runs_again_finds_the_same_job,
    a_tool_goes_by_the_card_of_the_task,
    a_key_lasts_for_a_time,
    a_tick_joins_the_job_that_is_there,
];

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

#[qtask(unique = "args")]
async fn imports(path: String, diary: State<Diary>) {
    diary.note(path);
}

#[qtask(unique = "user, month")]
async fn bills(month: u8, user: Option<u64>, text: String) -> String {
    format!("{month} {user:?} {text}")
}

#[qtask]
async fn mails(to: String, diary: State<Diary>) {
    diary.note(to);
}

#[qtask(unique = "user", debounce = "1m..20m")]
async fn indexes(user: u64, version: u32, diary: State<Diary>) {
    diary.note(format!("{user} at {version}"));
}

async fn of_many_calls_from_many_programs_one_makes_the_job(stage: Stage) {
    let mut programs = Vec::new();
    for _ in 0..4 {
        programs.push(Arc::new(stage.neighbour().await));
    }
    // Nobody had the key before; and then a job that has ended.
    for round in 1..=2 {
        let calls = (0..64).flat_map(|_| &programs).map(|app| {
            let app = app.clone();
            tokio::spawn(async move {
                let job = app.enqueue(imports("a".into())).await.unwrap();
                (job.id(), job.is_new())
            })
        });
        let jobs: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(jobs.iter().map(|(id, _)| id).collect::<HashSet<_>>().len(), 1);
        assert_eq!(jobs.iter().filter(|(_, is_new)| *is_new).count(), 1, "one call has made it");
        stage.work().await;
        assert_eq!(stage.diary.lines(), vec!["a"; round]);
    }
}

async fn calls_are_told_apart_by_their_arguments(stage: Stage) {
    let bill = async |month, user, text: &str| stage.app.enqueue(bills(month, user, text.into())).await.unwrap();
    let first = bill(1, Some(2), "a").await;
    for (month, user, text, joins) in [
        (1, Some(2), "b", true),
        (2, Some(2), "a", false),
        (1, Some(3), "a", false),
        (1, None, "a", false),
        (1, None, "b", true),
    ] {
        let job = bill(month, user, text).await;
        assert_eq!(!job.is_new(), joins, "{month} {user:?} {text}");
    }
    assert_eq!(stage.store.job(first.id()).await.unwrap().unwrap().call.key.unwrap(), "user=2,month=1");
    let by_json =
        stage.app.enqueue_json("bills", &serde_json::json!({"month": 1, "user": 2, "text": "c"})).await.unwrap();
    assert_eq!((by_json.id(), by_json.is_new()), (first.id(), false));
    stage.work().await;
    assert_eq!(first.result().await.unwrap(), "1 Some(2) a");
}

async fn a_call_names_its_key_and_what_becomes_of_it(stage: Stage) {
    let mail = |to: &str| mails(to.into()).unique_key("inbox").delay(HOUR);
    let first = stage.app.enqueue(mail("a")).await.unwrap();
    assert_eq!(stage.app.enqueue(mail("b")).await.unwrap().id(), first.id());
    let refused = stage.app.enqueue(mail("c").on_duplicate(Duplicate::Refuse)).await.map(|job| job.id()).unwrap_err();
    assert_eq!(refused.to_string(), format!("job {} of `mails` holds the key `inbox`", first.id()));
    assert!(matches!(refused, Error::Duplicate { job, .. } if job == first.id()));
    let replaced =
        stage.app.enqueue(mails("d".into()).unique_key("inbox").on_duplicate(Duplicate::Replace)).await.unwrap();
    assert_eq!((replaced.id(), replaced.is_new()), (first.id(), false));
    stage.work().await;
    assert_eq!(stage.diary.lines(), ["d"], "it is due at once by the last call");
    for call in [mails("e".into()).unique_for(HOUR), mails("e".into()).on_duplicate(Duplicate::Replace)] {
        let said = stage.app.enqueue(call).await.map(|job| job.id()).unwrap_err().to_string();
        assert_eq!(said, "a call of `mails` has no key: mark the task with `unique`, or give the call a `unique_key`");
    }
    let said = stage.app.enqueue(mails("e".into()).unique_key("")).await.map(|job| job.id()).unwrap_err().to_string();
    assert_eq!(said, "a unique key is a text that is not empty and has no NUL in it");
}

async fn calls_that_are_enqueued_together_join_too(stage: Stage) {
    let paths = ["a", "b", "a"].map(|path| imports(path.into()));
    let jobs = stage.app.enqueue_all(paths).await.unwrap();
    assert_eq!(jobs.iter().map(JobHandle::is_new).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(jobs[2].id(), jobs[0].id());
    let mixed = [imports("b".into()).into(), mails("c".into()).into(), bills(1, None, "d".into()).into()];
    let mixed = stage.app.enqueue_many(mixed).await.unwrap();
    assert_eq!(mixed.iter().map(JobHandle::is_new).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(mixed[0].id(), jobs[1].id());
    stage.work().await;
    assert_eq!(mixed[2].result().await.unwrap(), "1 None d");
    let mut lines = stage.diary.lines();
    lines.sort();
    assert_eq!(lines, ["a", "b", "c"]);
}

async fn the_last_of_many_calls_counts(stage: Stage) {
    let begun = Timestamp::now();
    let mut ids = HashSet::new();
    for version in 0..1_000 {
        ids.insert(stage.app.enqueue(indexes(7, version)).await.unwrap().id());
    }
    let other = stage.app.enqueue(indexes(8, 0)).await.unwrap();
    assert!(ids.len() == 1 && !ids.contains(&other.id()));
    let id = ids.into_iter().next().unwrap();
    let found = stage.store.job(id).await.unwrap().unwrap();
    assert_eq!(found.call.args.as_str(), r#"{"user":7,"version":999}"#);
    let job::State::Waiting { due, .. } = found.standing.state else { panic!("{found:?}") };
    assert!((begun + MINUTE..=Timestamp::now() + 2 * MINUTE).contains(&due), "{due}");
}

#[tokio::test(start_paused = true)]
async fn a_debounced_job_runs_when_it_is_quiet_and_is_not_put_off_for_ever() {
    let stage = Stage::in_memory(|builder| builder.clock(Clock::tokio())).await;
    let worker = stage.app.worker().start().await.unwrap();
    for version in 0..3 {
        stage.app.enqueue(indexes(1, version)).await.unwrap();
        tokio::time::sleep(MINUTE / 2).await;
    }
    tokio::time::sleep(MINUTE).await;
    assert_eq!(stage.diary.lines(), ["1 at 2"]);
    stage.diary.clear();
    for version in 0..30 {
        stage.app.enqueue(indexes(2, version)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(47)).await;
    }
    assert_eq!(stage.diary.lines(), ["2 at 25"], "twenty minutes after the first call");
    worker.shutdown().await.unwrap();
}

#[qtask(retry = 0, unique = "args")]
async fn fails(key: u8, diary: State<Diary>) -> Result<(), String> {
    if diary.count("well") > 0 { Ok(()) } else { Err(format!("no {key}")) }
}

async fn a_job_is_not_tried_again_while_another_has_its_key(stage: Stage) {
    let dead = stage.app.enqueue(fails(1)).await.unwrap();
    stage.work().await;
    let other = stage.app.enqueue(fails(1).delay(HOUR)).await.unwrap();
    let refused = dead.retry().await.unwrap_err();
    let (dead_id, holder) = (dead.id(), other.id());
    assert_eq!(
        refused.to_string(),
        format!("job {dead_id} of `fails` is dead, and job {holder} holds its key `key=1`: cancel that one first")
    );
    other.cancel().await.unwrap();
    dead.retry().await.unwrap();
    assert_eq!(other.retry().await.map_err(|error| matches!(error, Error::KeyTaken { .. })), Err(true));
    stage.diary.note("well");
    stage.work().await;
    dead.result().await.unwrap();
    other.retry().await.unwrap();
    stage.work().await;
    other.result().await.unwrap();
}

#[qtask(echo = true, retry = 3, backoff = "1ms")]
async fn enqueues_unique(ctx: TaskContext, diary: State<Diary>) -> Result<String, TaskError> {
    let job = ctx.enqueue(imports("by a task".into())).await?;
    diary.note(format!("{} {}", job.id(), job.is_new()));
    if ctx.attempt() == 1 {
        // The job ends meanwhile: so its key is free again.
        job.result().await.map_err(|error| TaskError::discard(error.to_string()))?;
        return Err("not yet".into());
    }
    Ok(job.id().to_string())
}

async fn a_body_that_runs_again_finds_the_same_job(stage: Stage) {
    let job = stage.app.enqueue(enqueues_unique()).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    let id = job.result().await.unwrap();
    worker.shutdown().await.unwrap();
    let (mut lines, line) = (stage.diary.lines(), format!("{id} true"));
    lines.sort();
    assert_eq!(lines, [&*line, &*line, "by a task"]);
}

#[qtask(echo = true, retry = 3, backoff = "1h")]
async fn hands_on(ctx: TaskContext) -> Result<String, TaskError> {
    Ok(ctx.enqueue(imports("once".into())).await?.id().to_string())
}

/// Loses the second record, and the second try to write it: of the id that a job is to have the store has kept a record then, and of the job that was found none.
#[derive(Clone, Debug, Default)]
struct LosesOne(Arc<AtomicU32>);

impl Edge for LosesOne {
    async fn pass<T: Send + 'static>(&self, call: &'static str, carry_out: CarryOut<T>) -> qtasks::Result<T> {
        if call == "record" && (1..=2).contains(&self.0.fetch_add(1, SeqCst)) {
            return Err(Error::Refused { doing: "record steps", source: "it is lost".into() });
        }
        carry_out().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_ends_before_its_record_makes_no_second_job() {
    let lost = LosesOne::default();
    let store = Behind::new(lost.clone(), Arc::new(Memory::new()), &Ledger::default());
    let stage = Stage::on(Arc::new(store)).await;
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(hands_on()).await.unwrap();
    let made = job.result().await.unwrap();
    worker.shutdown().await.unwrap();
    assert_eq!((stage.diary.count("once"), job.status().await.unwrap().attempt), (1, 2));
    let made = stage.app.job::<imports>(made.parse().unwrap()).await.unwrap();
    assert_eq!(made.status().await.unwrap().state.name(), "done");
}

/// A program that does not know the task goes by what stands in the store.
async fn a_tool_goes_by_the_card_of_the_task(stage: Stage) {
    let worker = stage.app.worker().start().await.unwrap();
    worker.shutdown().await.unwrap();
    let notes = stage.store.notes("task").await.unwrap();
    let card = notes.iter().find(|note| note.name == "indexes").unwrap();
    let renamed = Note { name: "elsewhere".into(), version: Version::new(), ..card.clone() };
    let change = NoteChange::Write { note: renamed, seen: None };
    assert_eq!(stage.store.note(vec![change], vec![]).await.unwrap(), Written::Yes);
    let enqueue = async |user, version| {
        let args = serde_json::json!({"user": user, "version": version});
        stage.app.enqueue_json("elsewhere", &args).await.unwrap()
    };
    let (first, again, other) = (enqueue(1, 1).await, enqueue(1, 2).await, enqueue(2, 1).await);
    assert_eq!((again.id(), again.is_new(), other.is_new()), (first.id(), false, true));
    let found = stage.store.job(first.id()).await.unwrap().unwrap();
    assert_eq!(found.call.args.as_str(), r#"{"user":1,"version":2}"#);
    let job::State::Waiting { due, .. } = found.standing.state else { panic!("{found:?}") };
    assert!(due > found.call.enqueued + MINUTE / 2, "it is debounced");
}

async fn a_key_lasts_for_a_time(stage: Stage) {
    let first = stage.app.enqueue(mails("a".into()).unique_key("k").unique_for(HOUR)).await.unwrap();
    stage.work().await;
    first.result().await.unwrap();
    let second = stage.app.enqueue(mails("b".into()).unique_key("k")).await.unwrap();
    assert_eq!((second.id(), second.is_new()), (first.id(), false));
    let refused = mails("b".into()).unique_key("k").on_duplicate(Duplicate::Refuse);
    assert!(stage.app.enqueue(refused).await.is_err());
    stage.work().await;
    assert_eq!(stage.diary.lines(), ["a"]);
}

async fn a_tick_joins_the_job_that_is_there(stage: Stage) {
    stage.app.schedule("hourly", imports("s".into()), "@yearly").await.unwrap();
    let schedules = stage.app.schedules().await.unwrap();
    let first = schedules[0].run_now().await.unwrap();
    let second = schedules[0].run_now().await.unwrap();
    assert_eq!((first.is_new(), second.is_new(), second.id()), (true, false, first.id()));
    assert_eq!(stage.app.enqueue(imports("s".into())).await.unwrap().id(), first.id());
}
