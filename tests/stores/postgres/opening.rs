//! Opening a store: the schema, its format, and servers that cannot be one.

use futures::future::join_all;
use qtasks::{
    job::WorkerId,
    store::{self, Store},
};
use qtasks_tests::{
    in_time,
    servers::postgres::{Postgres, shared, tell, url},
    whole,
};

use crate::{ask, new_job, open, refused, schema, with};

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn many_may_open_a_new_database_at_once() {
    let url = shared().new_database();
    for opened in join_all((0..8).map(|_| open(&url))).await {
        opened.enqueue(vec![new_job()]).await.unwrap();
    }
    assert_eq!(open(&url).await.lease(ask(99)).await.unwrap().jobs.len(), 8);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn both_names_of_the_scheme_open_it() {
    let url = url();
    let job = new_job();
    store::open(&url).await.unwrap().enqueue(vec![job.clone()]).await.unwrap();
    let other = url.replacen("postgres://", "postgresql://", 1);
    assert!(store::open(&other).await.unwrap().job(job.call.id).await.unwrap().is_some());
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn the_tables_and_migrations_of_the_application_are_left_alone() {
    const TABLES: &str = "SELECT string_agg(nspname || '.' || relname, ' ' ORDER BY relname) FROM pg_class
        JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'public' AND relkind = 'r'";
    let url = shared().new_database();
    tell(&url, "CREATE TABLE jobs (id int); CREATE TABLE _sqlx_migrations (version int)").unwrap();
    open(&url).await.enqueue(vec![new_job()]).await.unwrap();
    assert_eq!(tell(&url, TABLES).unwrap(), "public._sqlx_migrations public.jobs");
    assert_eq!(tell(&url, "SELECT count(*) FROM jobs").unwrap(), "0");
    assert_eq!(tell(&url, "SELECT count(*) FROM qtasks.jobs").unwrap(), "1");
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_newer_format_is_refused() {
    let url = shared().new_database();
    drop(open(&url).await);
    tell(&url, "UPDATE qtasks.format SET format = 99").unwrap();
    let place = url.replace(":secret", "");
    let known = "and this qtasks knows formats up to 8; update qtasks here, or use another store";
    assert_eq!(refused(&url).await, format!("the store at `{place}` has the format 99, {known}"));
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_schema_of_somebody_else_is_refused() {
    let url = url();
    let schema = schema(&url);
    tell(&shared().database(), &format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.jobs (other text)")).unwrap();
    let place = url.replace(":secret", "");
    assert_eq!(
        refused(&url).await,
        format!(
            "`{place}` is not a store of qtasks: its schema `{schema}` has a `jobs` and no `format`; name another with \
             `?schema=NAME`"
        )
    );
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_migration_that_fails_half_way_leaves_the_older_format() {
    let url = url();
    let schema = schema(&url);
    let database = shared().database();
    // What is in its way comes after the tables.
    let function = format!("{schema}.enqueue(text, jsonb, jsonb)");
    let body = format!("CREATE FUNCTION {function} RETURNS int LANGUAGE sql AS 'SELECT 1'");
    tell(&database, &format!("CREATE SCHEMA {schema}; {body}")).unwrap();
    let said = refused(&url).await;
    assert!(said.starts_with("the store could not bring its tables up to date: ERROR: "), "{said}");
    let found =
        tell(&database, &format!("SELECT count(*) FROM pg_class WHERE relnamespace = '{schema}'::regnamespace"));
    assert_eq!(found.unwrap(), "0");
    tell(&database, &format!("DROP FUNCTION {function}")).unwrap();
    open(&url).await.enqueue(vec![new_job()]).await.unwrap();
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn who_may_not_make_a_schema_can_use_one_that_is_there() {
    let url = shared().new_database();
    tell(&url, "CREATE ROLE guest LOGIN PASSWORD 'hidden'").unwrap();
    let guest = url.replace("tests:secret@", "guest:hidden@");
    let said = refused(&guest).await;
    assert!(said.starts_with("the store could not bring its tables up to date: ERROR: permission denied"), "{said}");
    drop(open(&url).await);
    let rights = "GRANT USAGE ON SCHEMA qtasks TO guest;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA qtasks TO guest";
    tell(&url, rights).unwrap();
    let store = open(&guest).await;
    store.enqueue(vec![new_job()]).await.unwrap();
    assert_eq!(store.lease(ask(9)).await.unwrap().jobs.len(), 1);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_server_that_does_not_let_us_in_is_said_without_the_password() {
    let url = url();
    let said = refused(&url.replace("tests:secret", "tests:guessed")).await;
    assert_eq!(
        said,
        "the store could not reach its database: FATAL: password authentication failed for user \"tests\""
    );
    let nobody = refused("postgres://tests:secret@127.0.0.1:1/postgres").await;
    let unreached = "the store could not reach its database: no connection to postgres://tests@127.0.0.1:1/postgres: ";
    assert!(nobody.starts_with(unreached) && nobody.contains("refused"), "{nobody}");
    let store = open(&url).await;
    for text in [said, nobody, format!("{store:?}")] {
        assert!(!text.contains("secret") && !text.contains("guessed"), "{text}");
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_database_that_does_not_keep_all_text_is_refused() {
    let made = "CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0";
    shared().tell(made).unwrap();
    let url = format!("{}/ascii", shared().database().rsplit_once('/').unwrap().0);
    let said = refused(&url).await;
    assert!(said.ends_with("is not a store of qtasks: its encoding is SQL_ASCII, and qtasks needs UTF8"), "{said}");
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn encryption_that_the_server_does_not_have_is_not_done_without() {
    let url = url();
    drop(open(&with(&url, "sslmode=prefer")).await);
    for mode in ["require", "verify-full"] {
        let said = refused(&with(&url, &format!("sslmode={mode}"))).await;
        assert!(said.starts_with("the store could not reach its database: ") && said.contains("TLS"), "{said}");
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn connections_are_encrypted_and_certificates_checked_as_asked_for() {
    const ENCRYPTED: &str = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE application_name = 'qtasks'";
    let server = Postgres::start_encrypted();
    let url = server.database();
    let certificate = format!("sslrootcert={}", server.certificate().display());
    for parameter in ["sslmode=prefer", "sslmode=require", &certificate, &format!("sslmode=verify-full&{certificate}")]
    {
        let store = open(&with(&url, parameter)).await;
        store.enqueue(vec![new_job()]).await.unwrap();
        assert_eq!(server.tell(ENCRYPTED).unwrap(), "t", "{parameter}");
    }
    let said = refused(&with(&url, "sslmode=verify-full")).await;
    assert!(said.starts_with("the store could not reach its database: ") && said.contains("certificate"), "{said}");
    let said = refused(&with(&url, "sslrootcert=/no/such/file")).await;
    assert!(
        said.starts_with("the store could not read the certificates to trust: `/no/such/file`: No such file"),
        "{said}"
    );
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn through_a_pooler_jobs_are_enqueued_and_read_and_no_worker_starts() {
    let url = url();
    let (store, direct) = (open(&with(&url, "pooler=transaction")).await, open(&url).await);
    let mut work = direct.notifier().work();
    let job = new_job();
    store.enqueue(vec![job.clone()]).await.unwrap();
    in_time(work.notification()).await;
    assert_eq!(store.job(job.call.id).await.unwrap().unwrap().standing.state.name(), "waiting");
    assert_eq!(
        whole(&store.renew(WorkerId::new(), 1).await.unwrap_err()),
        "a worker needs connections of its own to Postgres, and these go through a pooler (`pooler=transaction`); give \
         workers a URL that leads past it"
    );
}
