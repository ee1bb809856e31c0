//! Calls of an application while its server is away: they wait for it, and no job comes of one call twice.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::future::join_all;
use libtest_mimic::Trial;
use qtasks::{
    Update,
    prelude::*,
    store::{Budget, Find},
};
use qtasks_tests::{eventually, in_time, length::in_turn, servers::proxy::Proxy};
use tokio::task::spawn_blocking;

use crate::{
    IMPATIENT,
    server::{Kind, Server},
    tasks::plain,
    test_on,
};

pub(crate) fn trials() -> Vec<Trial> {
    [
        on_both("enqueues_wait_for_a_server_that_is_restarted", enqueues_wait_for_a_restart),
        on_both("every_call_waits_for_a_server_that_is_restarted", every_call_waits_for_a_restart),
        on_both("an_enqueue_whose_answer_is_cut_off_makes_one_job", an_enqueue_whose_answer_is_cut_off),
        on_both("an_enqueue_that_nobody_answers_says_which_job_it_may_have_made", an_enqueue_that_nobody_answers),
        on_both("an_enqueue_ends_in_time_when_its_server_stays_away", an_enqueue_ends_in_time),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn on_both(name: &str, test: impl AsyncFnOnce(Kind) + Copy + Send + 'static) -> Vec<Trial> {
    let on = |kind: &Kind| {
        let kind = *kind;
        test_on(kind, name, async move || test(kind).await)
    };
    in_turn(&Kind::BOTH).iter().map(on).collect()
}

/// So long a call waits here: a restart takes much less, also on a machine that has much else to do.
const PATIENT: &str = "&timeout=60";

async fn patient(server: &Server) -> QueueTasks {
    QueueTasks::open(&(server.url(server.port()) + PATIENT)).await.unwrap()
}

async fn start(server: &Arc<Server>) {
    let server = Arc::clone(server);
    spawn_blocking(move || server.restart()).await.unwrap();
}

/// Kills it and starts it again, beside those who call it.
async fn restart(server: &Arc<Server>) {
    let server = Arc::clone(server);
    let restarted = spawn_blocking(move || {
        server.kill();
        server.restart();
    });
    restarted.await.unwrap();
}

async fn ids(app: &QueueTasks) -> BTreeSet<JobId> {
    app.find(Find::default().oldest_first())
        .budget(Budget::jobs(1_000_000))
        .await
        .unwrap()
        .jobs
        .into_iter()
        .map(|job| job.call.id)
        .collect()
}

async fn enqueues_wait_for_a_restart(kind: Kind) {
    let server = Arc::new(Server::start(kind));
    let app = patient(&server).await;
    let (over, enqueued) = (AtomicBool::new(false), AtomicUsize::new(0));
    let one_by_one = async |first: u64| {
        let mut ids = Vec::new();
        while !over.load(Relaxed) {
            ids.push(app.enqueue(plain(first + ids.len() as u64)).await.unwrap().id());
            enqueued.fetch_add(1, Relaxed);
        }
        ids
    };
    let many = async || {
        let mut ids = Vec::new();
        while !over.load(Relaxed) {
            let jobs = app.enqueue_all((0..10).map(plain)).await.unwrap();
            ids.extend(jobs.iter().map(|job| job.id()));
            enqueued.fetch_add(10, Relaxed);
        }
        ids
    };
    let some_more = async || {
        let before = enqueued.load(Relaxed);
        eventually("some more are enqueued", async || enqueued.load(Relaxed) > before + 40).await;
    };
    let restarts = async {
        for _ in 0..3 {
            some_more().await;
            restart(&server).await;
            some_more().await;
        }
        over.store(true, Relaxed);
    };
    let (one, other, all, ()) = tokio::join!(one_by_one(0), one_by_one(1_000_000), many(), restarts);
    let acknowledged: Vec<_> = one.into_iter().chain(other).chain(all).collect();
    let found = ids(&app).await;
    assert_eq!(found.len(), acknowledged.len(), "each call has made its jobs, once");
    assert_eq!(found, acknowledged.into_iter().collect());
}

async fn every_call_waits_for_a_restart(kind: Kind) {
    let server = Arc::new(Server::start(kind));
    let app = patient(&server).await;
    let [job, other] = [app.enqueue(plain(1)).await.unwrap(), app.enqueue(plain(2)).await.unwrap()];
    other.cancel().await.unwrap();
    let calls = async {
        let stream = async { other.stream_as::<u64>().next().await.unwrap().unwrap_err().to_string() };
        let (attached, any, listed, status, cancelled, result, stream, watched, retried) = tokio::join!(
            app.job::<plain>(job.id()),
            app.any_job(job.id()),
            app.find(Find::default().oldest_first()).budget(Budget::jobs(9)),
            other.status(),
            job.cancel(),
            other.result(),
            stream,
            other.watch().collect::<Vec<_>>(),
            app.enqueue_json("plain", &plain { value: 3 }),
        );
        attached.unwrap();
        any.unwrap();
        assert!(listed.unwrap().jobs.len() >= 2);
        assert_eq!(status.unwrap().state.name(), "cancelled");
        cancelled.unwrap();
        assert!(result.unwrap_err().to_string().ends_with("was cancelled: called off"));
        assert!(stream.ends_with("was cancelled: called off"), "{stream}");
        assert!(
            matches!(&watched[..], [Ok(Update::Status(standing))] if standing.state.name() == "cancelled"),
            "{watched:?}"
        );
        retried.unwrap();
    };
    // It is away when they begin.
    server.kill();
    in_time(async { tokio::join!(start(&server), calls) }).await;
    server.kill();
    let (retried, ()) = in_time(async { tokio::join!(other.retry(), start(&server)) }).await;
    retried.unwrap();
    assert_eq!(other.status().await.unwrap().state.name(), "waiting");
}

async fn an_enqueue_whose_answer_is_cut_off(kind: Kind) {
    let server = Server::start(kind);
    let line = Proxy::to(server.port(), Duration::ZERO).await;
    let app = QueueTasks::open(&(server.url(line.port) + PATIENT)).await.unwrap();
    let mut enqueued = BTreeSet::new();
    for number in 1..=5 {
        line.cut_at_answer_to("plain");
        enqueued.insert(in_time(app.enqueue(plain(number))).await.unwrap().id());
        line.cut_at_answer_to("plain");
        enqueued.extend(in_time(app.enqueue_all((0..3).map(plain))).await.unwrap().iter().map(|job| job.id()));
        line.cut_at_answer_to("plain");
        enqueued.insert(in_time(app.enqueue_json("plain", &plain { value: 3 })).await.unwrap().id());
    }
    assert_eq!((line.cuts(), enqueued.len()), (15, 25), "each answer was cut off once");
    assert_eq!(ids(&app).await, enqueued);
}

/// What an enqueue says that nobody answers: of which job, and why.
async fn in_doubt(app: &QueueTasks, id: JobId) -> String {
    let error = in_time(app.enqueue(plain(1).id(id))).await.unwrap_err();
    assert_eq!(error.jobs_in_doubt(), [id], "{error}");
    assert!(error.is_store_trouble() && error.to_string().contains(&format!("`.id({id})`")), "{error}");
    error.to_string()
}

async fn an_enqueue_that_nobody_answers(kind: Kind) {
    let server = Server::start(kind);
    let line = Proxy::to(server.port(), Duration::ZERO).await;
    let app = QueueTasks::open(&(server.url(line.port) + IMPATIENT)).await.unwrap();
    let id = JobId::new();
    // It does not come through, and neither end is told.
    line.swallow_at("plain");
    let said = in_doubt(&app, id).await;
    assert!(said.contains("the store could not enqueue jobs: no answer from "), "{said}");
    assert_eq!(in_time(app.enqueue(plain(1).id(id))).await.unwrap().id(), id);
    assert_eq!(ids(&app).await, [id].into());
}

async fn an_enqueue_ends_in_time(kind: Kind) {
    let server = Arc::new(Server::start(kind));
    let app = QueueTasks::open(&(server.url(server.port()) + IMPATIENT)).await.unwrap();
    let id = JobId::new();
    server.kill();
    let said = in_doubt(&app, id).await;
    assert!(said.contains("the store could not enqueue jobs: ") && said.contains("refused"), "{said}");
    start(&server).await;
    assert_eq!(in_time(app.enqueue(plain(1).id(id))).await.unwrap().id(), id);
    in_time(app.enqueue(plain(1).id(id))).await.unwrap();
    let many = in_time(app.enqueue_all([plain(1).id(id), plain(2).into_call()])).await.unwrap();
    assert_eq!(ids(&app).await, [id, many[1].id()].into());
    server.freeze();
    // However many wait, none waits for another first.
    let ids: Vec<_> = (0..40).map(|_| JobId::new()).collect();
    let said = in_time(join_all(ids.iter().map(|id| in_doubt(&app, *id)))).await;
    assert!(said.iter().all(|said| said.contains("no answer from ")), "{said:?}");
    server.thaw();
}
