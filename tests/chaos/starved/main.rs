//! What a program does to itself and to its store keeps no worker of it from renewing its leases; and what befalls a worker
//! takes nothing with it that it has not to. Each worker is a process; its jobs are looked at from another.

// The rest of both is for other tests.
#[allow(dead_code)]
#[path = "../peers/scene.rs"]
mod scene;
#[allow(dead_code)]
#[path = "../peers/tasks.rs"]
mod tasks;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::Duration,
};

use libtest_mimic::Trial;
use qtasks::{
    job::{Ending, StateKind},
    prelude::*,
    sqlite::rusqlite::Connection,
    store::{Budget, Find},
};
use qtasks_tests::{
    length::{by_length, in_turn},
    servers::postgres::tell,
    whole,
};
use rustix::process::Signal;
use scene::{
    Job, Kind, Peer, Scene, all_run, each_ends_at_its_first_attempt, run, statuses, told, touch, trial, within,
};
use tasks::{burns, hangs, naps, naps_blocking, needs_most_of_its_time, ticks, ticks_until, waits_for};

/// Most of them wait most of their time.
const AT_ONCE: usize = 14;

fn main() -> ExitCode {
    let mut trials = vec![
        trial(Kind::Sqlite, "a_locked_database_and_a_frozen_peer_rob_nobody", None, is_locked),
        trial(Kind::Sqlite, "bodies_that_never_end_keep_no_thread_from_others", None, hang),
        trial(Kind::Sqlite, "the_time_of_a_body_is_its_own", None, waits_for_a_thread),
    ];
    for (tables, name) in [("jobs", "a_locked_table_of_jobs"), ("%", "tables_that_are_all_locked")] {
        let name = format!("{name}_and_a_frozen_peer_rob_nobody");
        trials.push(trial(Kind::Postgres, &name, None, async move |scene| tables_are_locked(scene, tables).await));
    }
    trials.extend(on_each("a_user_who_asks_and_bodies_that_burn_rob_nobody", asks_and_burns));
    trials.extend(on_each("a_user_who_blocks_all_threads_robs_nobody", blocks));
    trials.extend(on_each("a_user_who_lists_all_jobs_robs_nobody", lists));
    trials.extend(on_each("the_jobs_of_a_worker_that_outlives_its_runtime_go_on_elsewhere", outlives));
    trials.extend(on_each("a_suspect_that_never_ends_holds_up_no_other", one_never_ends));
    trials.extend(on_each("a_program_that_does_not_know_a_task_ends_none_of_its_jobs", is_seen_by_strangers));
    for url in ["memory", "sqlite"] {
        trials.push(Trial::test(format!("{url}::a_runtime_without_timers_is_an_error"), move || {
            has_no_timers(url);
            Ok(())
        }));
    }
    run(AT_ONCE, trials)
}

fn on_each(name: &str, test: impl AsyncFnOnce(Scene) + Copy + Send + 'static) -> Vec<Trial> {
    in_turn(&Kind::ALL).iter().map(|kind| trial(*kind, name, None, test)).collect()
}

/// Jobs that run in the queue `default` until they are told to end.
async fn long_jobs(scene: &Scene) -> Vec<Job> {
    let end = scene.file("end");
    let jobs = vec![
        scene.enqueue("waits_for", waits_for(end.clone())).await,
        scene.enqueue("ticks_until", ticks_until(end, 250)).await,
    ];
    all_run(&jobs).await;
    jobs
}

/// Lets them go on for longer than two leases, in the short form than one, and end undisturbed.
async fn last_long(scene: &Scene, jobs: &[Job]) {
    // The time is what befalls them.
    tokio::time::sleep(Duration::from_millis(by_length(4_500, 8_000))).await;
    touch(&scene.file("end"));
    each_ends_at_its_first_attempt(jobs).await;
}

async fn asks_and_burns(scene: Scene) {
    let (mut peer, _onlooker) = (scene.peer("default"), scene.peer("elsewhere"));
    let asked_for = scene.enqueue("naps", naps(1)).await;
    peer.tell(&format!("ask {}", asked_for.handle.id()));
    each_ends_at_its_first_attempt(&[asked_for]).await;
    let burning = by_length(3_500, 8_000);
    let mut jobs = Vec::new();
    for _ in 0..by_length(1, 2) {
        jobs.push(scene.enqueue("burns", burns(burning)).await);
    }
    each_ends_at_its_first_attempt(&jobs).await;
}

async fn blocks(scene: Scene) {
    let (mut peer, _onlooker) = (scene.peer("default"), scene.peer("elsewhere"));
    let jobs = long_jobs(&scene).await;
    // What is asked waits for a thread then, with all that it has been given already.
    peer.tell(&format!("ask {}", jobs[0].handle.id()));
    peer.tell(by_length("block 4", "block 8"));
    last_long(&scene, &jobs).await;
}

