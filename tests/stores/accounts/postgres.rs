//! What a role needs on a Postgres server, and what is said of one that lacks it.

mod shared;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use qtasks::{
    QueueTasks,
    job::WorkerId,
    postgres::{Postgres, Transaction, tokio_postgres},
    prelude::*,
    store::Store,
};
use qtasks_tests::{
    jobs::{ask, new_job},
    servers,
    servers::postgres::tell,
    whole,
};

use shared::{documented, jobs_are_done};

fn server() -> &'static servers::postgres::Postgres {
    static SHARED: OnceLock<servers::postgres::Postgres> = OnceLock::new();
    SHARED.get_or_init(|| servers::postgres::Postgres::start(&["-c", "fsync=off"]))
}

/// A schema of its own, with its owner, and a role that owns nothing.
struct Stage {
    /// The URL for the superuser, who is asked nothing about the schema.
    god: String,
    /// The URLs for the owner and the role.
    owner: String,
    url: String,
    role: String,
    schema: String,
}

impl Stage {
    fn new() -> Self {
        Self::on(&server().database())
    }

    fn on(database: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Relaxed);
        let [owner, role, schema] = ["owner", "role", "schema"].map(|name| format!("{name}_{number}"));
        let [first, second] = [&owner, &role].map(|name| format!("CREATE ROLE {name} LOGIN PASSWORD 'SECRET'"));
        tell(database, &format!("{first}; {second}; CREATE SCHEMA {schema} AUTHORIZATION {owner}")).unwrap();
        let url = |name: &str| database.replace("tests:secret@", &format!("{name}:SECRET@")) + "?schema=" + &schema;
        Self { god: database.to_owned(), owner: url(&owner), url: url(&role), role, schema }
    }

    /// One that its owner has opened, and whose role has the rights that the block of the documentation gives.
    async fn with(first: &str) -> Self {
        let stage = Self::new();
        Postgres::open(&stage.owner).await.unwrap();
        let block = documented("postgres/mod.rs", first).join("\n");
        let block = block.replace(" TO worker", " TO ROLE").replace(" TO shop", " TO ROLE");
        stage.command(&format!("REVOKE EXECUTE ON FUNCTION qtasks.enqueue FROM PUBLIC; {block}"));
        stage
    }

    fn database(&self) -> &str {
        self.god.rsplit_once('/').unwrap().1
    }

    /// What is said of the schema `qtasks` and the role `ROLE`, for these.
    fn named(&self, sql: &str) -> String {
        sql.replace("qtasks", &self.schema).replace("ROLE", &self.role)
    }

    /// Has the superuser carry it out.
    fn command(&self, sql: &str) {
        tell(&self.god, &self.named(sql)).unwrap();
    }

    async fn refused(&self) -> String {
        whole(&Postgres::open(&self.url).await.unwrap_err())
    }

    /// The line stands in what is said; it is carried out.
    fn mend(&self, said: &str, line: &str) {
        let line = self.named(line);
        assert!(said.contains(&format!("`{line}`")), "{line}: {said}");
        tell(&self.god, &line).unwrap();
    }
}

const WORKER: &str = "GRANT USAGE ON SCHEMA qtasks TO worker;";
const CLIENT: &str = "GRANT USAGE ON SCHEMA qtasks TO shop;";

/// Rules of stores, by which all calls are made.
macro_rules! rules {
    ($($rule:ident)*) => {
        mod with_exactly_the_documented_rights {
            $(#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
            #[test]
            fn $rule() {
                qtasks::store::conformance::check(super::store_of_a_role, qtasks::store::conformance::$rule);
            })*
        }
    };
}

rules! {
    an_enqueued_job_is_kept_as_it_was_given
    enqueueing_again_changes_nothing
    the_most_urgent_job_is_leased_first
    a_suspect_is_leased_with_the_time_and_liable_as_asked
    concurrent_leases_give_each_job_once
    new_jobs_come_to_a_worker_that_waits
    renewing_gives_the_leases_that_are_held
    only_a_silent_worker_without_jobs_is_forgotten
    a_renewal_in_time_or_another_takes_the_job
    recorded_steps_are_kept_in_order
    memos_are_kept_in_order
    jobs_of_a_record_are_enqueued_with_it
    a_job_that_waits_again_is_leased_again_when_it_is_due
    a_dead_job_can_be_tried_again
    attempts_that_ended_are_kept
    pruning_deletes_all_that_belongs_to_a_job
    jobs_are_found_by_what_they_are
    a_job_that_waits_is_moved
    jobs_are_counted_in_every_state
    notes_change_with_their_jobs_or_not_at_all
    changes_of_a_job_are_notified
    thousands_at_once_are_fine
}

