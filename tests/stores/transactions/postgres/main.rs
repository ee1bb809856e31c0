//! Handlers that run in a transaction of Postgres: what they write is there exactly once.

/// A handler, as this store takes it: an `async fn`.
macro_rules! handler {
    ($(#[$doc:meta])* $shown:vis fn $name:ident($tx:ident $(, $taken:ident: $type:ty)*) -> $gives:ty $body:block) => {
        $(#[$doc])*
        $shown async fn $name($tx: &mut crate::Transaction<'_>, $($taken: $type),*) -> $gives $body
    };
}

/// What a call gives that a handler makes through its transaction.
macro_rules! done {
    ($call:expr) => {
        $call.await
    };
}

/// Runs each of the tests on this store.
macro_rules! on_this_store {
    ($($test:ident),* $(,)?) => {
        mod on_postgres {
            $(#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                super::$test().await;
            })*
        }
    };
}

mod connections;
#[path = "../rules/mod.rs"]
mod rules;
mod statements;
mod stopped;

use std::sync::OnceLock;

use qtasks::{
    postgres::{Transaction, tokio_postgres},
    prelude::*,
};
use qtasks_tests::{Place, Stage, servers::postgres::shared};

const KIND: &str = "postgres";
/// How many values are many here.
const LONG: i64 = 1_500;
/// What is said of a reply that `refuse_poison` has the store refuse.
const REFUSED: &str = "the store refuses to run handlers in a transaction: new row for relation \"steps\" violates check \
                       constraint \"clean\" (SQLSTATE 23514)";

type Sql<T> = std::result::Result<T, tokio_postgres::Error>;

const TABLES: &str = "
    CREATE TABLE kinds (id int PRIMARY KEY);
    CREATE TABLE saved (number bigserial, value bigint, job text, key text,
        kind int REFERENCES kinds DEFERRABLE INITIALLY DEFERRED)";

fn place() -> Place {
    Place::postgres()
}

/// Stores in whose transactions these handlers cannot run.
fn others() -> Vec<Place> {
    vec![Place::memory(), Place::sqlite()]
}

async fn stage() -> Stage {
    let stage = Stage::open(place()).await;
    make_tables(&stage);
    stage
}

/// What tests save stands in one table of the server that they share, apart by job.
fn make_tables(_stage: &Stage) {
    make_shared_tables();
}

fn make_shared_tables() {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| _ = shared().tell(TABLES).unwrap());
}

/// One column of what was saved for a job, in the order of its saving.
fn saved(_stage: &Stage, job: JobId, column: &str) -> Vec<String> {
    rows(job, column)
}

fn rows(job: JobId, column: &str) -> Vec<String> {
    let asked = format!("SELECT {column} FROM saved WHERE job = '{job}' ORDER BY number");
    shared().tell(&asked).unwrap().lines().map(str::to_owned).collect()
}

fn saved_values(job: JobId) -> Vec<i64> {
    rows(job, "value").iter().map(|value| value.parse().unwrap()).collect()
}

async fn insert(tx: &Transaction<'_>, value: i64, ctx: &TaskContext) -> Sql<()> {
    let (job, key) = (ctx.job_id().to_string(), ctx.idempotency_key());
    tx.execute("INSERT INTO saved (value, job, key) VALUES ($1, $2, $3)", &[&value, &job, &key]).await.map(drop)
}

/// Has the store refuse every reply with that word in it.
fn refuse_poison(stage: &Stage) {
    let schema = stage.place.url.split_once("schema=").unwrap().1;
    let check = format!("ALTER TABLE {schema}.steps ADD CONSTRAINT clean CHECK (reply NOT LIKE '%poison%')");
    shared().tell(&check).unwrap();
}
