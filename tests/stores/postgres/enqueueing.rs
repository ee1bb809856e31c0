//! Jobs that other clients enqueue: in transactions of the application, and by SQL.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use qtasks::{
    Budget, Duplicate, Find,
    job::{JobId, State},
    postgres::{
        InSchema,
        tokio_postgres::{Client, Config, NoTls},
    },
    prelude::*,
    store::Store,
};
use qtasks_tests::{
    eventually, in_time,
    servers::postgres::{shared, tell, url},
    whole,
};

use crate::{app, open, schema};

#[qtask]
async fn welcome(user: String) -> String {
    format!("welcome, {user}")
}

/// Whether a statement waits for a transaction.
pub(crate) const WAITS: &str = "SELECT count(*) > 0 FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND datname = current_database()";

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = url.parse::<Config>().unwrap().connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_job_exists_exactly_if_the_transaction_commits() {
    let url = shared().new_database();
    let app = app(&url).await;
    let store = open(&url).await;
    let mut client = connect(&url).await;
    client.batch_execute("CREATE TABLE users (name text)").await.unwrap();

    let mut tx = client.transaction().await.unwrap();
    let dropped = app.enqueue_in(&mut tx, welcome("Ada".into())).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(store.job(dropped.id()).await.unwrap(), None);

    let mut work = store.notifier().work();
    let mut tx = client.transaction().await.unwrap();
    tx.execute("INSERT INTO users VALUES ('Ada')", &[]).await.unwrap();
    let kept = app.enqueue_in(&mut tx, welcome("Ada".into()).priority(3)).await.unwrap();
    assert_eq!(store.job(kept.id()).await.unwrap(), None);
    tx.commit().await.unwrap();
    in_time(work.notification()).await;
    assert_eq!(store.job(kept.id()).await.unwrap().unwrap().call.priority, 3);
    app.worker().run_until_idle().await.unwrap();
    assert_eq!(kept.result().await.unwrap(), "welcome, Ada");
}

/// Another call with the same key waits until the transaction has ended.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_taken_exactly_if_the_transaction_commits() {
    let url = shared().new_database();
    let (app, mut client) = (Arc::new(app(&url).await), connect(&url).await);
    let call = |user: &str| welcome(user.into()).unique_key("k");
    for commits in [false, true] {
        let mut tx = client.transaction().await.unwrap();
        let first = app.enqueue_in(&mut tx, call("Ada")).await.unwrap();
        let again = app.enqueue_in(&mut tx, call("Bob")).await.unwrap();
        assert_eq!((first.is_new(), again.id(), again.is_new()), (true, first.id(), false));
        let (caller, meanwhile) = (app.clone(), call("Cid"));
        let other = tokio::spawn(async move { caller.enqueue(meanwhile).await });
        eventually("the other call waits", async || tell(&url, WAITS).unwrap() == "t").await;
        if commits {
            tx.commit().await.unwrap()
        } else {
            tx.rollback().await.unwrap()
        }
        let other = in_time(other).await.unwrap().unwrap();
        assert_eq!((other.is_new(), other.id() == first.id()), (!commits, commits));
        if !commits {
            other.cancel().await.unwrap();
        }
    }
    let mut tx = client.transaction().await.unwrap();
    let refused = call("Dan").on_duplicate(Duplicate::Refuse);
    let error = app.enqueue_in(&mut tx, refused).await.map(|job| job.id()).unwrap_err();
    assert!(error.to_string().ends_with("of `welcome` holds the key `k`"), "{error}");
    let replaced = app.enqueue_in(&mut tx, call("Eve").on_duplicate(Duplicate::Replace)).await.unwrap();
    tx.commit().await.unwrap();
    assert!(!replaced.is_new(), "the transaction has gone on");
    app.worker().run_until_idle().await.unwrap();
    assert_eq!(replaced.result().await.unwrap(), "welcome, Eve");
}