async fn lists(scene: Scene) {
    let many = if scene.kind == Kind::Sqlite { by_length(20_000, 100_000) } else { by_length(5_000, 20_000) };
    for _ in 0..many / 5_000 {
        let chunk = (0..5_000).map(|_| naps(1).queue("nobodys"));
        scene.app.enqueue_all(chunk).await.unwrap();
    }
    let (mut peer, _onlooker) = (scene.peer("default"), scene.peer("elsewhere"));
    let jobs = long_jobs(&scene).await;
    peer.tell("list");
    last_long(&scene, &jobs).await;
}

/// Two workers, and one that is frozen: while something is locked, those who live would like to take over its job, and wait
/// for that. Gives the processes, and the jobs of those who live.
async fn one_is_frozen(scene: &Scene) -> ([Peer; 3], Vec<Job>) {
    let peers = ["default", "other", "frozen"].map(|queue| scene.peer(queue));
    let long = by_length(9_000, 14_000);
    let mut jobs = vec![scene.enqueue("naps", naps(long)).await];
    jobs.push(scene.enqueue("naps_blocking", naps_blocking(long)).await);
    jobs.push(scene.enqueue("naps of the other", naps(long).queue("other")).await);
    let taken = [scene.enqueue("naps of the frozen one", naps(20_000).queue("frozen")).await];
    all_run(&jobs).await;
    all_run(&taken).await;
    peers[2].signal(Signal::STOP);
    (peers, jobs)
}

/// An operator, a dump or a migration of the user's locks tables; one that is frozen may have rows locked, too.
async fn tables_are_locked(scene: Scene, tables: &'static str) {
    // Leases last three seconds.
    let (newcomer, end) = by_length((3.5, 5.0), (4.0, 6.0));
    let (_peers, jobs) = one_is_frozen(&scene).await;
    let (database, schema) = scene.url.split_once('?').unwrap();
    let schema = schema.split(['=', '&']).nth(1).unwrap();
    let lock = format!(
        "DO $$ DECLARE name text; BEGIN
             FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = '{schema}' AND tablename LIKE '{tables}' LOOP
                 EXECUTE format('LOCK TABLE %I.%I IN ACCESS EXCLUSIVE MODE', '{schema}', name);
             END LOOP;
             PERFORM pg_sleep({end});
         END $$"
    );
    let database = database.to_owned();
    let locked = tokio::task::spawn_blocking(move || tell(&database, &lock));
    // The time is what befalls them.
    tokio::time::sleep(Duration::from_secs_f64(newcomer)).await;
    let _newcomer = scene.peer_to_come("elsewhere");
    locked.await.unwrap().unwrap();
    each_ends_at_its_first_attempt(&jobs).await;
}

async fn is_locked(scene: Scene) {
    let (_peers, jobs) = one_is_frozen(&scene).await;
    let neighbour = Connection::open(scene.file("jobs.db")).unwrap();
    neighbour.busy_timeout(Duration::from_secs(30)).unwrap();
    neighbour.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The time is what befalls them, and leases last three seconds.
    let (before, with_newcomer) = by_length((4.0, 1.5), (6.0, 3.0));
    tokio::time::sleep(Duration::from_secs_f64(before)).await;
    let _newcomer = scene.peer_to_come("elsewhere");
    tokio::time::sleep(Duration::from_secs_f64(with_newcomer)).await;
    neighbour.execute_batch("COMMIT").unwrap();
    each_ends_at_its_first_attempt(&jobs).await;
}

/// A worker whose threads are lost takes no job that needs one; another worker has it.
async fn hang(scene: Scene) {
    let _hanging = scene.peer_of(600, "hanging,default");
    scene.app.enqueue_all((0..500).map(|_| hangs().queue("hanging"))).await.unwrap();
    let hung = async |state| {
        scene
            .app
            .find(Find::default().task("hangs").state(state).oldest_first())
            .budget(Budget::jobs(500))
            .await
            .unwrap()
            .jobs
            .len()
    };
    let over = within(scene::PATIENCE, async || {
        (hung(StateKind::Dead).await > 64 && hung(StateKind::Running).await == 0).then_some(())
    });
    assert!(
        over.await.is_some(),
        "{} of them run, and {} are dead",
        hung(StateKind::Running).await,
        hung(StateKind::Dead).await
    );
    let job = [scene.enqueue("naps_blocking", naps_blocking(10).max_time(Duration::from_secs(2))).await];
    let _healthy = scene.peer("default");
    each_ends_at_its_first_attempt(&job).await;
}

