//! The tables, and how those of an older qtasks become those of this one.
//!
//! The tables stand in a schema of their own, and the format in a table of its own, so that neither clashes with the tables
//! or the migrations of the application.

use std::time::Duration;

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{
    account, encoding,
    error::Fault,
    pool::{Database, Transaction},
    url::StoreUrl,
};
use crate::error::{Error, Result};

/// Each migration takes the tables from one format to the next; the first one from an empty schema.
///
/// Times are milliseconds since 1970. `state` is -1 waiting for other jobs, 0 waiting, 1 waiting and known to be due, 2 running, 3 done, 4 dead,
/// 5 cancelled. JSON stands as text, for `jsonb` keeps neither the order of keys nor numbers as they were written, and
/// neither type keeps every text that JSON can say. What errors say is JSON too: Postgres keeps no text with a NUL in it.
///
/// A job that is due when it is enqueued, at priority 0, is `fresh`. No column that a lease, a step or an end without
/// failure changes of it stands in an index, and pages have free room. So Postgres keeps the changed row beside the old one
/// without touching an index (a HOT update), and the next look at the page clears the old row away. Columns that seldom
/// change come first, and the arguments last, so that the server logs only the columns between them for each change. Fresh
/// jobs are found by their ids, from the low-water mark of their lane on (`lanes`). The transaction that added a job stands
/// in `came`, to find jobs that come to light behind the mark. Both indexes have the bytes of the ids: with the ids themselves
/// Postgres takes the primary key in their place at times, and reads the jobs of all other lanes. All other jobs that wait
/// stand in a `list` (a `line` before format 6): 0 for jobs that are due later, 1 in the order of their leasing, 2 for suspects.
/// So do dead ones: 3, by which they are found among all others. Jobs that were leased together are one row of `leases`, by
/// which they are found when a worker is lost. The attempt that ended a job well stands in the job's own row, as its `worker`
/// and `started`. What is left of a job with many steps once it is pruned stands in `remains` (`pruned` before format 6).
///
/// `more` has what few calls have, as one text; before format 7 it was called `trace`. A job that may expire stands in `expiring`, under
/// the time at which that is to be looked at; a trigger puts it there. `keys` says which job has taken the key of a task last. The job
/// holds the key until it has ended, and no end writes there.
///
/// `waits` says which job waits for which `parent`, and whether it `runs` also where that does not end well; how many these are stands in
/// the `outcome` of the job. The commit that enqueues a job marks those that it waits for as `awaited`.
/// When a marked job ends, a trigger calls the function `release`. A transaction that has such a job wait locks the row of the other one only at its commit.
///
/// How many jobs of a lane are in each state stands in `counts` and [`deltas`](super::folding) together. Who may add jobs may
/// add to `deltas`, and read the `cards` of tasks, which are `notes`, but not other notes.
///
/// A vacuum gives no empty pages back to the system where jobs are leased and renewed: for that it would lock the whole table.
///
/// The `step` of a memo is -1 if the memo is for the whole body.
///
/// Each second a worker writes its next `beat` into the table `workers`; there is none once the worker has left. A worker is
/// `lost` once it has left or another process has found its lock free. `signed` says that it holds a lock, on the server
/// `instance` that it then wrote to.
///
/// The columns about suspects are NULL in jobs that are none. `store` keeps these tables apart from those of another store.
pub(super) const MIGRATIONS: &[&str] = &[
    concat!(
        "
    CREATE TABLE qtasks.jobs (
        id uuid PRIMARY KEY,
        queue text COLLATE \"C\" NOT NULL,
        task text COLLATE \"C\" NOT NULL,
        priority smallint NOT NULL,
        state smallint NOT NULL,
        suspect boolean NOT NULL DEFAULT false,
        due bigint NOT NULL,
        max_time bigint,
        enqueued bigint NOT NULL,
        attempt bigint NOT NULL DEFAULT 0,
        failures bigint NOT NULL DEFAULT 0,
        steps bigint NOT NULL DEFAULT 0,
        skipped bigint NOT NULL DEFAULT 0,
        memos bigint NOT NULL DEFAULT 0,
        progress_done bigint,
        progress_total bigint,
        ended bigint,
        worker uuid,
        shape text,
        outcome text,
        args text NOT NULL
    ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
    CREATE INDEX jobs_later ON qtasks.jobs (queue, task, due) WHERE state = 0;
    CREATE INDEX jobs_ready ON qtasks.jobs (queue, task, suspect, (-(priority::int4)), id) WHERE state = 1;
    CREATE INDEX jobs_running ON qtasks.jobs (worker) WHERE state = 2;
    CREATE INDEX jobs_ended ON qtasks.jobs (state, ended) WHERE state >= 3;
    CREATE TABLE qtasks.steps (
        job uuid NOT NULL,
        seq bigint NOT NULL,
        hash bigint NOT NULL,
        skipped boolean NOT NULL,
        reply text NOT NULL,
        PRIMARY KEY (job, seq)
    );
    CREATE TABLE qtasks.memos (
        job uuid NOT NULL,
        step bigint NOT NULL,
        number bigint NOT NULL,
        name text NOT NULL,
        nth bigint NOT NULL,
        value text NOT NULL,
        PRIMARY KEY (job, step, number)
    );
    CREATE TABLE qtasks.attempts (
        job uuid NOT NULL,
        number bigint NOT NULL,
        worker uuid NOT NULL,
        started bigint,
        ended bigint NOT NULL,
        ending text NOT NULL,
        PRIMARY KEY (job, number)
    );
    CREATE TABLE qtasks.workers (
        id uuid PRIMARY KEY,
        until bigint NOT NULL,
        sign bigint NOT NULL,
        signed boolean NOT NULL
    ) WITH (fillfactor = 50);
    CREATE TABLE qtasks.pruned (job uuid PRIMARY KEY);
",
        include_str!("enqueue.sql")
    ),
    // Of the suspects there are it is only known that each was lost once, and that it has survived that.
    "
    ALTER TABLE qtasks.workers DROP COLUMN until, ADD COLUMN beat bigint, ADD COLUMN instance text,
        ADD COLUMN lost boolean NOT NULL DEFAULT false;
    DELETE FROM qtasks.workers;
    ALTER TABLE qtasks.jobs ADD COLUMN survived bigint, ADD COLUMN losses bigint, ADD COLUMN leased bigint,
        ADD COLUMN liable boolean;
    CREATE INDEX jobs_suspects ON qtasks.jobs (queue, task, survived, (-(priority::int4)), id) WHERE state = 1 AND suspect;
    UPDATE qtasks.jobs SET survived = 0, losses = 1 WHERE suspect;
",
    // In a table that all can read who enqueue: rights on a new one would have to be given.
    concat!(
        "
    ALTER TABLE qtasks.format ADD COLUMN store uuid NOT NULL DEFAULT gen_random_uuid();
",
        include_str!("enqueue_3.sql")
    ),
    concat!(
        "
    ALTER TABLE qtasks.jobs RENAME TO jobs_3;
    CREATE TABLE qtasks.jobs (
        id uuid NOT NULL,
        queue text COLLATE \"C\" NOT NULL,
        task text COLLATE \"C\" NOT NULL,
        priority smallint NOT NULL,
        fresh boolean NOT NULL DEFAULT false,
        max_time bigint,
        enqueued bigint NOT NULL,
        came xid8 NOT NULL DEFAULT pg_current_xact_id(),
        due bigint NOT NULL,
        failures bigint NOT NULL DEFAULT 0,
        steps bigint NOT NULL DEFAULT 0,
        skipped bigint NOT NULL DEFAULT 0,
        memos bigint NOT NULL DEFAULT 0,
        progress_done bigint,
        progress_total bigint,
        survived bigint,
        losses bigint,
        leased bigint,
        liable boolean,
        suspect boolean NOT NULL DEFAULT false,
        line smallint,
        state smallint NOT NULL,
        attempt bigint NOT NULL DEFAULT 0,
        worker uuid,
        started bigint,
        ended bigint,
        shape text,
        outcome text,
        args text NOT NULL
    ) WITH (fillfactor = 40, toast_tuple_target = 512, autovacuum_vacuum_scale_factor = 0.05, vacuum_truncate = false);
    INSERT INTO qtasks.jobs (id, queue, task, priority, max_time, enqueued, due, state, line, suspect, liable, attempt, failures,
        steps, skipped, memos, progress_done, progress_total, survived, losses, leased, ended, worker, shape, outcome, args)
    SELECT id, queue, task, priority, max_time, enqueued, due, state,
        CASE WHEN state = 0 THEN 0 WHEN state = 1 AND suspect THEN 2 WHEN state = 1 THEN 1 END, suspect, liable, attempt, failures,
        steps, skipped, memos, progress_done, progress_total, survived, losses, leased, ended, worker, shape, outcome, args
    FROM qtasks.jobs_3;
    CREATE TABLE qtasks.lanes (
        queue text COLLATE \"C\" NOT NULL,
        task text COLLATE \"C\" NOT NULL,
        upto uuid NOT NULL,
        seen pg_snapshot NOT NULL,
        PRIMARY KEY (queue, task)
    ) WITH (fillfactor = 50);
    CREATE TABLE qtasks.leases (
        worker uuid NOT NULL,
        number bigint GENERATED ALWAYS AS IDENTITY,
        jobs uuid[] NOT NULL,
        PRIMARY KEY (worker, number)
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, vacuum_truncate = false);
    ALTER TABLE qtasks.workers SET (vacuum_truncate = false);
    INSERT INTO qtasks.leases (worker, jobs) SELECT worker, array_agg(id) FROM qtasks.jobs WHERE state = 2 GROUP BY worker;
    DO $rights$
    DECLARE
        known record;
    BEGIN
        FOR known IN
            SELECT DISTINCT r.grantee, r.privilege_type AS may, p.rolname AS role
            FROM pg_class c, aclexplode(c.relacl) r LEFT JOIN pg_roles p ON p.oid = r.grantee
            WHERE c.oid = 'qtasks.jobs_3'::regclass AND r.grantee <> c.relowner
                AND r.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
        LOOP
            EXECUTE format('GRANT %s ON qtasks.jobs, qtasks.lanes, qtasks.leases TO %s', known.may,
                CASE known.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(known.role) END);
        END LOOP;
    END
    $rights$;
    DROP TABLE qtasks.jobs_3;
    ALTER TABLE qtasks.jobs ADD PRIMARY KEY (id);
    CREATE INDEX jobs_fresh ON qtasks.jobs (queue, task, id) WHERE fresh;
    CREATE INDEX jobs_came ON qtasks.jobs (came, id);
    CREATE INDEX jobs_later ON qtasks.jobs (queue, task, due) WHERE line = 0;
    CREATE INDEX jobs_ready ON qtasks.jobs (queue, task, (-(priority::int4)), id) WHERE line = 1;
    CREATE INDEX jobs_suspects ON qtasks.jobs (queue, task, survived, (-(priority::int4)), id) WHERE line = 2;
",
        include_str!("enqueue_4.sql")
    ),
    "
    DROP INDEX qtasks.jobs_fresh;
    CREATE INDEX jobs_fresh ON qtasks.jobs (queue, task, uuid_send(id)) WHERE fresh;
    DROP INDEX qtasks.jobs_came;
    CREATE INDEX jobs_came ON qtasks.jobs (came, uuid_send(id));
",
    // The statements of format 5 name a column and a table that are not there any more, so that a program of that version which
    // is still connected changes no jobs without counting them.
    concat!(include_str!("format_6.sql"), include_str!("enqueue_6.sql")),
    concat!(include_str!("format_7.sql"), include_str!("enqueue_7.sql")),
    include_str!("format_8.sql"),
];

/// The format that [`MIGRATIONS`] lead to.
pub(super) const FORMAT: i64 = MIGRATIONS.len() as i64;

/// How long the migration of tables that are there may take, or the wait for another process that does it.
const UPGRADE: Duration = Duration::from_mins(30);

/// Brings the tables to the format of this qtasks.
///
/// Any number of processes may do so at once: each finds out under a lock what is missing, and adds it.
pub(super) async fn migrate(database: &Database, migrations: &[&'static str]) -> Result<()> {
    let place = &database.place;
    let known = migrations.len() as i64;
    let failed = |fault: Fault| fault.into_error("bring its tables up to date");
    let look = database.begin().await.map_err(|fault| fault.into_error("reach its database"))?;
    let found = format(&look, place).await.map_err(failed)?;
    look.commit().await.map_err(failed)?;
    if check(found, place, known)? == known {
        return Ok(());
    }
    let mut transaction = database.begin().await.map_err(failed)?;
    if found > 0 {
        transaction.allow(UPGRADE).await.map_err(failed)?;
    }
    // A number that stands for qtasks, and one for the schema.
    let lock = format!("SELECT pg_advisory_xact_lock(1903453537, hashtext('{}'))", place.schema);
    transaction.execute(&lock).await.map_err(failed)?;
    let found = check(format(&transaction, place).await.map_err(failed)?, place, known)?;
    if found == 0 {
        refuse_strangers(&transaction, place).await?;
    }
    let state = State::of(&transaction, place).await.map_err(failed)?;
    let advanced = advance(&transaction, place, &migrations[found as usize..], known, state.is_there).await;
    advanced.map_err(|fault| failed(if fault.is_denied() { fault.mended(state.mend(place)) } else { fault }))?;
    transaction.commit().await.map_err(failed)
}

/// The database, as the server calls it, and the id of the store there.
pub(super) async fn identity(database: &Database) -> Result<(String, Uuid), Fault> {
    let rows = database.query("SELECT current_database()::text, store FROM qtasks.format", &[]).await?;
    let row = rows.first().ok_or_else(|| Fault::refused("`format` has no row"))?;
    Ok((encoding::get(row, 0)?, encoding::get(row, 1)?))
}

/// The format of the tables in the schema; 0 where there are none.
async fn format(transaction: &Transaction<'_>, place: &StoreUrl) -> Result<i64, Fault> {
    // Not by `to_regclass`, which goes by the cache of this connection.
    let there = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = 'format')";
    let found = transaction.query(there, &[(&place.schema, Type::TEXT)]).await?;
    if !found[0].try_get::<_, bool>(0)? {
        return Ok(0);
    }
    let found = transaction.query("SELECT max(format) FROM qtasks.format", &[]).await?;
    Ok(found[0].try_get::<_, Option<i64>>(0)?.unwrap_or(0))
}

/// The format that was found, unless it is newer than `known`.
fn check(found: i64, place: &StoreUrl, known: i64) -> Result<i64> {
    if found > known {
        return Err(Error::NewerStore { store: place.to_string(), found, known });
    }
    Ok(found.max(0))
}

/// Refuses a schema in which another program has taken the names of qtasks.
async fn refuse_strangers(transaction: &Transaction<'_>, place: &StoreUrl) -> Result<()> {
    let sql = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v') ORDER BY 1 LIMIT 1";
    let found = transaction.query(sql, &[(&place.schema, Type::TEXT)]).await;
    let found = found.map_err(|fault| fault.into_error("read its tables"))?;
    let Some(row) = found.first() else { return Ok(()) };
    let stranger: String = row.get(0);
    Err(Error::ForeignStore {
        store: place.to_string(),
        why: format!(
            "its schema `{}` has a `{stranger}` and no `format`; name another with `?schema=NAME`",
            place.schema
        ),
    })
}

/// What is there before the tables are made or changed.
struct State {
    /// Whether the schema is there.
    is_there: bool,
    /// The role that owns the tables, if they are there.
    owner: Option<String>,
}

impl State {
    async fn of(transaction: &Transaction<'_>, place: &StoreUrl) -> Result<Self, Fault> {
        let sql = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1),
            (SELECT tableowner::text FROM pg_tables WHERE schemaname = $1 AND tablename = 'format')";
        let found = transaction.query(sql, &[(&place.schema, Type::TEXT)]).await?;
        Ok(Self { is_there: found[0].try_get(0)?, owner: found[0].try_get(1)? })
    }

    /// What an operator can do when the role may not make or change the tables.
    fn mend(&self, place: &StoreUrl) -> String {
        match &self.owner {
            Some(owner) => format!("the role `{owner}` owns them, and brings them up to date when it opens the store"),
            None => account::to_make(place, self.is_there),
        }
    }
}

async fn advance(
    transaction: &Transaction<'_>,
    place: &StoreUrl,
    missing: &[&'static str],
    known: i64,
    is_there: bool,
) -> Result<(), Fault> {
    // Only where it is missing: to say `IF NOT EXISTS` takes the right to make one.
    if !is_there {
        transaction.execute(&format!("CREATE SCHEMA \"{}\"", place.schema)).await?;
    }
    transaction.execute(&place.sql("CREATE TABLE IF NOT EXISTS qtasks.format (format bigint NOT NULL)")).await?;
    for migration in missing {
        transaction.execute(&place.sql(migration)).await?;
    }
    // The row stays, since the id of the store stands in it too.
    let write = place.sql(
        "WITH found AS (UPDATE qtasks.format SET format = $known RETURNING format)
         INSERT INTO qtasks.format (format) SELECT $known WHERE NOT EXISTS (SELECT FROM found)",
    );
    transaction.execute(&write.replace("$known", &known.to_string())).await
}
