//! Tables of an older format become those of this one, and nothing in them is lost.

use std::{sync::Arc, time::Duration};

use qtasks::{
    job::{
        Attempt, Counts, Ending, Job, JobCall, JobId, Lease, Memo, NextState, Output, Progress, Reply, Standing, State,
        StateKind, Step, Suspect, WorkerId,
    },
    json::Json,
    lifecycle::Outcome,
    postgres::Postgres,
    store::{Ask, Budget, Find, Hold, JobCounts, Lane, LaneCounts, Presence, Settlement, Store, Suspects, Written},
};
use qtasks_tests::{
    eventually, in_time,
    servers::postgres::{shared, tell},
};

use crate::{NOW, ask, enqueueing::connect, new_job, open, with};

/// A database with tables of the format 1, and some jobs.
fn old() -> String {
    let url = shared().new_database();
    tell(&url, include_str!("format_1.sql")).unwrap();
    url
}

fn id(number: u8) -> JobId {
    format!("01900000-0000-7000-8000-00000000000{number:x}").parse().unwrap()
}

/// Who holds jobs there.
fn worker() -> WorkerId {
    WorkerId::from_bytes(id(10).to_bytes())
}

/// How a job stands after so many attempts.
fn stands(state: State, attempt: u32) -> Standing {
    Standing { state, attempt, failures: 0, suspect: None }
}

fn of_priority(priority: i16, job: Job) -> Job {
    Job { call: JobCall { priority, ..job.call }, ..job }
}

