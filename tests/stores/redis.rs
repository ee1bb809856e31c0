//! What befalls a Redis server, with work in flight.

use std::{
    collections::HashMap,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::{Either, join_all, select};
use jiff::Timestamp;
use qtasks::{
    Error,
    job::{
        Attempt, Counts, Ending, Job, JobCall, Lease, NewJob, NextState, Output, Reply, Standing, State, StateKind,
        Step, Suspect, WorkerId,
    },
    json::Json,
    lifecycle::Outcome,
    prelude::*,
    store::{Ask, Filter, Hold, Presence, Record, Redis, Settlement, Store, Suspects, Written},
};
use qtasks_tests::{
    Diary, eventually, in_time,
    servers::{free_port, redis},
    whole,
};
use tokio::sync::Notify;

/// A server that keeps all that it has acknowledged.
fn lasting() -> redis::Redis {
    redis::Redis::start(&["--appendonly", "yes", "--appendfsync", "always"])
}

async fn open(url: &str) -> Arc<dyn Store> {
    qtasks::store::open(url).await.unwrap()
}

fn new_job() -> NewJob {
    NewJob {
        call: JobCall {
            id: JobId::new(),
            task: "task".into(),
            queue: "default".into(),
            priority: 0,
            args: Json::from_stored("{}"),
            max_time: None,
            enqueued: Timestamp::UNIX_EPOCH,
        },
        due: Timestamp::UNIX_EPOCH,
    }
}

fn ask() -> Ask {
    Ask {
        worker: WorkerId::new(),
        queues: ["default".to_owned()].into(),
        tasks: ["task"].into(),
        limit: 100,
        suspects: Suspects::OneAlone,
        now: Timestamp::now(),
    }
}

/// What becomes of a job that runs.
fn settlement(job: &Job, next: NextState, now: Timestamp) -> Settlement {
    let hold = Hold::Seen { job: job.call.id, state: StateKind::Running, attempt: job.standing.attempt };
    Settlement { hold, outcome: Outcome { next, failures: 0, suspect: None }, steps: None, attempt: None, now }
}

/// Makes a call until the server is there to carry it out.
async fn insist<T>(call: impl AsyncFn() -> qtasks::Result<T>) -> T {
    in_time(async {
        loop {
            match call().await {
                Err(error) if error.is_store_trouble() => tokio::time::sleep(Duration::from_millis(5)).await,
                answer => return answer.unwrap(),
            }
        }
    })
    .await
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn processes_wake_each_other() {
    let url = redis::url();
    let (one, other) = (open(&url).await, open(&url).await);
    let job = new_job();
    let (mut work, mut news) = (other.notifier().work(), other.notifier().job(job.call.id));
    let (mut end, mut lost) = (other.notifier().end(job.call.id), other.notifier().lost());
    one.enqueue(vec![job.clone()]).await.unwrap();
    in_time(work.notification()).await;
    let asked = ask();
    let leased = one.lease(asked.clone()).await.unwrap().jobs.remove(0);
    one.leave(asked.worker).await.unwrap();
    in_time(lost.notification()).await;
    assert!(!news.take_notification() && !end.take_notification());
    let (outcome, _) = qtasks::lifecycle::cancel(&leased.standing, "enough").unwrap();
    let settlement = settlement(&leased, outcome.next, asked.now);
    assert_eq!(one.settle([settlement].into()).await.unwrap(), [Written::Yes]);
    in_time(news.notification()).await;
    in_time(end.notification()).await;
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn applications_on_one_server_do_not_see_each_other() {
    let (one, other) = (open(&redis::url()).await, open(&redis::url()).await);
    one.enqueue(vec![new_job()]).await.unwrap();
    assert_eq!(other.lease(ask()).await.unwrap().jobs, []);
    assert_eq!(one.lease(ask()).await.unwrap().jobs.len(), 1);
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_server_that_was_away_is_found_again_and_rings_for_everybody() {
    let server = lasting();
    let store = open(&server.url()).await;
    let job = new_job();
    store.enqueue(vec![job.clone()]).await.unwrap();
    server.server.kill();
    let error = store.enqueue(vec![new_job()]).await.unwrap_err();
    assert!(error.is_store_trouble(), "{error}");
    // Once the loss of the connection was noticed, there is none to be had.
    let error = store.job(job.call.id).await.unwrap_err();
    assert_eq!(
        whole(&error),
        format!(
            "the store could not read a job: no connection to 127.0.0.1:{}: Connection refused (os error 111)",
            server.port
        )
    );
    let (mut work, mut news) = (store.notifier().work(), store.notifier().job(job.call.id));
    server.restart();
    in_time(work.notification()).await;
    in_time(news.notification()).await;
    assert_eq!(store.job(job.call.id).await.unwrap().unwrap().call.id, job.call.id);
    assert_eq!(store.lease(ask()).await.unwrap().jobs.len(), 1);
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_frozen_server_is_answered_for_in_bounded_time() {
    let server = lasting();
    let store = open(&format!("{}&timeout=1", server.url())).await;
    store.enqueue(vec![new_job()]).await.unwrap();
    server.server.freeze();
    let begun = Instant::now();
    let calls = (0..20).map(|_| store.lease(ask()));
    for answer in join_all(calls).await {
        assert_eq!(
            whole(&answer.unwrap_err()),
            format!("the store could not lease jobs: no answer from 127.0.0.1:{} within 1s", server.port)
        );
    }
    let error = store.enqueue(vec![new_job()]).await.unwrap_err();
    assert!(error.is_store_trouble());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    server.server.thaw();
    let enqueued = new_job();
    insist(async || store.enqueue(vec![enqueued.clone()]).await).await;
    assert!(insist(async || store.job(enqueued.call.id).await).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn what_was_acknowledged_survives_a_kill_of_a_server_that_syncs_always() {
    let server = lasting();
    let store = open(&server.url()).await;
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let enqueueing = (0..8).map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut ids = Vec::new();
                loop {
                    let job = new_job();
                    let id = job.call.id;
                    match store.enqueue(vec![job]).await {
                        Ok(()) => ids.push(id),
                        Err(_) => return ids,
                    }
                }
            })
        });
        let enqueueing: Vec<_> = enqueueing.collect();
        let some = acknowledged.len() + 200;
        eventually("some jobs are there", async || {
            store.jobs(Default::default(), None, some).await.unwrap().len() >= some
        })
        .await;
        server.server.kill();
        for ids in join_all(enqueueing).await {
            acknowledged.extend(ids.unwrap());
        }
        assert!(acknowledged.len() > 100 * (round + 1));
        server.restart();
        let found = insist(async || store.jobs(Default::default(), None, usize::MAX).await).await;
        let found: std::collections::HashSet<_> = found.iter().map(|job| job.call.id).collect();
        let lost: Vec<_> = acknowledged.iter().filter(|id| !found.contains(id)).collect();
        assert!(lost.is_empty(), "{} of {} were lost", lost.len(), acknowledged.len());
        acknowledged = found.into_iter().collect();
    }
}

fn note(value: u64, diary: qtasks::State<Diary>, ctx: TaskContext) -> u64 {
    diary.note(format!("{} {value}", ctx.job_id()));
    diary.note("a value");
    value * 2
}

#[qtask(generate_handler = note, checkpoint = "each")]
async fn doubled(count: u64) -> Vec<u64> {
    for value in 0..count {
        yield_!(value);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn workers_go_on_when_their_server_was_killed_or_frozen() {
    const JOBS: usize = 16;
    const VALUES: u64 = 100;
    let (server, diary) = (lasting(), Diary::default());
    let url = format!("{}&timeout=1", server.url());
    let app = async || QueueTasks::builder().store(&url).state(diary.clone()).build().await.unwrap();
    let (one, other) = (app().await, app().await);
    let workers = [&one, &other].map(|app| app.worker().concurrency(8).start());
    let [first, second] = workers;
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    let jobs = one.enqueue_all((0..JOBS).map(|_| doubled(VALUES))).await.unwrap();
    for (round, is_killed) in [true, false, true].into_iter().enumerate() {
        diary.until_times("a value", JOBS * VALUES as usize / 5 * (round + 1)).await;
        if is_killed {
            server.server.kill();
            server.restart();
        } else {
            server.server.freeze();
            // For longer than calls wait.
            let refused = tokio::time::timeout(Duration::from_secs(5), one.any_job(jobs[0].id())).await;
            assert!(refused.unwrap().unwrap_err().is_store_trouble());
            server.server.thaw();
        }
    }
    let expected: Vec<u64> = (0..VALUES).map(|value| value * 2).collect();
    for job in &jobs {
        assert_eq!(insist(async || job.result().await).await, expected);
        assert_eq!(insist(async || job.status().await).await.failures, 0);
    }
    let calls = diary.lines().into_iter().filter(|line| line != "a value").fold(HashMap::new(), |mut calls, line| {
        *calls.entry(line).or_insert(0) += 1;
        calls
    });
    assert_eq!(calls.len(), JOBS * VALUES as usize);
    let again: usize = calls.values().map(|calls| calls - 1).sum();
    assert!(again <= JOBS * 3, "only a value in flight is handled again, and {again} were");
    first.shutdown().await.unwrap();
    second.shutdown().await.unwrap();
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn errors_say_what_is_wrong_and_never_the_password() {
    let server = redis::Redis::start(&[]);
    assert_eq!(server.tell("ACL SETUSER me on >right ~* &* +@all").unwrap(), "+OK");
    let place = format!("127.0.0.1:{}", server.port);
    let error = Redis::open(&format!("redis://me:secret@{place}")).await.unwrap_err();
    assert_eq!(
        whole(&error),
        format!(
            "the store could not connect to its server: no connection to {place}: \"WRONGPASS\": invalid \
             username-password pair or user is disabled."
        )
    );
    let store = Redis::open(&format!("redis://me:right@{place}?app=a")).await.unwrap();
    assert_eq!(format!("{store:?}"), format!("Redis {{ server: \"{place}\", .. }}"));
    assert_eq!(server.tell("SET {b}:format 4").unwrap(), "+OK");
    let error = Redis::open(&format!("redis://{place}?app=b")).await.unwrap_err();
    assert_eq!(
        whole(&error),
        format!(
            "the store at `{place}` has the format 4, and this qtasks knows formats up to 3; update qtasks here, or use \
             another store"
        )
    );
    assert_eq!(server.tell("SET {c}:format 1").unwrap(), "+OK");
    let error = Redis::open(&format!("redis://{place}?app=c")).await.unwrap_err();
    assert_eq!(
        whole(&error),
        format!("`{place}` is not a store of qtasks: it has the format 1, which was never released; use another `app`")
    );
    server.server.kill();
    let error = Redis::open(&format!("redis://me:secret@{place}")).await.unwrap_err();
    assert_eq!(
        whole(&error),
        format!(
            "the store could not connect to its server: no connection to {place}: Connection refused (os error 111)"
        )
    );
}

/// A generator whose jobs wait, run, remember and end; and one that asks for another.
#[qtask(echo = true)]
async fn remembers(ctx: TaskContext) -> Vec<u64> {
    yield_!(0);
    GATE.notified().await;
    for number in 1..4 {
        yield_!(ctx.once("number", || async move { number }).await);
    }
    ctx.sleep(Duration::from_millis(1)).await;
    ctx.enqueue(nothing()).await.unwrap();
}

#[qtask]
async fn nothing() {}

/// Behind it the server is full.
static GATE: Notify = Notify::const_new();

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_full_server_is_worked_off() {
    let server = redis::Redis::start(&[]);
    let url = server.url();
    let app = async || QueueTasks::builder().store(&*url).state(Diary::default()).build().await;
    let first = app().await.unwrap();
    let worker = first.worker().concurrency(2).start().await.unwrap();
    let later = remembers().delay(Duration::from_millis(1));
    let calls = [remembers().priority(3), remembers().priority(2), later, remembers().priority(1)];
    let jobs = first.enqueue_all(calls).await.unwrap();
    let later = first.enqueue(remembers().delay(Duration::from_secs(3600))).await.unwrap();
    assert_eq!(jobs[0].stream().next().await.unwrap().unwrap(), 0);
    assert_eq!(server.tell("CONFIG SET maxmemory 1").unwrap(), "+OK");

    let refused = whole(&first.enqueue(remembers()).await.unwrap_err());
    assert!(refused.contains("maxmemory") && refused.contains("are worked off all the same"), "{refused}");
    let second = app().await.expect("nothing is to be written when it is opened");
    let other = second.worker().concurrency(2).start().await.unwrap();
    for _ in 0..5 {
        GATE.notify_one();
    }
    for job in &jobs {
        let result = tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                GATE.notify_one();
                if let Ok(result) = tokio::time::timeout(Duration::from_millis(100), job.result()).await {
                    return result;
                }
            }
        });
        assert_eq!(result.await.expect("a full server is worked off").unwrap(), [0, 1, 2, 3]);
    }
    later.cancel().await.unwrap();
    later.retry().await.unwrap();
    later.cancel().await.unwrap();
    let store = open(&url).await;
    let end = Timestamp::now() + Duration::from_secs(60);
    let asked_for = store.jobs(Filter::default().task("nothing"), None, 100).await.unwrap().len();
    assert_eq!((asked_for, store.prune(end, end, 100).await.unwrap()), (4, 9));
    worker.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
    assert!(store.workers().await.unwrap().is_empty());
    let new = whole(&Redis::open(&format!("{url}-new")).await.expect_err("the first to open it writes something"));
    assert!(new.contains("maxmemory"), "{new}");
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_job_that_the_server_has_deleted_holds_up_no_other() {
    let server = lasting();
    let store = open(&server.url()).await;
    let later = NewJob { due: Timestamp::now(), ..new_job() };
    store.enqueue(vec![new_job(), new_job(), later]).await.unwrap();
    assert_eq!(store.lease(Ask { limit: 1, now: Timestamp::UNIX_EPOCH, ..ask() }).await.unwrap().jobs.len(), 1);
    let delete = "for _, job in ipairs(redis.call('KEYS', '*:j:*')) do redis.call('DEL', job) end";
    server.tell(&format!("EVAL \"{delete}\" 0")).unwrap();
    let job = new_job();
    store.enqueue(vec![job.clone()]).await.unwrap();
    let asked = ask();
    let leased = store.lease(asked.clone()).await.unwrap().jobs;
    assert_eq!(leased.iter().map(|job| job.call.id).collect::<Vec<_>>(), [job.call.id]);
    assert_eq!(store.held(asked.worker, 9).await.unwrap(), leased);
    assert_eq!(store.jobs(Default::default(), None, 9).await.unwrap(), leased);
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn the_keys_of_an_application_are_followed_through_a_cluster() {
    let node = || {
        let bus = free_port().to_string();
        (redis::Redis::start(&["--cluster-enabled", "yes", "--cluster-port", &bus]), bus)
    };
    let ((one, bus), (other, _)) = (node(), node());
    assert_eq!(one.tell("CLUSTER ADDSLOTSRANGE 0 16383").unwrap(), "+OK");
    assert_eq!(other.tell(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", one.port)).unwrap(), "+OK");
    for node in [&one, &other] {
        let is_ok = async || node.tell("CLUSTER INFO").unwrap().contains("cluster_state:ok");
        eventually("the cluster stands", is_ok).await;
    }
    // None of the keys are on the other node, which says where they are.
    let [here, there] = [&one, &other].map(|node| format!("redis://127.0.0.1:{}?app=shop", node.port));
    let (here, there) = (open(&here).await, open(&there).await);
    let job = new_job();
    let mut work = here.notifier().work();
    there.enqueue(vec![job.clone()]).await.unwrap();
    in_time(work.notification()).await;
    assert_eq!(here.lease(ask()).await.unwrap().jobs[0].call.id, job.call.id);
    assert_eq!(there.job(job.call.id).await.unwrap().unwrap().standing.attempt, 1);
}

/// How many scripts the server has run.
fn scripts(server: &redis::Redis) -> usize {
    let stats = server.tell("INFO commandstats").unwrap();
    let (_, rest) = stats.split_once("cmdstat_evalsha:calls=").unwrap();
    rest.split_once(',').unwrap().0.parse().unwrap()
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn jobs_that_are_enqueued_at_the_same_time_share_a_call() {
    let server = lasting();
    let store = open(&server.url()).await;
    store.enqueue(vec![new_job()]).await.unwrap();
    let before = scripts(&server);
    let enqueued = join_all((0..100).map(|_| store.enqueue(vec![new_job()]))).await;
    assert!(enqueued.iter().all(Result::is_ok));
    let calls = scripts(&server) - before;
    assert!(calls < 20, "{calls} calls for 100 jobs");
    assert_eq!(store.jobs(Default::default(), None, usize::MAX).await.unwrap().len(), 101);
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn nothing_is_left_of_jobs_that_were_pruned() {
    const JOBS: usize = 50;
    let server = lasting();
    let store = open(&server.url()).await;
    let keys = |of: &str| {
        let script = format!("local keys = redis.call('KEYS', '{of}') table.sort(keys) return table.concat(keys, ' ')");
        server.tell(&format!("EVAL \"{script}\" 0")).unwrap()
    };
    // It stays longer than all others, which come after it.
    let first = new_job();
    store.enqueue(vec![first.clone()]).await.unwrap();
    for is_last in [false, false, true] {
        store.enqueue((0..JOBS).map(|_| new_job()).collect()).await.unwrap();
        let asked = ask();
        let leased = store.lease(asked.clone()).await.unwrap().jobs;
        assert_eq!(leased.len(), JOBS + 1);
        let cancelled = NextState::Cancelled { reason: "enough".into() };
        let settlements = leased.iter().map(|job| {
            let stays = job.call.id == first.call.id && !is_last;
            let next = if stays { NextState::Waiting { due: Timestamp::UNIX_EPOCH } } else { cancelled.clone() };
            settlement(job, next, asked.now)
        });
        assert!(store.settle(settlements.collect()).await.unwrap().iter().all(|written| *written == Written::Yes));
        let pruned = store.prune(Timestamp::MAX, Timestamp::MAX, usize::MAX).await.unwrap();
        assert_eq!(pruned, JOBS + usize::from(is_last));
        assert_eq!(keys("*:ids"), "", "what is pruned stands in no list");
        store.leave(asked.worker).await.unwrap();
    }
    assert_eq!(store.lease(ask()).await.unwrap().jobs, []);
    let prefix = keys("*:format").replace("format", "");
    assert_eq!(keys("*"), format!("{prefix}format {prefix}reach"));
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn thousands_that_were_called_off_in_line_are_passed_over_some_at_a_time() {
    let server = lasting();
    let store = open(&server.url()).await;
    let jobs: Vec<_> = (0..10_001).map(|_| new_job()).collect();
    let last = jobs.last().unwrap().call.id;
    store.enqueue(jobs.clone()).await.unwrap();
    // From behind, for the first in line can go at once.
    let cancelled = jobs.iter().rev().skip(1).map(|job| Settlement {
        hold: Hold::Seen { job: job.call.id, state: StateKind::Waiting, attempt: 0 },
        ..settlement(&job.clone().into(), NextState::Cancelled { reason: "enough".into() }, Timestamp::UNIX_EPOCH)
    });
    store.settle(cancelled.collect()).await.unwrap();
    let before = scripts(&server);
    let leased = store.lease(Ask { limit: 1, ..ask() }).await.unwrap().jobs;
    assert_eq!(leased.iter().map(|job| job.call.id).collect::<Vec<_>>(), [last]);
    assert_eq!(scripts(&server) - before, 3);
    assert_eq!(store.lease(ask()).await.unwrap().jobs, []);
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_lost_job_is_found_whatever_the_server_has_deleted_beside_it() {
    let server = lasting();
    let store = open(&server.url()).await;
    let kinds = ["j:", "p:", "c:"];
    store.enqueue((0..=kinds.len()).map(|_| new_job()).collect()).await.unwrap();
    let asked = ask();
    let leased = store.lease(asked.clone()).await.unwrap().jobs;
    for (job, kind) in leased.iter().zip(kinds) {
        let id = job.call.id.to_bytes().map(|byte| format!("\\\\{byte:03}")).concat();
        let script = format!("return redis.call('DEL', redis.call('KEYS', '*:format')[1]:sub(1, -7) .. '{kind}{id}')");
        server.tell(&format!("EVAL \"{script}\" 0")).unwrap();
    }
    let mut work = store.notifier().work();
    assert_eq!(store.held(asked.worker, 1).await.unwrap().len(), 1);
    let mut found: Vec<_> = store.held(asked.worker, 9).await.unwrap().iter().map(|job| job.call.id).collect();
    found.sort();
    assert_eq!(found, [leased[2].call.id, leased[3].call.id]);
    // The one of which only the job was left waits again.
    in_time(work.notification()).await;
    let again = store.lease(ask()).await.unwrap().jobs;
    assert_eq!(
        again.iter().map(|job| (job.call.id, job.standing.attempt)).collect::<Vec<_>>(),
        [(leased[1].call.id, 1)]
    );
    assert_eq!(store.job(leased[0].call.id).await.unwrap(), None);
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_dropped_call_is_carried_out() {
    let url = redis::url();
    let store = open(&url).await;
    let job = new_job();
    let id = job.call.id;
    {
        let mut call = store.enqueue(vec![job]);
        _ = futures::poll!(&mut call);
    }
    drop(store);
    let store = open(&url).await;
    eventually("it is there", async || store.job(id).await.unwrap().is_some()).await;
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_renewal_overtakes_thousands_of_listings() {
    const JOBS: usize = 50;
    let (server, worker) = (redis::Redis::start(&[]), WorkerId::new());
    let store = open(&format!("{}&timeout=60", server.url())).await;
    store.enqueue((0..JOBS).map(|_| new_job()).collect()).await.unwrap();
    insist(async || store.renew(worker, 1).await).await;
    let listings = join_all((0..5_000).map(|_| store.jobs(Default::default(), None, JOBS)));
    let renewal = pin!(insist(async || store.renew(worker, 2).await));
    match select(listings, renewal).await {
        Either::Left(_) => panic!("the renewal has waited for all of them"),
        Either::Right((renewed, _)) => assert_eq!(renewed.leases, []),
    }
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_renewal_that_is_not_answered_leaves_time_for_another_before_the_leases_run_out() {
    let server = lasting();
    let store = open(&server.url()).await;
    let worker = WorkerId::new();
    insist(async || store.renew(worker, 1).await).await;
    server.server.freeze();
    assert_eq!(
        whole(&store.renew(worker, 2).await.unwrap_err()),
        format!("the store could not renew leases: no answer from 127.0.0.1:{} within 1.5s", server.port)
    );
    server.server.thaw();
    insist(async || store.renew(worker, 3).await).await;
    let seen = Presence { worker, beat: Some(3), holds: false, gone: false };
    assert_eq!(store.workers().await.unwrap(), [seen]);
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_worker_hears_that_its_store_has_become_one_of_a_newer_qtasks() {
    let server = redis::Redis::start(&[]);
    let place = format!("127.0.0.1:{}", server.port);
    let store = open(&format!("redis://{place}?app=shop")).await;
    let worker = WorkerId::new();
    store.renew(worker, 1).await.unwrap();
    assert_eq!(server.tell("SET {shop}:format 4").unwrap(), "+OK");
    let error = store.renew(worker, 2).await.unwrap_err();
    assert!(!error.is_store_trouble(), "a worker would try again after {error:?}");
    assert!(matches!(error, qtasks::Error::NewerStore { place: of, found: 4, known: 3 } if of == place));
    assert_eq!(store.workers().await.unwrap()[0].beat, Some(1));
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn the_time_is_that_of_the_server() {
    let (server, before) = (redis::Redis::start(&[]), Timestamp::now().as_millisecond());
    let store = open(&server.url()).await;
    let told = [store.time().await.unwrap(), store.renew(WorkerId::new(), 1).await.unwrap().now];
    for time in told.map(|time| time.expect("a server has a clock").as_millisecond()) {
        assert!((before..=Timestamp::now().as_millisecond()).contains(&time), "{time} is not after {before}");
    }
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn what_a_suspect_has_survived_counts_to_the_millisecond_for_two_years() {
    let (store, asked) = (open(&redis::url()).await, ask());
    // The longest time that is told from longer ones.
    let years = Duration::from_millis(1 << 36);
    let survived = [years - Duration::from_millis(2), years - Duration::from_millis(1), years, Duration::MAX];
    let priorities = [i16::MIN, i16::MAX, 1, 2];
    let jobs = priorities.map(|priority| NewJob::from(JobCall { priority, ..new_job().call }));
    store.enqueue(jobs.iter().rev().cloned().collect()).await.unwrap();
    store.lease(asked.clone()).await.unwrap();
    for (job, survived) in jobs.iter().zip(survived) {
        let lease = Lease { job: job.call.id, attempt: 1, worker: asked.worker };
        let suspect = Some(Suspect { survived, ..Suspect::default() });
        let (hold, next) = (Hold::Silent { lease, beat: None }, NextState::Waiting { due: asked.now });
        let outcome = Outcome { next, failures: 0, suspect };
        let lost = Settlement { hold, outcome, steps: None, attempt: None, now: asked.now };
        assert_eq!(store.settle([lost].into()).await.unwrap(), [Written::Yes]);
    }
    // Of the two that have survived more than that, the one of the higher priority comes first.
    for place in [0, 1, 3, 2] {
        let leased = store.lease(asked.clone()).await.unwrap().jobs;
        assert_eq!(leased.iter().map(|job| job.call.id).collect::<Vec<_>>(), [jobs[place].call.id]);
    }
}

/// A store as programs of format 2 had it, written by raw commands.
struct Old {
    server: redis::Redis,
}

/// The lane of all its jobs.
const LANE: &[u8] = b"7:default:task";

impl Old {
    fn of_format(format: &[u8]) -> Self {
        let old = Self { server: redis::Redis::start(&[]) };
        old.tell("SET", "format", b"", &[format]);
        old
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}?app=old", self.server.port)
    }

    /// Tells the server a command for a key and what comes behind it.
    fn tell(&self, command: &str, kind: &str, of: &[u8], values: &[&[u8]]) {
        let quoted =
            |bytes: &[u8]| format!("\"{}\"", bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>());
        let key = [b"{old}:", kind.as_bytes(), of].concat();
        let words: Vec<_> = [&key[..]].iter().chain(values).map(|word| quoted(word)).collect();
        let answer = self.server.tell(&format!("{command} {}", words.join(" "))).unwrap();
        assert!(!answer.starts_with('-'), "{answer}");
    }

    /// A job that was enqueued and due at 7.
    fn job(&self, id: u8, priority: i16) -> JobId {
        let id = JobId::from_bytes([id; 16]);
        let times = [7_i64, 7, -1].map(i64::to_be_bytes).concat();
        let lane = [&(LANE.len() as u32).to_be_bytes(), LANE].concat();
        let job = [&(!priority).to_be_bytes(), &times[..], &lane, b"{\"n\":1}"].concat();
        self.tell("SET", "j:", &id.to_bytes(), &[&job]);
        self.tell("RPUSH", "ids", b"", &[&id.to_bytes()]);
        self.tell("SADD", "lanes", b"", &[LANE]);
        id
    }

    /// How a job stands.
    fn stands(&self, id: JobId, standing: OldStanding) {
        let OldStanding { state, is_suspect, attempt, worker, failures, time, last, outcome } = standing;
        let worker = worker.map(WorkerId::to_bytes).unwrap_or_default();
        let numbers =
            [&[state, is_suspect.into()], &attempt.to_be_bytes()[..], &worker, &failures.to_be_bytes()].concat();
        let length = [&[255], &(last.len() as u32).to_be_bytes()[..]].concat();
        let standing = [&numbers, &time.to_be_bytes()[..], &length, &last, outcome].concat();
        self.tell("SET", "p:", &id.to_bytes(), &[&standing]);
    }

    /// A job that runs.
    fn runs(&self, id: JobId, worker: WorkerId, standing: OldStanding) {
        let lease = [&id.to_bytes()[..], &standing.attempt.to_be_bytes()].concat();
        self.tell("SADD", "held:", &worker.to_bytes(), &[&lease]);
        self.stands(id, OldStanding { state: 1, worker: Some(worker), ..standing });
    }
}

#[derive(Default)]
struct OldStanding {
    state: u8,
    is_suspect: bool,
    attempt: u32,
    worker: Option<WorkerId>,
    failures: u32,
    time: i64,
    last: Vec<u8>,
    outcome: &'static [u8],
}

/// A job of such a store, as it is read.
fn old_job(id: JobId, priority: i16, standing: Standing) -> Job {
    let enqueued = Timestamp::from_millisecond(7).unwrap();
    let call = JobCall { id, priority, args: Json::from_stored("{\"n\":1}"), enqueued, ..new_job().call };
    Job { call, standing, counts: Counts::default() }
}

/// How a job stands that has had attempts and no failures.
fn stands(state: State, attempt: u32, suspect: Option<Suspect>) -> Standing {
    Standing { state, attempt, failures: 0, suspect }
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn jobs_of_format_2_are_found_as_they_were() {
    let (old, time) = (Old::of_format(b"2"), |millis| Timestamp::from_millisecond(millis).unwrap());
    let (worker, idle) = (WorkerId::from_bytes([0xa0; 16]), WorkerId::from_bytes([0xa1; 16]));
    old.tell("ZADD", "workers", b"", &[b"5000", &worker.to_bytes()]);
    old.tell("ZADD", "workers", b"", &[b"5000", &idle.to_bytes()]);
    old.tell("SET", "reach", b"", &[b"7"]);

    let in_line = old.job(1, 0);
    old.tell("RPUSH", "line:", LANE, &[&in_line.to_bytes()]);
    let runs = old.job(2, 200);
    old.runs(runs, worker, OldStanding { attempt: 2, failures: 1, ..OldStanding::default() });
    let counts = [&2_u32.to_be_bytes(), &[1_u64, 0, 0].map(u64::to_be_bytes).concat()[..], &[0; 17]].concat();
    old.tell("SET", "c:", &runs.to_bytes(), &[&counts]);
    old.tell("RPUSH", "s:", &runs.to_bytes(), &[&[&[0], &9_u64.to_be_bytes()[..], b"81"].concat()]);
    let suspect_runs = old.job(3, 0);
    old.runs(suspect_runs, worker, OldStanding { is_suspect: true, attempt: 2, ..OldStanding::default() });
    let suspects = [(4, -1), (5, 300), (6, 0)].map(|(id, priority)| {
        let id = old.job(id, priority);
        old.stands(id, OldStanding { is_suspect: true, attempt: 1, failures: 1, time: 7, ..OldStanding::default() });
        old.tell("ZADD", "suspects:", LANE, &[(!priority).to_string().as_bytes(), &id.to_bytes()]);
        id
    });
    let [later, suspect_later] = [(7, false), (8, true)].map(|(id, is_suspect)| {
        let id = old.job(id, 0);
        old.stands(id, OldStanding { is_suspect, attempt: 1, time: 900, ..OldStanding::default() });
        old.tell("ZADD", "later:", LANE, &[b"900", &id.to_bytes()]);
        id
    });
    let done = old.job(9, 0);
    let last = [&1_u32.to_be_bytes(), &worker.to_bytes()[..], &[10, 20].map(i64::to_be_bytes).concat(), &[0]].concat();
    old.stands(done, OldStanding { state: 2, attempt: 1, time: 20, last, outcome: b"42", ..OldStanding::default() });
    old.tell("ZADD", "finished", b"", &[b"20", &done.to_bytes()]);

    let suspect = Some(Suspect::default());
    let waiting = |due| State::Waiting { due: time(due) };
    let running = || State::Running { worker };
    let mut expected = vec![
        old_job(in_line, 0, Standing::waiting(time(7))),
        // A step of this attempt has set the failures to 0.
        Job { counts: Counts { steps: 1, ..Counts::default() }, ..old_job(runs, 200, stands(running(), 2, None)) },
        old_job(suspect_runs, 0, stands(running(), 2, suspect)),
    ];
    expected.extend(
        suspects
            .iter()
            .zip([-1, 300, 0])
            .map(|(id, priority)| old_job(*id, priority, Standing { failures: 1, ..stands(waiting(7), 1, suspect) })),
    );
    expected.push(old_job(later, 0, stands(waiting(900), 1, None)));
    expected.push(old_job(suspect_later, 0, stands(waiting(900), 1, suspect)));
    let output = Output::Value(Json::from_stored("42"));
    expected.push(old_job(done, 0, stands(State::Done { output }, 1, None)));

    // Whether one program opens it or another comes after it.
    for _ in 0..2 {
        let store = open(&old.url()).await;
        assert_eq!(store.jobs(Default::default(), None, 99).await.unwrap(), expected);
        let silent = Presence { worker, beat: None, holds: true, gone: false };
        assert_eq!(store.workers().await.unwrap(), [silent]);
        assert_eq!(old.server.tell("GET {old}:format").unwrap(), "3");
    }
    let store = open(&old.url()).await;
    assert_eq!(store.steps(runs, 0, 9).await.unwrap().len(), 1);
    let attempt = Attempt { number: 1, worker, started: Some(time(10)), ended: time(20), ending: Ending::Done };
    assert_eq!(store.attempts(done).await.unwrap(), [attempt]);
    let mut held = store.held(worker, 9).await.unwrap();
    held.sort_by_key(|job| job.call.id);
    assert_eq!(held, expected[1..3]);

    // All of them go on.
    let lost = held.iter().zip([0, 1]).map(|(job, survived)| Settlement {
        hold: Hold::Silent { lease: job.lease().unwrap(), beat: None },
        outcome: Outcome {
            next: NextState::Waiting { due: time(8) },
            failures: 0,
            suspect: Some(Suspect { survived: Duration::from_millis(survived), losses: 1, ..Suspect::default() }),
        },
        steps: None,
        attempt: None,
        now: time(8),
    });
    assert_eq!(store.settle(lost.collect()).await.unwrap(), [Written::Yes; 2]);
    let mut leased = Vec::new();
    for _ in 0..7 {
        let given = store.lease(Ask { now: time(900), ..ask() }).await.unwrap().jobs;
        leased.extend(given.iter().map(|job| job.call.id));
    }
    let [low, high, usual] = suspects;
    assert_eq!(leased, [high, in_line, later, runs, usual, suspect_later, low, suspect_runs]);
    assert_eq!(store.prune(Timestamp::MAX, Timestamp::MAX, 9).await.unwrap(), 1);
    assert_eq!(store.attempts(done).await.unwrap(), []);
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn programs_of_format_2_that_still_run_are_understood() {
    let (old, worker) = (Old::of_format(b"3"), WorkerId::from_bytes([0xa0; 16]));
    let store = open(&old.url()).await;
    // One of them has leased a suspect after that, and one loses another.
    let [runs, waits] = [1, 2].map(|id| old.job(id, 0));
    old.runs(runs, worker, OldStanding { is_suspect: true, attempt: 2, ..OldStanding::default() });
    old.stands(waits, OldStanding { is_suspect: true, attempt: 1, time: 7, ..OldStanding::default() });
    old.tell("ZADD", "suspects:", LANE, &[b"-1", &waits.to_bytes()]);
    let times = ["-9007199254740992", "1764160000000", "1764160001000"];
    for renewed in times {
        let beat = renewed.parse().ok();
        old.tell("ZADD", "workers", b"", &[renewed.as_bytes(), &worker.to_bytes()]);
        let seen = Presence { worker, beat, holds: true, gone: false };
        assert_eq!(store.workers().await.unwrap(), [seen]);
    }
    let suspect = Some(Suspect::default());
    let held = store.held(worker, 9).await.unwrap();
    assert_eq!(held, [old_job(runs, 0, stands(State::Running { worker }, 2, suspect))]);
    let waiting = State::Waiting { due: Timestamp::from_millisecond(7).unwrap() };
    assert_eq!(store.job(waits).await.unwrap().unwrap(), old_job(waits, 0, stands(waiting, 1, suspect)));

    let asked = ask();
    let leased = store.lease(asked.clone()).await.unwrap().jobs;
    let suspect = leased[0].standing.suspect.unwrap();
    assert_eq!((leased[0].call.id, suspect.liable, suspect.losses), (waits, true, 0));
    assert_eq!(store.held(asked.worker, 9).await.unwrap(), leased);

    let silent = Hold::Silent { lease: held[0].lease().unwrap(), beat: Some(1_764_160_001_000) };
    let lost = Settlement { hold: silent, ..settlement(&held[0], NextState::Waiting { due: asked.now }, asked.now) };
    assert_eq!(store.settle([lost].into()).await.unwrap(), [Written::Yes]);
    store.forget(worker, Some(1_764_160_001_000)).await.unwrap();
    assert!(store.workers().await.unwrap().iter().all(|known| known.worker == asked.worker));
}

/// An older qtasks kept all.
#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn of_thousands_of_attempts_those_to_be_kept_are_read_and_the_next_settlement_deletes_the_others() {
    let (old, worker) = (Old::of_format(b"3"), WorkerId::from_bytes([0xa0; 16]));
    let store = open(&old.url()).await;
    let id = old.job(1, 0);
    old.runs(id, worker, OldStanding { attempt: 1, ..OldStanding::default() });
    let attempt =
        |number: u32| [&number.to_be_bytes()[..], &[0xa0; 16], &[0x80, 0, 0, 0, 0, 0, 0, 0], &[0; 8], &[2]].concat();
    let attempts: Vec<_> = (1..=5000).map(attempt).collect();
    for some in attempts.chunks(100) {
        old.tell("RPUSH", "h:", &id.to_bytes(), &some.iter().map(|attempt| &attempt[..]).collect::<Vec<_>>());
    }
    let numbers =
        async || -> Vec<u32> { store.attempts(id).await.unwrap().iter().map(|attempt| attempt.number).collect() };
    assert_eq!(numbers().await, (1..=10).chain(4911..=5000).collect::<Vec<_>>());
    let now = Timestamp::now();
    let ended = |number| Attempt { number, worker, started: None, ended: now, ending: Ending::Snoozed };
    let runs = old_job(id, 0, stands(State::Running { worker }, 1, None));
    let dead = NextState::Dead { error: "no".into() };
    let settled = Settlement { attempt: Some(ended(5001)), ..settlement(&runs, dead, now) };
    assert_eq!(store.settle([settled].into()).await.unwrap(), [Written::Yes]);
    assert_eq!(numbers().await, (1..=10).chain(4912..=5001).collect::<Vec<_>>());
    let again = Settlement {
        hold: Hold::Seen { job: id, state: StateKind::Dead, attempt: 1 },
        ..settlement(&runs, NextState::Waiting { due: now }, now)
    };
    assert_eq!(store.settle([again].into()).await.unwrap(), [Written::Yes]);
    assert_eq!(numbers().await, (1..=10).chain(4912..=5001).collect::<Vec<_>>());
    let history = format!("LLEN \"{{old}}:h:{}\"", "\\x01".repeat(16));
    assert_eq!(old.server.tell(&history).unwrap(), ":100");
}

#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_job_that_the_server_has_forgotten_is_told() {
    let server = redis::Redis::start(&[]);
    let app = QueueTasks::open(&server.url()).await.unwrap();
    let job = app.enqueue(doubled(1)).await.unwrap();
    let mut values = job.stream();
    let mut waiting = pin!(async { tokio::join!(job.result(), values.next()) });
    for _ in 0..3 {
        assert!(futures::poll!(&mut waiting).is_pending());
        // What was asked before is answered before.
        app.any_job(job.id()).await.unwrap();
    }
    server.tell("FLUSHALL").unwrap();
    let (result, value) = in_time(waiting).await;
    assert!(matches!(result, Err(Error::NoSuchJob(id)) if id == job.id()), "{result:?}");
    assert!(matches!(value, Some(Err(Error::NoSuchJob(id))) if id == job.id()), "{value:?}");
}

/// As an operator may have put something else under one of its keys.
#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_job_whose_steps_cannot_be_appended_is_refused_and_no_other() {
    let (old, worker) = (Old::of_format(b"3"), WorkerId::from_bytes([0xa0; 16]));
    let store = open(&old.url()).await;
    let jobs = [1, 2, 3, 4, 5].map(|id| old.job(id, 0));
    for id in jobs {
        old.runs(id, worker, OldStanding { attempt: 1, ..OldStanding::default() });
    }
    old.tell("SET", "s:", &jobs[2].to_bytes(), &[b"something else"]);
    let record = |job: JobId| Record {
        lease: Lease { job, attempt: 1, worker },
        steps: vec![Step { seq: 0, hash: 7, reply: Reply::Value(Json::from_stored("1")) }],
        memos: Vec::new(),
        jobs: Vec::new(),
        progress: None,
        passed: false,
    };
    let together = store.record(jobs.map(record).to_vec().into()).await.unwrap_err();
    let alone = store.record([record(jobs[2])].into()).await.unwrap_err();
    for error in [together, alone] {
        assert!(whole(&error).starts_with("the store refuses to record steps: "), "{}", whole(&error));
        assert!(whole(&error).contains("WRONGTYPE"), "{}", whole(&error));
    }
    for id in [jobs[0], jobs[1], jobs[3], jobs[4]] {
        assert_eq!(store.record([record(id)].into()).await.unwrap(), [Written::Yes]);
        assert_eq!(store.steps(id, 0, 9).await.unwrap().len(), 1, "it is not recorded twice");
    }
    assert_eq!(store.job(jobs[2]).await.unwrap().unwrap().counts.steps, 0);

    // Nor does one whose history cannot be kept hold up others, or itself.
    old.tell("SET", "h:", &jobs[2].to_bytes(), &[b"something else"]);
    let now = Timestamp::now();
    let snoozed = |job: JobId| {
        let attempt = Attempt { number: 1, worker, started: None, ended: now, ending: Ending::Snoozed };
        let runs = old_job(job, 0, stands(State::Running { worker }, 1, None));
        let hold = Hold::Lease(Lease { job, attempt: 1, worker });
        Settlement { hold, attempt: Some(attempt), ..settlement(&runs, NextState::Waiting { due: now }, now) }
    };
    assert_eq!(store.settle(jobs.map(snoozed).to_vec().into()).await.unwrap(), [Written::Yes; 5]);
    assert_eq!(store.lease(ask()).await.unwrap().jobs.len(), 5);
}
