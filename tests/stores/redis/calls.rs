//! What calls come to on a Redis server: who hears of them, and what is kept there.

use futures::future::join_all;
use jiff::Timestamp;
use qtasks::{
    job::{Job, JobCall, NewJob, NextState, Output, StateKind, Version},
    json::Json,
    lifecycle::Outcome,
    store::{Ask, Budget, Find, Hold, Lane, Note, NoteChange, Placement, Settlement, Written},
};
use qtasks_tests::{
    eventually, in_time,
    servers::{free_port, redis},
    whole,
};

use crate::{ask, lasting, new_job, open, settlement};

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
    let mut notes = other.notifier().notes();
    assert_eq!(one.note(vec![new_note("all")], vec![]).await.unwrap(), Written::Yes);
    in_time(notes.notification()).await;
}

/// A note that is new.
fn new_note(name: &str) -> NoteChange {
    let (kind, value) = ("pause".into(), Json::from_stored("{}"));
    NoteChange::Write {
        note: Note { kind, name: name.into(), version: Version::new(), value, until: None },
        seen: None,
    }
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_full_server_takes_notes_but_no_jobs_with_them() {
    let server = redis::Redis::start(&[]);
    let store = open(&server.url()).await;
    let job = new_job();
    store.enqueue(vec![job.clone()]).await.unwrap();
    assert_eq!(server.tell("CONFIG SET maxmemory 1").unwrap(), "+OK");
    let refused = store.note(vec![new_note("with a job")], vec![new_job()]).await.unwrap_err();
    assert!(whole(&refused).contains("maxmemory"), "{}", whole(&refused));
    assert_eq!(store.notes("pause").await.unwrap(), []);
    assert_eq!(store.note(vec![new_note("all")], vec![]).await.unwrap(), Written::Yes);
    assert_eq!(store.notes("pause").await.unwrap().len(), 1);
    let elsewhere = Placement { job: job.call.id, queue: Some("elsewhere".into()), priority: None, due: None };
    assert_eq!(store.place(elsewhere).await.unwrap(), Written::Yes);
    assert_eq!(store.recount().await.unwrap(), 0);
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn jobs_that_are_moved_out_of_a_line_are_leased_from_where_they_are() {
    // One call may find a job both where it stood in line and where it stands now.
    for limit in [40, 1_000] {
        moved_jobs_are_leased_from_where_they_are(limit).await;
    }
}

async fn moved_jobs_are_leased_from_where_they_are(limit: usize) {
    let store = open(&redis::url()).await;
    let mut jobs: Vec<_> = (0..300).map(|_| new_job()).collect();
    jobs.sort_by_key(|job| job.call.id);
    store.enqueue(jobs.clone()).await.unwrap();
    let [later, sooner, away] = [100, 200, 201].map(|index| jobs[index].call.id);
    let placement = |job, queue: Option<&str>, priority| Placement {
        job,
        queue: queue.map(str::to_owned),
        priority,
        due: Some(Timestamp::UNIX_EPOCH),
    };
    for placement in
        [placement(later, None, Some(-1)), placement(sooner, None, Some(1)), placement(away, Some("b"), None)]
    {
        assert_eq!(store.place(placement).await.unwrap(), Written::Yes);
    }
    let mut leased = Vec::new();
    while leased.len() < 299 {
        let some = store.lease(Ask { limit, ..ask() }).await.unwrap().jobs;
        assert!(!some.is_empty(), "{} are found", leased.len());
        leased.extend(some);
        assert_eq!(store.recount().await.unwrap(), 0, "with {} leased", leased.len());
    }
    let ids: Vec<_> = leased.iter().map(|job| job.call.id).collect();
    let usual = jobs.iter().map(|job| job.call.id).filter(|id| ![later, sooner, away].contains(id));
    assert_eq!(ids, [sooner].into_iter().chain(usual).chain([later]).collect::<Vec<_>>());
    assert!(leased.iter().all(|job| job.standing.attempt == 1));
    assert_eq!(store.lease(ask()).await.unwrap().jobs, []);
    let due = store.due_lanes(Timestamp::now()).await.unwrap();
    assert_eq!(due, [Lane { queue: "b".into(), task: "task".into() }]);
    let in_b = Ask { queues: ["b".to_owned()].into(), ..ask() };
    assert_eq!(store.lease(in_b).await.unwrap().jobs[0].call.id, away);
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn counts_that_an_operator_has_made_wrong_are_mended() {
    let server = redis::Redis::start(&[]);
    let store = open(&format!("redis://127.0.0.1:{}?app=shop", server.port)).await;
    let in_queue = |queue: &str| NewJob::from(JobCall { queue: queue.into(), ..new_job().call });
    // Not in their order, so that some stand in the list and some beside it.
    let mut jobs: Vec<_> = (0..2_500).map(|index| in_queue(["a", "b", "c"][index % 3])).collect();
    let late = jobs.split_off(1_200);
    for jobs in [late, jobs] {
        store.enqueue(jobs).await.unwrap();
    }
    let right = store.counts(Timestamp::now()).await.unwrap();
    assert_eq!(right.iter().map(|lane| lane.jobs.waiting).collect::<Vec<_>>(), [834, 833, 833]);
    for change in
        ["HINCRBY {shop}:4:counts 01:a:task 3", "HDEL {shop}:4:counts 01:b:task", "HSET {shop}:4:counts 31:d:task 5"]
    {
        assert!(server.tell(change).unwrap().starts_with(':'));
    }
    assert_ne!(store.counts(Timestamp::now()).await.unwrap(), right);
    assert_eq!(store.recount().await.unwrap(), 3);
    assert_eq!(store.counts(Timestamp::now()).await.unwrap(), right);
    assert_eq!(store.recount().await.unwrap(), 0);
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
    assert_eq!(store.find(Find::default().oldest_first(), None, Budget::jobs(9)).await.unwrap().jobs, leased);
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn jobs_that_are_called_off_in_line_are_passed_over_however_many_are_leased_at_once() {
    let store = open(&redis::url()).await;
    let mut jobs: Vec<_> = (0..3000).map(|_| new_job()).collect();
    jobs.sort_by_key(|job| job.call.id);
    store.enqueue(jobs.clone()).await.unwrap();
    let called_off = [1, 40, 1500, 2999].map(|index| jobs[index].call.id);
    let calling_off = called_off.map(|job| {
        let next = NextState::Cancelled { reason: "enough".to_owned() };
        let hold = Hold::Seen { job, state: StateKind::Waiting, attempt: 0 };
        let outcome = Outcome { next, failures: 0, suspect: None };
        Settlement { hold, outcome, steps: None, attempt: None, now: Timestamp::now() }
    });
    assert_eq!(store.settle(calling_off.into()).await.unwrap(), [Written::Yes; 4]);
    let mut leased = Vec::new();
    for (limit, count) in [(10, 10), (60, 70), (4000, 2996)] {
        leased.extend(store.lease(Ask { limit, ..ask() }).await.unwrap().jobs);
        assert_eq!(leased.len(), count);
    }
    let others = jobs.iter().map(|job| job.call.id).filter(|id| !called_off.contains(id));
    assert_eq!(leased.iter().map(|job| job.call.id).collect::<Vec<_>>(), others.collect::<Vec<_>>());
    assert!(leased.iter().all(|job| job.standing.attempt == 1));
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn settlements_of_one_call_are_written_but_for_those_that_are_fenced_off() {
    let store = open(&redis::url()).await;
    store.enqueue((0..3000).map(|_| new_job()).collect()).await.unwrap();
    let leased = store.lease(Ask { limit: 3000, ..ask() }).await.unwrap().jobs;
    let now = Timestamp::now();
    let by_lease = |job: &Job| {
        let next = NextState::Done { output: Output::Value(Json::from_stored("1")) };
        Settlement { hold: Hold::Lease(job.lease().unwrap()), ..settlement(job, next, now) }
    };
    let some: Vec<_> = leased.iter().step_by(1000).map(by_lease).collect();
    assert_eq!(store.settle(some.into()).await.unwrap(), [Written::Yes; 3]);
    let all: Vec<_> = leased.iter().map(by_lease).collect();
    let written = store.settle(all.into()).await.unwrap();
    let fenced: Vec<_> = (0..3000).filter(|index| written[*index] == Written::Fenced).collect();
    assert_eq!(fenced, [0, 1000, 2000]);
    let done =
        store.find(Find::default().state(StateKind::Done).oldest_first(), None, Budget::jobs(4000)).await.unwrap().jobs;
    assert_eq!(done.len(), 3000);
    assert_eq!(store.prune(Timestamp::MAX, Timestamp::MAX, 4000).await.unwrap(), 3000);
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
    assert_eq!(
        store.find(Find::default().oldest_first(), None, Budget::jobs(usize::MAX)).await.unwrap().jobs.len(),
        101
    );
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
    assert_eq!(keys("*"), format!("{prefix}4:reach {prefix}format"));
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