/// More bodies than there may be threads: the last of them wait for longer than they have left.
async fn waits_for_a_thread(scene: Scene) {
    const MANY: usize = 600;
    let _peer = scene.peer_of(MANY, "default");
    let handles = scene.app.enqueue_all((0..MANY).map(|_| needs_most_of_its_time())).await.unwrap();
    let mut jobs = Vec::new();
    for handle in handles {
        jobs.push(scene.job("needs_most_of_its_time", handle.id()).await);
    }
    let count = async |state| {
        scene.app.find(Find::default().state(state).oldest_first()).budget(Budget::jobs(MANY)).await.unwrap().jobs.len()
    };
    let ended = within(scene::PATIENCE, async || {
        (count(StateKind::Done).await + count(StateKind::Dead).await == MANY).then_some(())
    });
    assert!(ended.await.is_some(), "{} are done, {} dead", count(StateKind::Done).await, count(StateKind::Dead).await);
    assert_eq!((count(StateKind::Done).await, count(StateKind::Dead).await), (MANY, 0), "done and dead");
}

async fn outlives(scene: Scene) {
    let mut peer = scene.peer("default");
    let job = scene.enqueue("ticks", ticks(10_000, 100)).await;
    job.has_made(3).await;
    let _other = scene.peer("default");
    peer.tell("outlive");
    job.goes_on_elsewhere().await;
}

fn has_no_timers(store: &str) {
    let folder = tempfile::tempdir().unwrap();
    let url = match store {
        "sqlite" => format!("sqlite:{}", folder.path().join("jobs.db").display()),
        _ => "memory:".to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let app = runtime.block_on(QueueTasks::open(&url)).unwrap();
    match runtime.block_on(app.worker().start()) {
        Err(error) => assert!(whole(&error).contains("enable_time"), "{}", whole(&error)),
        Ok(worker) => {
            let stopped = catch_unwind(AssertUnwindSafe(|| runtime.block_on(worker.shutdown())));
            panic!("it started, and shutdown {}", if stopped.is_ok() { "returned" } else { "panicked" });
        }
    }
}

/// Seven jobs are lost with their worker, and one of them is never done.
async fn one_never_ends(scene: Scene) {
    let (go_on, end) = (scene.file("go-on"), scene.file("end"));
    let first = scene.enqueue("the one that never ends", waits_for(end.clone()).priority(1)).await;
    let mut jobs = vec![first];
    for number in 0..6 {
        jobs.push(scene.enqueue(&format!("innocent {number}"), waits_for(go_on.clone())).await);
    }
    let victim = scene.peer("default");
    all_run(&jobs).await;
    victim.kill();
    touch(&go_on);
    let _survivor = scene.peer("default");
    let innocents = within(Duration::from_secs(30), async || {
        let all = statuses(&jobs[1..]).await;
        all.iter().all(|status| status.state.name() == "done").then_some(())
    });
    let innocents = innocents.await;
    let all = statuses(&jobs).await;
    assert!(innocents.is_some(), "not within thirty seconds: {}", told(&jobs, &all));
    assert!(all.iter().all(|status| status.failures == 0), "{}", told(&jobs, &all));
    assert_eq!(all[0].state.name(), "running", "{}", told(&jobs, &all));
    touch(&end);
    let ended = within(scene::PATIENCE, async || (jobs[0].status().await.state.name() == "done").then_some(())).await;
    assert!(ended.is_some(), "it was told to end");
}

/// Only a program with other tasks sees how a job is lost, again and again.
async fn is_seen_by_strangers(scene: Scene) {
    // Where the operating system tells nobody, each loss takes seconds.
    let losses = if scene.kind == Kind::Redis { by_length(2, 5) } else { by_length(4, 8) };
    let _stranger = scene.stranger("default,elsewhere");
    let job = scene.enqueue("waits_for", waits_for(scene.file("never"))).await;
    for loss in 1..=losses {
        let victim = scene.peer("default");
        let starts = within(scene::PATIENCE, async || job.runs().await.then_some(())).await;
        assert!(starts.is_some(), "it does not start after loss {}", loss - 1);
        victim.kill();
        let lost = within(scene::PATIENCE, async || (!job.runs().await).then_some(())).await;
        let status = job.status().await;
        let endings: Vec<_> = status.attempts.iter().map(|attempt| &attempt.ending).collect();
        assert!(lost.is_some() && endings.iter().all(|ending| **ending == Ending::Lost), "{endings:?}");
        let (state, failures) = (status.state.name(), status.failures);
        assert_eq!(state, "waiting", "after {loss} losses, {failures} of them charged, of 50 that it may have");
    }
}
