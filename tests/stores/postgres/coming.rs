//! Jobs are leased to workers that wait for them by the statement that enqueues them.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, join_all},
    stream::FuturesOrdered,
};
use qtasks::{
    Result,
    job::{Job, JobId, State, StateKind},
    json::Json,
    postgres::Postgres,
    store::{Ask, Budget, Find, Store},
};
use qtasks_tests::{
    eventually, in_time,
    servers::postgres::{shared, tell, url},
};
use tokio::time::timeout;

use crate::{ask, enqueueing::connect, new_job, open, schema};

type Coming = BoxFuture<'static, Result<Vec<Job>>>;

/// A worker asks for what comes, with nine slots free.
fn asked(store: &Postgres, ask: &Ask) -> Coming {
    let mut coming = store.lease_on_enqueue(ask.clone(), Arc::new(|| 9)).unwrap();
    assert!((&mut coming).now_or_never().is_none());
    coming
}

/// The ids of what it leases.
async fn leased(store: &Postgres, ask: &Ask) -> Vec<JobId> {
    store.lease(ask.clone()).await.unwrap().jobs.iter().map(|job| job.call.id).collect()
}

/// A job is enqueued that a worker waits for who has taken all that waited. Polls ring now and then, so this is tried
/// until none did.
async fn one_comes(store: &Postgres) {
    eventually("a job is leased as it is enqueued", async || {
        let (ask, job) = (ask(9), new_job());
        let coming = asked(store, &ask);
        assert_eq!(leased(store, &ask).await, []);
        let mut work = store.notifier().work();
        store.enqueue(vec![job.clone()]).await.unwrap();
        let Some(jobs) = coming.now_or_never() else {
            assert_eq!(leased(store, &ask).await, [job.call.id]);
            return false;
        };
        let stored = store.job(job.call.id).await.unwrap().unwrap();
        assert_eq!(
            (stored.standing.state.clone(), stored.standing.attempt),
            (State::Running { worker: ask.worker, due: job.due }, 1)
        );
        assert_eq!(jobs.unwrap(), [stored]);
        // Nobody else need look for it.
        !work.take_notification()
    })
    .await;
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_job_is_leased_by_the_statement_that_enqueues_it() {
    one_comes(&*open(&url()).await).await;
}

/// With many jobs a second some come while a worker looks for others. These must not make it look for ever.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_catches_up_while_jobs_come_all_the_time() {
    let (store, asked_for) = (open(&url()).await, ask(10_000));
    let jobs_come = (0..4).map(async |_| {
        loop {
            store.enqueue(vec![new_job()]).await.unwrap();
        }
    });
    let worker = async {
        let mut ahead = FuturesOrdered::new();
        let (mut came, mut looked_for) = (0, 0);
        while came + looked_for < 2_000 {
            while ahead.len() < 8 {
                ahead.push_back(store.lease_on_enqueue(asked_for.clone(), Arc::new(|| 10_000)).unwrap());
            }
            match timeout(Duration::from_millis(20), ahead.next()).await {
                Ok(jobs) => came += jobs.unwrap().unwrap().len(),
                Err(_) => looked_for += leased(&store, &asked_for).await.len(),
            }
        }
        (came, looked_for)
    };
    let (came, looked_for) = tokio::select! {
        all = in_time(worker) => all,
        _ = join_all(jobs_come) => unreachable!("they come all the time"),
    };
    assert!(came > looked_for, "{came} jobs came, and {looked_for} had to be looked for");
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn jobs_that_the_server_refuses_are_leased_to_nobody() {
    let (url, asked_for) = (url(), ask(9));
    let store = open(&url).await;
    let mut coming = asked(&store, &asked_for);
    assert_eq!(leased(&store, &asked_for).await, []);
    let check = format!("ALTER TABLE {}.jobs ADD CHECK (args <> 'null')", schema(&url));
    tell(&shared().database(), &check).unwrap();
    let wrong = qtasks::job::NewJob::from(qtasks::job::JobCall { args: Json::from_stored("null"), ..new_job().call });
    store.enqueue(vec![new_job(), wrong]).await.unwrap_err();
    assert_eq!(store.find(Find::default().oldest_first(), None, Budget::jobs(9)).await.unwrap().jobs, []);
    assert!((&mut coming).now_or_never().is_none(), "it still waits");
    for _ in 0..100 {
        _ = leased(&store, &asked_for).await;
        store.enqueue(vec![new_job()]).await.unwrap();
        if let Some(jobs) = (&mut coming).now_or_never() {
            return assert_eq!(jobs.unwrap().len(), 1);
        }
    }
    panic!("it waits for ever");
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn what_another_process_enqueued_comes_first() {
    let url = url();
    let (store, other, ask) = (open(&url).await, open(&url).await, ask(9));
    let (first, second) = (new_job(), new_job());
    let coming = asked(&store, &ask);
    assert_eq!(leased(&store, &ask).await, []);
    let mut work = store.notifier().work();
    other.enqueue(vec![first.clone()]).await.unwrap();
    in_time(work.notification()).await;
    store.enqueue(vec![second.clone()]).await.unwrap();
    assert!(coming.now_or_never().is_none());
    assert_eq!(leased(&store, &ask).await, [first.call.id, second.call.id]);
}

/// Until then nobody knows whether they are leased.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_question_is_taken_back_when_what_is_being_enqueued_is_there() {
    let url = url();
    let (store, ask) = (open(&url).await, ask(9));
    let client = connect(&shared().database()).await;
    let schema = schema(&url);
    let coming = asked(&store, &ask);
    assert_eq!(leased(&store, &ask).await, []);
    client.batch_execute(&format!("BEGIN; LOCK TABLE {schema}.jobs IN EXCLUSIVE MODE")).await.unwrap();
    let (job, enqueuing) = (new_job(), Arc::clone(&store));
    let enqueued = tokio::spawn(async move { enqueuing.enqueue(vec![job]).await });
    let waits = format!("SELECT count(*) > 0 FROM pg_locks WHERE relation = '{schema}.jobs'::regclass AND NOT granted");
    eventually("it is being enqueued", async || tell(&shared().database(), &waits).unwrap() == "t").await;
    let mut taken_back = pin!(store.stop_lease_on_enqueue(ask.worker));
    assert!((&mut taken_back).now_or_never().is_none());
    client.batch_execute("COMMIT").await.unwrap();
    in_time(taken_back).await;
    let answer = coming.now_or_never().expect("it is answered").unwrap();
    assert_eq!(
        answer,
        store.find(Find::default().state(StateKind::Running).oldest_first(), None, Budget::jobs(9)).await.unwrap().jobs
    );
    enqueued.await.unwrap().unwrap();
    assert_eq!([answer.len(), leased(&store, &ask).await.len()].iter().sum::<usize>(), 1);
}
