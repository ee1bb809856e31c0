//! What befalls the connections of handlers: answers and connections that are lost, servers that are killed, commits that
//! wait, and handlers that share few of them.

use std::sync::{Arc, Mutex, OnceLock};

use jiff::Timestamp;
use qtasks::{
    Count, Result,
    job::{self, Ending, StateKind},
    lifecycle::Outcome,
    postgres::Transaction,
    prelude::*,
    store::{Hold, Settlement, Store, Written},
};
use qtasks_tests::{
    Diary, Place, Stage,
    edge::{Behind, CarryOut, Edge},
    eventually, in_time,
    ledger::Ledger,
    servers::postgres::{Postgres, tell, url},
};

use crate::{
    Sql, TABLES, insert, make_shared_tables,
    rules::saving::{greets, polled_each, polled_more, save},
    saved_values, stage,
};

#[qtask(generate_handler = save, echo = true)]
async fn saves_what_is_noted(ctx: TaskContext) -> Count {
    for _ in 0..50 {
        let random = ctx.random().await >> 8;
        yield_!(random.cast_signed());
    }
}

/// Writes down when calls begin and end.
#[derive(Debug)]
struct Overhears(Diary);

impl Edge for Overhears {
    async fn pass<T: Send + 'static>(&self, call: &'static str, carry_out: CarryOut<T>) -> Result<T> {
        self.0.note(format!("{call} begins"));
        let answer = carry_out().await;
        self.0.note(format!("{call} ends"));
        answer
    }
}

/// Else a crash in between would leave a step and not the random number that it was made of.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn handlers_do_not_overtake_what_the_body_noted_before() {
    make_shared_tables();
    let calls = Diary::default();
    let edge = Overhears(calls.clone());
    let before = |inner| Arc::new(Behind::new(edge, inner, &Ledger::default())) as Arc<dyn Store>;
    let stage = Stage::behind(Place::postgres(), before).await;
    let job = stage.app.enqueue(saves_what_is_noted()).await.unwrap();
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), 50);
    let lines = calls.lines().into_iter().filter(|line| line.starts_with("record") || line.starts_with("transact"));
    let lines: Vec<_> = lines.collect();
    assert!(lines.iter().filter(|line| *line == "transact begins").count() > 10, "{lines:?}");
    assert!(!lines.windows(2).any(|pair| pair == ["record begins", "transact begins"]), "{lines:?}");
}

/// At value 1, whose commit waits for a standby.
async fn saves_with_a_copy(tx: &mut Transaction<'_>, value: i64, ctx: TaskContext) -> Sql<()> {
    if value == 1 {
        tx.execute("SET LOCAL synchronous_commit = on", &[]).await?;
    }
    insert(tx, value, &ctx).await
}