/// It joins it then, with the arguments that it was started with.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_replaces_waits_for_a_lease_that_is_under_way() {
    let url = shared().new_database();
    let (app, mut client) = (Arc::new(app(&url).await), connect(&url).await);
    let call = |user: &str| welcome(user.into()).unique_key("k").on_duplicate(Duplicate::Replace);
    let first = app.enqueue(call("Ada")).await.unwrap();
    let tx = client.transaction().await.unwrap();
    let run = format!("UPDATE qtasks.jobs SET state = 2, attempt = 1, worker = id WHERE id = '{}'", first.id());
    tx.execute(&run, &[]).await.unwrap();
    let (caller, meanwhile) = (app.clone(), call("Bob"));
    let second = tokio::spawn(async move { caller.enqueue(meanwhile).await });
    eventually("the call waits", async || tell(&url, WAITS).unwrap() == "t").await;
    tx.commit().await.unwrap();
    assert_eq!(in_time(second).await.unwrap().unwrap().id(), first.id());
    let job = open(&url).await.job(first.id()).await.unwrap().unwrap();
    assert_eq!((job.call.args.as_str(), job.standing.state.name()), (r#"{"user":"Ada"}"#, "running"));
}

/// While the transaction is open, the other job goes on, and may end.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_for_others_exactly_if_the_transaction_commits() {
    let url = shared().new_database();
    let (app, mut client) = (app(&url).await, connect(&url).await);
    for ends_before in [true, false] {
        let ends = async || in_time(app.worker().run_until_idle()).await.unwrap();
        let first = app.enqueue(welcome("Ada".into())).await.unwrap();
        let mut tx = client.transaction().await.unwrap();
        app.enqueue_in(&mut tx, welcome("none".into()).after(&first)).await.unwrap();
        tx.rollback().await.unwrap();
        let mut tx = client.transaction().await.unwrap();
        let next = app.enqueue_in(&mut tx, welcome("Bob".into()).after(&first)).await.unwrap();
        let last = app.enqueue_in(&mut tx, welcome("Cid".into()).after(&next)).await.unwrap();
        let error = app.enqueue_in(&mut tx, welcome("Dan".into()).after(JobId::new())).await.map(|job| job.id());
        assert!(matches!(error, Err(qtasks::Error::NoParent { .. })), "{error:?}");
        if ends_before {
            ends().await;
            assert_eq!(first.result().await.unwrap(), "welcome, Ada");
        }
        tx.commit().await.unwrap();
        let waits = app.any_job(next.id()).await.unwrap().status().await.unwrap().state;
        assert_eq!(waits.due().is_some(), ends_before, "{waits:?}");
        ends().await;
        assert_eq!(last.result().await.unwrap(), "welcome, Cid");
    }
    let state =
        "SELECT string_agg(DISTINCT state::text, ' ') || ' ' || (SELECT count(*) FROM qtasks.waits) FROM qtasks.jobs";
    assert_eq!(tell(&url, state).unwrap(), "3 0");
    assert_eq!(open(&url).await.recount().await.unwrap(), 0);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn an_id_names_one_job_in_a_transaction_too() {
    let url = shared().new_database();
    let (app, mut client) = (app(&url).await, connect(&url).await);
    let (id, of_sql) = (JobId::new(), JobId::new());
    tell(&url, &format!(r#"SELECT qtasks.enqueue('welcome', '{{"user":  "Eve"}}', '{{"id": "{of_sql}"}}')"#)).unwrap();
    let ada = || welcome("Ada".into()).id(id);
    let mut tx = client.transaction().await.unwrap();
    for call in [ada(), ada().priority(3), welcome("Eve".into()).id(of_sql)] {
        app.enqueue_in(&mut tx, call).await.unwrap();
    }
    let error = app.enqueue_in(&mut tx, welcome("Bob".into()).id(id)).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("job {id} of the task `welcome` is there with other")), "{error}");
    tx.commit().await.unwrap();
    assert_eq!(app.enqueue(ada()).await.unwrap().status().await.unwrap().attempt, 0);
    assert_eq!(app.find(Find::default().oldest_first()).budget(Budget::jobs(9)).await.unwrap().jobs.len(), 2);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_transaction_can_name_another_schema() {
    let url = url();
    let app = app(&url).await;
    let mut client = connect(&shared().database()).await;
    let mut tx = client.transaction().await.unwrap();
    let job = app.enqueue_in(InSchema::new(schema(&url), &mut tx), welcome("Ada".into())).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(job.status().await.unwrap().attempt, 0);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_database_without_our_tables_is_refused() {
    let mut client = connect(&shared().new_database()).await;
    let app = app(&shared().new_database()).await;
    let mut tx = client.transaction().await.unwrap();
    let error = app.enqueue_in(&mut tx, welcome("Ada".into())).await.unwrap_err();
    assert_eq!(
        whole(&error),
        "`the schema `qtasks`` is not a store of qtasks: it has no tables of qtasks; open it once as the store, and use the \
         same database here"
    );
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn any_client_can_enqueue_by_sql() {
    let url = shared().new_database();
    let app = app(&url).await;
    let store = open(&url).await;
    let mut work = store.notifier().work();
    let id: JobId = tell(&url, r#"SELECT qtasks.enqueue('welcome', '{"user": "Ada"}')"#).unwrap().parse().unwrap();
    in_time(work.notification()).await;
    app.worker().run_until_idle().await.unwrap();
    assert_eq!(app.job::<welcome>(id).await.unwrap().result().await.unwrap(), "welcome, Ada");
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn options_of_a_call_by_sql_are_those_of_a_call() {
    let url = shared().new_database();
    let store = open(&url).await;
    let call = |options: &str| format!("SELECT qtasks.enqueue('welcome', options => '{options}')");
    let id: JobId = tell(&url, &call(r#"{"queue": "mail", "priority": -7, "max_time": 1.5, "delay": 60}"#))
        .unwrap()
        .parse()
        .unwrap();
    let job = store.job(id).await.unwrap().unwrap();
    assert_eq!((&*job.call.queue, job.call.priority, job.call.args.as_str()), ("mail", -7, "{}"));
    assert_eq!(job.call.max_time, Some(Duration::from_millis(1_500)));
    assert_eq!(job.standing.state, State::waiting(job.call.enqueued + Duration::from_secs(60)));
    let id: JobId = tell(&url, &call(r#"{"at": "2030-01-02T03:04:05Z"}"#)).unwrap().parse().unwrap();
    let due: Timestamp = "2030-01-02T03:04:05Z".parse().unwrap();
    assert_eq!(store.job(id).await.unwrap().unwrap().standing.state, State::waiting(due));

    let own = JobId::new();
    for _ in 0..2 {
        let id: JobId = tell(&url, &call(&format!(r#"{{"id": "{own}"}}"#))).unwrap().parse().unwrap();
        assert_eq!(id, own, "a call that is made again finds its job");
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn ids_that_sql_makes_sort_by_age() {
    let url = shared().new_database();
    drop(open(&url).await);
    let before = JobId::new();
    let ids = tell(&url, "SELECT qtasks.enqueue('welcome') FROM generate_series(1, 200)").unwrap();
    let ids: Vec<JobId> = ids.lines().map(|id| id.parse().unwrap()).collect();
    let sorted = ids.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!(ids.iter().all(|id| *id > before) && sorted > 180, "{sorted} of 199");
    assert!(ids.iter().all(|id| id.to_string().as_bytes()[14] == b'7'), "{}", ids[0]);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn what_a_call_by_sql_cannot_mean_is_said() {
    let url = shared().new_database();
    drop(open(&url).await);
    let names = "they are made of 1 to 128 of `A-Z a-z 0-9 _ . : -`";
    for (arguments, said) in [
        ("'a task'", format!("`a task` is no name of a task or a queue: {names}")),
        ("''", format!("`` is no name of a task or a queue: {names}")),
        (r#"'t', '{}', '{"queue": "ü"}'"#, format!("`ü` is no name of a task or a queue: {names}")),
        ("'t', '[1]'", "the arguments of `t` are an object by parameter name".to_owned()),
        ("'t', jsonb_build_object('a', repeat('x', 1048576))", "the arguments of `t` are larger than 1 MiB".to_owned()),
        (
            r#"'t', '{}', '{"prio": 1}'"#,
            "no option `prio`; there are `queue`, `priority`, `delay`, `at`, `max_time`, `expires`, `id` and `traceparent`"
                .to_owned(),
        ),
        (
            r#"'t', '{}', '{"at": "2030-01-01", "delay": 1}'"#,
            "`at` and `delay` both say when the job is due; leave one of them out".to_owned(),
        ),
    ] {
        let error = tell(&url, &format!("SELECT qtasks.enqueue({arguments})")).unwrap_err();
        assert_eq!(error.lines().next(), Some(&*format!("ERROR:  {said}")));
    }
    assert_eq!(tell(&url, "SELECT count(*) FROM qtasks.jobs").unwrap(), "0");
}