async fn store_of_a_role() -> (Stage, Arc<dyn Store>) {
    let stage = Stage::with(WORKER).await;
    let store = Postgres::open(&stage.url).await.unwrap();
    (stage, Arc::new(store))
}

async fn save(tx: &mut Transaction<'_>, number: i64) -> Result<i64, tokio_postgres::Error> {
    tx.query_one("INSERT INTO saved VALUES ($1) RETURNING number", &[&number]).await?.try_get(0)
}

#[qtask(generate_handler = save)]
async fn saves() -> Vec<i64> {
    yield_!(7);
    yield_!(8);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_the_documented_rights_has_jobs_done_and_values_saved() {
    let stage = Stage::with(WORKER).await;
    stage.command("CREATE TABLE saved (number bigint); GRANT SELECT, INSERT ON saved TO ROLE");
    let app = QueueTasks::open(&stage.url).await.unwrap();
    jobs_are_done(&app).await;
    let job = app.enqueue(saves()).await.unwrap();
    app.worker().run_until_idle().await.unwrap();
    assert_eq!(job.result().await.unwrap(), [7, 8]);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn any_client_with_the_documented_rights_enqueues_by_the_function() {
    let stage = Stage::with(CLIENT).await;
    let enqueue = "SELECT qtasks.enqueue('task', '{}', '{\"queue\": \"mail\"}')";
    let as_client = stage.url.split('?').next().unwrap();
    let store = Postgres::open(&stage.owner).await.unwrap();
    stage.command(r#"INSERT INTO qtasks.notes VALUES ('task', 'card', gen_random_uuid(), '{"queue": "letters"}')"#);
    for (call, queue) in [(enqueue, "mail"), ("SELECT qtasks.enqueue('card')", "letters")] {
        let id = tell(as_client, &stage.named(call)).unwrap();
        assert_eq!(&*store.job(id.parse().unwrap()).await.unwrap().unwrap().call.queue, queue);
    }
    for denied in
        ["SELECT * FROM qtasks.notes", "INSERT INTO qtasks.notes VALUES ('task', 'x', gen_random_uuid(), '{}')"]
    {
        let said = tell(as_client, &stage.named(denied)).unwrap_err();
        assert!(said.contains("permission denied"), "{said}");
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn each_right_that_is_missing_is_said_with_the_grant_that_gives_it() {
    const TABLES: &str = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA qtasks TO ROLE";
    let stage = Stage::new();
    stage.command("DROP SCHEMA qtasks");
    stage.mend(&stage.refused().await, &format!("GRANT CREATE ON DATABASE {} TO ROLE", stage.database()));
    stage.command(&format!("REVOKE CREATE ON DATABASE {} FROM ROLE; CREATE SCHEMA qtasks", stage.database()));
    stage.mend(&stage.refused().await, "GRANT USAGE, CREATE ON SCHEMA qtasks TO ROLE");
    Postgres::open(&stage.url).await.unwrap();

    let stage = Stage::with(WORKER).await;
    stage.command("REVOKE ALL ON SCHEMA qtasks FROM ROLE; REVOKE ALL ON ALL TABLES IN SCHEMA qtasks FROM ROLE");
    stage.mend(&stage.refused().await, "GRANT USAGE ON SCHEMA qtasks TO ROLE");
    stage.mend(&stage.refused().await, TABLES);
    let store = Postgres::open(&stage.url).await.unwrap();
    store.enqueue(vec![new_job()]).await.unwrap();
    let revoke = || stage.command("REVOKE DELETE, UPDATE ON qtasks.jobs, qtasks.workers FROM ROLE");
    revoke();
    stage.mend(&whole(&store.lease(ask(1)).await.unwrap_err()), TABLES);
    revoke();
    stage.mend(&whole(&store.renew(WorkerId::new(), 1).await.unwrap_err()), TABLES);
    store.lease(ask(1)).await.unwrap();
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn what_keeps_a_role_out_of_a_database_is_said_with_what_lets_it_in() {
    let stage = Stage::on(&server().new_database());
    stage.command(&format!("REVOKE CONNECT ON DATABASE {} FROM PUBLIC", stage.database()));
    stage.mend(&stage.refused().await, &format!("GRANT CONNECT ON DATABASE {} TO ROLE", stage.database()));
    tell(&stage.god, &format!("ALTER ROLE {} NOLOGIN", stage.role)).unwrap();
    let said = stage.refused().await;
    assert!(said.contains(&format!("`ALTER ROLE {} LOGIN`", stage.role)), "{said}");
    tell(&stage.god, &format!("ALTER ROLE {} LOGIN", stage.role)).unwrap();
    let said = whole(&Postgres::open(&stage.url.replace(stage.database(), "nowhere")).await.unwrap_err());
    assert!(said.contains("`CREATE DATABASE nowhere` makes it"), "{said}");
    let said = whole(&Postgres::open(&format!("{}&sslmode=require", stage.url)).await.unwrap_err());
    assert!(said.contains("TLS") && said.contains("`?sslmode=disable` goes without"), "{said}");
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn tables_that_only_their_owner_can_bring_up_to_date_are_said_to_be_so() {
    let stage = Stage::with(WORKER).await;
    // As those of format 1, as far as this matters.
    stage.command("UPDATE qtasks.format SET format = 1");
    let said = stage.refused().await;
    let owner = stage.role.replace("role", "owner");
    assert!(said.contains(&format!("the role `{owner}` owns them")), "{said}");
}

/// What a role, or its database, may have set, and what would break there without more.
const SETTINGS: &[&str] = &[
    "idle_session_timeout = '400ms'",
    "idle_in_transaction_session_timeout = '1ms'",
    "statement_timeout = '1ms'",
    "lock_timeout = '1ms'",
    "default_transaction_isolation = 'serializable'",
    "default_transaction_deferrable = on",
    "search_path = odd, pg_catalog",
    "row_security = off",
    "bytea_output = 'escape'",
    "client_encoding = 'LATIN1'",
    "synchronous_commit = off",
    "DateStyle = 'German'",
    "IntervalStyle = 'sql_standard'",
    "TimeZone = 'Asia/Kathmandu'",
    "standard_conforming_strings = off",
    "extra_float_digits = -15",
    "enable_indexscan = off",
    "transform_null_equals = on",
    "lc_messages = 'C'",
];

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_role_has_set_for_its_sessions_breaks_nothing() {
    let stage = Stage::with(WORKER).await;
    let set = SETTINGS.iter().map(|setting| format!("ALTER ROLE {} SET {setting}", stage.role)).collect::<Vec<_>>();
    tell(&stage.god, &format!("CREATE SCHEMA odd; CREATE TABLE odd.jobs (other int); {}", set.join("; "))).unwrap();
    let app = QueueTasks::open(&stage.url).await.unwrap();
    for _ in 0..10 {
        jobs_are_done(&app).await;
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn no_session_of_ours_is_ended_for_being_idle() {
    let stage = Stage::with(WORKER).await;
    tell(&stage.god, &format!("ALTER ROLE {} SET idle_session_timeout = '400ms'", stage.role)).unwrap();
    let store = Postgres::open(&stage.url).await.unwrap();
    store.enqueue(vec![new_job()]).await.unwrap();
    let sessions =
        format!("SELECT count(*), min(backend_start) FROM pg_stat_activity WHERE usename = '{}'", stage.role);
    let (begun, before) = (Instant::now(), tell(&stage.god, &sessions).unwrap());
    while begun.elapsed() < Duration::from_secs(1) {
        assert_eq!(tell(&stage.god, &sessions).unwrap(), before);
    }
    store.enqueue(vec![new_job()]).await.unwrap();
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_role_that_may_only_read_is_said_to_be_one() {
    let stage = Stage::with(WORKER).await;
    tell(&stage.god, &format!("ALTER ROLE {} SET default_transaction_read_only = on", stage.role)).unwrap();
    let said = stage.refused().await;
    assert!(said.contains(&format!("`ALTER ROLE {} SET default_transaction_read_only = off`", stage.role)), "{said}");
}