#[qtask(generate_handler = saves_with_a_copy, checkpoint = "each")]
async fn has_a_copy() -> Count {
    for value in 0..3 {
        yield_!(value);
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_takes_longer_than_anybody_waits_is_waited_for_at_last() {
    let server = Postgres::start(&["-c", "fsync=off", "-c", "synchronous_commit=local"]);
    server.tell(TABLES).unwrap();
    let stage = Stage::open(Place::at(format!("{}&timeout=1", server.url()))).await;
    let worker = stage.app.worker().start().await.unwrap();
    server.tell("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").unwrap();
    server.tell("SELECT pg_reload_conf()").unwrap();
    let job = stage.app.enqueue(has_a_copy()).await.unwrap();
    // The commit waits, and somebody waits for it who asks what came of it.
    let waits = async |what| {
        let asked = format!("SELECT count(*) > 0 FROM pg_stat_activity WHERE {what}");
        eventually(what, async || server.tell(&asked).unwrap() == "t").await;
    };
    waits("wait_event = 'SyncRep'").await;
    waits("wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE'").await;
    server.tell("ALTER SYSTEM RESET synchronous_standby_names").unwrap();
    server.tell("SELECT pg_reload_conf()").unwrap();
    assert_eq!(in_time(job.result()).await.unwrap(), 3);
    assert_eq!(job.status().await.unwrap().attempt, 1, "what was committed after all has cost nothing");
    worker.shutdown().await.unwrap();
    let saved = server.tell("SELECT string_agg(value::text, ' ' ORDER BY number) FROM saved").unwrap();
    assert_eq!(saved, "0 1 2");
}

/// Loses its connection once at value 3, before or after it has written.
async fn loses_its_connection(tx: &mut Transaction<'_>, (value, early): (i64, bool), diary: State<Diary>) -> Sql<i64> {
    const END: &str = "SELECT pg_terminate_backend(pg_backend_pid())";
    diary.note(format!("handle {value}"));
    let once = value == 3 && diary.count("handle 3") == 1;
    if once && early {
        tx.execute(END, &[]).await?;
    }
    save(tx, value).await?;
    if once {
        _ = tx.execute(END, &[]).await;
    }
    Ok(value)
}

macro_rules! is_cut_off {
    ($($task:ident: $($option:ident = $text:literal),*;)*) => {
        $(#[qtask(generate_handler = loses_its_connection $(, $option = $text)*)]
        async fn $task(early: bool) -> Count {
            for value in 0..6 {
                yield_!((value, early));
            }
        })*
    };
}

is_cut_off! {
    is_cut_off: on_error = "fail";
    is_cut_off_leniently: on_error = "skip";
    is_cut_off_each: checkpoint = "each";
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_committed_when_the_connection_was_lost_is_handled_again_at_no_cost() {
    let stage = stage().await;
    let worker = stage.app.worker().start().await.unwrap();
    for early in [true, false] {
        for kind in 0..3 {
            stage.diary.clear();
            let job = match kind {
                0 => stage.app.enqueue(is_cut_off(early)).await.unwrap(),
                1 => stage.app.enqueue(is_cut_off_leniently(early)).await.unwrap(),
                _ => stage.app.enqueue(is_cut_off_each(early)).await.unwrap(),
            };
            assert_eq!(in_time(job.result()).await.unwrap(), 6);
            assert_eq!(saved_values(job.id()), [0, 1, 2, 3, 4, 5]);
            let status = job.status().await.unwrap();
            let endings: Vec<_> = status.attempts.into_iter().map(|attempt| attempt.ending).collect();
            assert_eq!(endings, [Ending::Released, Ending::Done]);
            if kind == 2 {
                let handled: Vec<_> = [0, 1, 2, 3, 3, 4, 5].iter().map(|value| format!("handle {value}")).collect();
                assert_eq!(stage.diary.lines(), handled, "what was committed is not handled again");
            }
        }
    }
    worker.shutdown().await.unwrap();
}

/// At the first attempt, has another worker take the job away while it runs.
async fn is_robbed(tx: &mut Transaction<'_>, value: i64, diary: State<Diary>, ctx: TaskContext) -> Sql<u32> {
    insert(tx, value, &ctx).await?;
    if ctx.attempt() == 1 && value == 1 {
        let now = Timestamp::now();
        let theft = Settlement {
            hold: Hold::Seen { job: ctx.job_id(), state: StateKind::Running, attempt: 1 },
            outcome: Outcome { next: job::NextState::Waiting { due: now }, failures: 0, suspect: None },
            steps: None,
            attempt: None,
            now,
        };
        let taken = ROBBED.wait().settle([theft].into()).await.unwrap();
        diary.note(format!("taken: {}", taken == [Written::Yes]));
    }
    Ok(ctx.attempt())
}

/// The store of the test in which a job is taken away.
static ROBBED: OnceLock<Arc<dyn Store>> = OnceLock::new();

#[qtask(generate_handler = is_robbed)]
async fn loses_its_lease() -> Vec<u32> {
    for value in 0..3 {
        yield_!(value);
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_whose_lease_passed_on_commits_nothing_and_holds_nobody_up() {
    let stage = stage().await;
    assert!(ROBBED.set(stage.store.clone()).is_ok());
    let worker = stage.app.worker().start().await.unwrap();
    let job = stage.app.enqueue(loses_its_lease()).await.unwrap();
    let attempts = in_time(job.result()).await.unwrap();
    worker.shutdown().await.unwrap();
    assert_eq!(stage.diary.lines(), ["taken: true"]);
    assert_eq!(saved_values(job.id()), [0, 1, 2]);
    assert_eq!(attempts[1..], [2, 2], "{attempts:?}");
}

/// Goes on when it is told that the other has come as far.
async fn meets_the_other(tx: &mut Transaction<'_>, (who, whom): (i64, i64), diary: State<Diary>) -> Sql<i64> {
    save(tx, who).await?;
    diary.note(format!("hello {who}"));
    diary.told(&format!("hello {whom}")).await;
    Ok(who)
}

#[qtask(generate_handler = meets_the_other)]
async fn meets(who: i64, whom: i64) -> Count {
    yield_!((who, whom));
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn handlers_of_two_jobs_do_not_wait_for_each_other() {
    let stage = stage().await;
    let worker = stage.app.worker().start().await.unwrap();
    let first = stage.app.enqueue(meets(1, 2)).await.unwrap();
    stage.diary.until("hello 1").await;
    let second = stage.app.enqueue(meets(2, 1)).await.unwrap();
    for job in [first, second] {
        assert_eq!(in_time(job.result()).await.unwrap(), 1);
        assert_eq!(job.status().await.unwrap().attempt, 1);
    }
    worker.shutdown().await.unwrap();
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn nothing_else_waits_for_a_connection_that_a_handler_has() {
    make_shared_tables();
    let diary = Diary::default();
    let url = format!("{}&connections=1", url());
    let app = QueueTasks::builder().store(url).state(diary.clone()).build().await.unwrap();
    let worker = app.worker().start().await.unwrap();
    let waiting = app.enqueue(meets(1, 7)).await.unwrap();
    diary.until("hello 1").await;
    let plain = app.enqueue(greets(7)).await.unwrap();
    in_time(plain.result()).await.unwrap();
    assert_eq!(in_time(waiting.result()).await.unwrap(), 1);
    assert_eq!(waiting.status().await.unwrap().attempt, 1);
    worker.shutdown().await.unwrap();
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_share_a_single_connection_for_handlers() {
    make_shared_tables();
    let url = format!("{}&connections=1", url());
    let app = QueueTasks::builder().store(url).state(Diary::default()).build().await.unwrap();
    let worker = app.worker().concurrency(20).start().await.unwrap();
    let jobs = app.enqueue_all((0..20).map(|_| polled_each(20))).await.unwrap();
    for job in jobs {
        assert_eq!(in_time(job.result()).await.unwrap().len(), 20);
        assert_eq!(saved_values(job.id()), (0..20).collect::<Vec<_>>());
    }
    worker.shutdown().await.unwrap();
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_is_there_once_however_the_server_is_killed() {
    let server = Postgres::start(&[]);
    tell(&server.database(), TABLES).unwrap();
    let (diary, url) = (Diary::default(), format!("{}?timeout=2", server.database()));
    let app = QueueTasks::builder().store(url).state(diary.clone()).build().await.unwrap();
    let worker = app.worker().concurrency(8).start().await.unwrap();
    let jobs = app.enqueue_all((0..8).map(|_| polled_more(300))).await.unwrap();
    for at in [150, 600] {
        eventually("work goes on", async || diary.lines().len() > at).await;
        server.cut_all();
    }
    eventually("work goes on", async || diary.lines().len() > 1_200).await;
    server.kill();
    server.restart();
    let results = Mutex::new(Vec::new());
    for job in &jobs {
        eventually("the job is done", async || match job.result().await {
            Ok(result) => {
                results.lock().unwrap().push(result);
                true
            }
            Err(error) if error.is_store_trouble() => false,
            Err(error) => panic!("{error:?}"),
        })
        .await;
    }
    worker.shutdown().await.unwrap();
    let expected: Vec<_> = (0..300).map(|value| value * 10).collect();
    assert!(results.into_inner().unwrap().iter().all(|result| *result == expected));
    let counts = "SELECT count(*), count(DISTINCT (job, value)), count(DISTINCT job) FROM saved";
    assert_eq!(server.tell(counts).unwrap(), "2400|2400|8");
}