/// A job as the old tables have it.
fn job(number: u8, standing: Standing) -> Job {
    Job { call: JobCall { id: id(number), ..new_job().call }, standing, counts: Counts::default(), ended: None }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn jobs_of_the_format_1_are_kept_as_they_are() {
    let store = open(&old()).await;
    let (waiting, running) = (State::waiting(NOW), State::Running { worker: worker(), due: NOW });
    // It was lost once at least; of one that runs nobody says when it was leased, and a loss is not charged to it.
    let suspect = Some(Suspect { losses: 1, ..Suspect::default() });
    let done = State::Done { output: Output::Value(Json::from_stored("\"done\"")) };
    let ended = Some(NOW + Duration::from_secs(5));
    for expected in [
        Job {
            call: JobCall {
                args: Json::from_stored("{\"a\": 1}"),
                max_time: Some(Duration::from_secs(90)),
                ..job(1, stands(running.clone(), 1)).call
            },
            standing: Standing { failures: 2, ..stands(running.clone(), 1) },
            counts: Counts { steps: 2, skipped: 1, memos: 1, progress: Some(Progress { done: 1, total: 3 }) },
            ended: None,
        },
        job(2, Standing { suspect, failures: 2, ..stands(waiting.clone(), 3) }),
        of_priority(7, job(3, Standing { suspect, ..stands(waiting, 2) })),
        job(4, Standing { suspect, ..stands(running, 2) }),
        Job { ended, ..job(5, stands(done, 1)) },
        Job { ended, ..job(6, Standing { failures: 4, ..stands(State::Dead { error: "no".into() }, 4) }) },
    ] {
        assert_eq!(store.job(expected.call.id).await.unwrap(), Some(expected));
    }
    let steps = [
        Step { seq: 0, hash: u64::MAX, reply: Reply::Value(Json::from_stored("10")) },
        Step { seq: 1, hash: 5, reply: Reply::Skipped("skipped".into()) },
    ];
    assert_eq!(store.steps(id(1), 0, 9).await.unwrap(), steps);
    let memo = Memo { number: 0, step: None, name: "now".into(), nth: 0, value: Json::from_stored("7") };
    assert_eq!(store.memos(id(1), None, 0, 9).await.unwrap(), [memo]);
    let attempts = store.attempts(id(6)).await.unwrap();
    assert_eq!((attempts[0].number, &attempts[0].ending), (4, &Ending::Lost));
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn jobs_of_the_format_1_go_on() {
    let store = open(&old()).await;
    let presence = Presence { worker: worker(), beat: None, holds: true, gone: false };
    assert_eq!(store.workers().await.unwrap(), [presence], "its row is gone, which proves nothing");
    let held = store.held(worker(), 9).await.unwrap();
    assert_eq!(held.len(), 2);
    let lost = |job: &Job| Settlement {
        hold: Hold::Silent { lease: job.lease().unwrap(), beat: None },
        outcome: Outcome {
            next: NextState::Waiting { due: NOW },
            failures: 0,
            suspect: Some(Suspect { survived: Duration::from_secs(5), losses: 2, ..Suspect::default() }),
        },
        steps: None,
        attempt: None,
        now: NOW,
    };
    assert_eq!(store.settle(held.iter().map(lost).collect()).await.unwrap(), [Written::Yes; 2]);
    assert_eq!(store.workers().await.unwrap(), []);
    let mut order = Vec::new();
    for _ in 0..4 {
        let leased = store.lease(Ask { suspects: Suspects::OneAlone, ..ask(9) }).await.unwrap();
        order.extend(leased.jobs.iter().map(|job| job.call.id));
    }
    assert_eq!(order, [3, 2, 1, 4].map(id), "by what they have survived, then by priority and age");
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_store_of_the_format_2_gets_an_id_that_stays_and_the_rights_on_it_stay_too() {
    let url = old();
    tell(&url, include_str!("format_2.sql")).unwrap();
    tell(&url, "GRANT EXECUTE ON FUNCTION qtasks.enqueue TO pg_monitor").unwrap();
    let store = open(&url).await;
    assert_eq!(store.job(id(3)).await.unwrap().unwrap().call.priority, 7);
    let home = store.home();
    assert_eq!(open(&url).await.home(), home);
    assert_ne!(open(&shared().new_database()).await.home(), home);
    assert_eq!(tell(&url, "SELECT count(*), max(format) FROM qtasks.format").unwrap(), "1|8");
    let rights = "SELECT proacl::text LIKE '%pg_monitor=X%' FROM pg_proc WHERE proname = 'enqueue'";
    assert_eq!(tell(&url, rights).unwrap(), "t");
    let again = format!(r#"SELECT qtasks.enqueue('task', '{{"a": 1}}', '{{"id": "{}"}}')"#, id(1));
    assert_eq!(tell(&url, &again).unwrap(), id(1).to_string());
    let other = tell(&url, &again.replace("1}", "2}")).unwrap_err();
    assert!(other.contains("is there with other arguments"), "{other}");
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn jobs_of_the_format_3_go_on_and_the_rights_on_their_tables_are_there_for_the_new_ones() {
    let url = old();
    tell(&url, include_str!("format_2.sql")).unwrap();
    tell(&url, include_str!("format_3.sql")).unwrap();
    tell(&url, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA qtasks TO pg_monitor").unwrap();
    tell(&url, "GRANT SELECT ON ALL TABLES IN SCHEMA qtasks TO PUBLIC").unwrap();
    let before = "SELECT id FROM qtasks.format, qtasks.jobs WHERE store IS NOT NULL ORDER BY id";
    let ids = tell(&url, before).unwrap();
    let store = open(&url).await;
    assert_eq!(tell(&url, before).unwrap(), ids);
    for table in ["jobs", "lanes", "leases", "counts", "deltas", "notes"] {
        let of = |role: &str, may: &str| format!("has_table_privilege('{role}', 'qtasks.{table}', '{may}')");
        let asked = [of("pg_monitor", "SELECT"), of("pg_monitor", "DELETE"), of("pg_signal_backend", "SELECT")];
        assert_eq!(tell(&url, &format!("SELECT {}", asked.join(", "))).unwrap(), "t|t|t", "{table}");
        let denied = of("pg_signal_backend", "INSERT");
        assert_eq!(tell(&url, &format!("SELECT {denied}")).unwrap(), "f", "{table}");
    }
    assert_eq!(store.held(worker(), 9).await.unwrap().len(), 2);
    let mut order = Vec::new();
    for _ in 0..2 {
        let leased = store.lease(Ask { suspects: Suspects::OneAlone, ..ask(9) }).await.unwrap();
        order.extend(leased.jobs.iter().map(|job| job.call.id));
    }
    assert_eq!(order, [3, 2].map(id));
}

/// A database with tables of the format 5, as that version filled them.
fn of_the_format_5() -> String {
    let url = shared().new_database();
    tell(&url, include_str!("format_5.sql")).unwrap();
    url
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn jobs_of_the_format_5_are_counted_and_go_on() {
    let url = of_the_format_5();
    let store = open(&url).await;
    let lane = |queue: &str, jobs, oldest_due| LaneCounts {
        lane: Lane { queue: queue.into(), task: "task".into() },
        jobs,
        oldest_due: Some(oldest_due),
    };
    let mut counts = store.counts(NOW).await.unwrap();
    counts.sort_by(|one, other| one.lane.cmp(&other.lane));
    let mut jobs = JobCounts::default();
    (jobs.waiting, jobs.running, jobs.done, jobs.dead, jobs.cancelled) = (4, 1, 1, 1, 1);
    let mut in_mail = JobCounts::default();
    in_mail.waiting = 1;
    assert_eq!(counts, [lane("default", jobs, NOW), lane("mail", in_mail, NOW)]);
    assert_eq!(store.recount().await.unwrap(), 0);
    let budget = Budget { jobs: 9, looks: 1 };
    let found = store.find(Find::default().state(StateKind::Dead), None, budget).await.unwrap();
    let ended = Some(NOW + Duration::from_secs(5));
    assert_eq!(found.jobs, [Job { ended, ..job(3, stands(State::Dead { error: "no".into() }, 1)) }]);
    let order = [
        ask(9),
        Ask { queues: ["mail".into()].into(), ..ask(9) },
        Ask { now: NOW + Duration::from_secs(90), ..ask(9) },
    ];
    let mut leased = Vec::new();
    for ask in order {
        let jobs = store.lease(Ask { suspects: Suspects::OneAlone, ..ask }).await.unwrap().jobs;
        leased.push(jobs.iter().map(|job| job.call.id).collect::<Vec<_>>());
    }
    assert_eq!(leased, [vec![id(5), id(7)], vec![id(9)], vec![id(6), id(8)]]);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_program_of_the_format_5_that_is_still_connected_changes_no_job() {
    let url = of_the_format_5();
    let (before, client) = (connect(&url).await, connect(&url).await);
    let calls: Vec<_> = include_str!("format_5_calls.sql").trim_end().trim_end_matches(';').split(";\n").collect();
    assert_eq!(calls.len(), 5);
    for call in &calls {
        client.prepare(call).await.unwrap();
    }
    let prune = before.prepare(&calls[3].replace("$5", &format!("'{}'::uuid", id(0)))).await.unwrap();
    let (old, limit) = (0_i64, 9_i64);
    before.query(&prune, &[&old, &old, &limit, &"0"]).await.unwrap();
    drop(open(&url).await);
    for call in &calls {
        let refused = client.prepare(call).await.unwrap_err();
        let said = refused.as_db_error().unwrap().message().to_owned();
        assert!(said.ends_with("does not exist"), "{said}: {call}");
    }
    before.query(&prune, &[&old, &old, &limit, &"0"]).await.unwrap_err();
}

/// Who may only enqueue learns nothing more than before.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn who_could_enqueue_in_the_format_5_still_can() {
    let url = of_the_format_5();
    tell(&url, "CREATE ROLE shop_5; CREATE ROLE columns_5; GRANT USAGE ON SCHEMA qtasks TO shop_5, columns_5").unwrap();
    tell(&url, "GRANT INSERT, SELECT (id, task, args) ON qtasks.jobs TO shop_5").unwrap();
    let columns = "id, queue, task, priority, state, line, fresh, due, max_time, enqueued, args";
    tell(&url, &format!("GRANT INSERT ({columns}) ON qtasks.jobs TO columns_5")).unwrap();
    let store = open(&url).await;
    for role in ["shop_5", "columns_5"] {
        let call = format!("SET ROLE {role}; SELECT qtasks.enqueue('task')");
        let id: JobId = tell(&url, &call).unwrap().parse().unwrap();
        assert!(store.job(id).await.unwrap().is_some());
        for denied in ["SELECT * FROM qtasks.notes", "SELECT * FROM qtasks.counts", "DELETE FROM qtasks.deltas"] {
            let said = tell(&url, &format!("SET ROLE {role}; {denied}")).unwrap_err();
            assert!(said.contains("permission denied"), "{said}");
        }
    }
    assert_eq!(store.recount().await.unwrap(), 0);
}

/// A database with tables of the format 6, and the id of a job there that a span has enqueued.
fn of_the_format_6(span: &str) -> (String, JobId) {
    let url = of_the_format_5();
    tell(&url, include_str!("../../../qtasks/src/store/postgres/format_6.sql")).unwrap();
    tell(&url, include_str!("../../../qtasks/src/store/postgres/enqueue_6.sql")).unwrap();
    tell(&url, "UPDATE qtasks.format SET format = 6").unwrap();
    let call = format!(r#"SELECT qtasks.enqueue('task', '{{}}', '{{"traceparent": "{span}"}}')"#);
    let id = tell(&url, &call).unwrap().parse().unwrap();
    (url, id)
}

/// And who may only enqueue may enqueue what expires.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn jobs_of_the_format_6_keep_their_span_and_roles_their_rights() {
    let span = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let (url, traced) = of_the_format_6(span);
    tell(&url, "CREATE ROLE shop_6; CREATE ROLE worker_6; GRANT USAGE ON SCHEMA qtasks TO shop_6, worker_6").unwrap();
    tell(
        &url,
        "GRANT INSERT, SELECT (id, task, args) ON qtasks.jobs TO shop_6; GRANT INSERT ON qtasks.deltas TO shop_6",
    )
    .unwrap();
    tell(&url, "GRANT SELECT ON qtasks.cards TO shop_6").unwrap();
    tell(&url, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA qtasks TO worker_6").unwrap();
    let older = connect(&url).await;
    let insert = "INSERT INTO qtasks.jobs (id, queue, task, priority, state, due, enqueued, args, trace)
        VALUES (gen_random_uuid(), 'q', 'task', 0, 1, 0, 0, '{}', NULL)";
    let known = older.prepare(insert).await.unwrap();
    let store = open(&url).await;
    older.execute(&known, &[]).await.unwrap_err();
    let call = store.job(traced).await.unwrap().unwrap().call;
    assert_eq!((call.trace.as_deref(), call.expires), (Some(span), None));
    let enqueue = r#"SET ROLE shop_6; SELECT qtasks.enqueue('task', '{}', '{"expires": 60}')"#;
    let id: JobId = tell(&url, enqueue).unwrap().parse().unwrap();
    let expired = store.expired(jiff::Timestamp::MAX, 9).await.unwrap();
    assert_eq!(expired.jobs.iter().map(|job| job.call.id).collect::<Vec<_>>(), [id]);
    for (role, may) in [("shop_6", "f"), ("worker_6", "t")] {
        for table in ["expiring", "keys", "waits"] {
            let rights = format!("SELECT has_table_privilege('{role}', 'qtasks.{table}', 'DELETE')");
            assert_eq!(tell(&url, &rights).unwrap(), may, "{role}: {table}");
        }
        let lets_on = format!("SELECT has_function_privilege('{role}', 'qtasks.release(uuid[])', 'EXECUTE')");
        assert_eq!(tell(&url, &lets_on).unwrap(), "f", "only the end of a job lets others on");
    }
    assert_eq!(store.recount().await.unwrap(), 0);
}

/// It has to wait for others, and to make an index of all jobs.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_may_take_longer_than_a_call() {
    const WAITS: &str = "SELECT count(*) > 0 FROM pg_stat_activity
        WHERE wait_event_type = 'Lock' AND datname = current_database() AND now() - query_start > '2.5 s'";
    let url = old();
    let reader = connect(&url).await;
    reader.batch_execute("BEGIN; LOCK TABLE qtasks.jobs IN ACCESS SHARE MODE").await.unwrap();
    let opened = tokio::spawn({
        let url = with(&url, "timeout=1");
        async move { Postgres::open(&url).await }
    });
    eventually("the upgrade waits for a reader", async || tell(&url, WAITS).unwrap() == "t").await;
    reader.batch_execute("COMMIT").await.unwrap();
    let store = Arc::new(in_time(opened).await.unwrap().unwrap());
    let lease = Lease { job: id(1), attempt: 1, worker: worker() };
    let renewed = store.renew(worker(), 1).await.unwrap();
    assert!(renewed.leases.contains(&lease) && renewed.leases.len() == 2);
}

/// An older qtasks kept all.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn of_thousands_of_attempts_those_to_be_kept_are_read_and_the_next_settlement_deletes_the_others() {
    let url = shared().new_database();
    let store = open(&url).await;
    store.enqueue(vec![new_job()]).await.unwrap();
    let job = store.lease(ask(1)).await.unwrap().jobs.remove(0);
    let plant = format!(
        "INSERT INTO qtasks.attempts (job, number, worker, ended, ending)
         SELECT '{id}', n, '{id}', 0, '\"snoozed\"' FROM generate_series(1, 5000) AS n",
        id = job.call.id
    );
    tell(&url, &plant).unwrap();
    let numbers = async || -> Vec<u32> {
        store.attempts(job.call.id).await.unwrap().iter().map(|attempt| attempt.number).collect()
    };
    assert_eq!(numbers().await, (1..=10).chain(4911..=5000).collect::<Vec<_>>());
    let lease = job.lease().unwrap();
    let attempt =
        Attempt { number: 5001, worker: lease.worker, started: None, ended: NOW, ending: Ending::Snoozed, steps: None };
    let settlement = Settlement {
        hold: Hold::Lease(lease),
        outcome: Outcome { next: NextState::Waiting { due: NOW }, failures: 0, suspect: None },
        steps: None,
        attempt: Some(attempt),
        now: NOW,
    };
    assert_eq!(store.settle([settlement].into()).await.unwrap(), [Written::Yes]);
    assert_eq!(numbers().await, (1..=10).chain(4912..=5001).collect::<Vec<_>>());
    assert_eq!(tell(&url, "SELECT count(*) FROM qtasks.attempts").unwrap(), "100");
}
