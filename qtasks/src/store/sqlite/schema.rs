//! The tables, and how those of an older qtasks become those of this one.
//!
//! All are named `qtasks_*` and the format stands in a table of its own, so that a user's tables, with their
//! `user_version`, fit into the same file: that is what lets a job be enqueued in the user's own transaction.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::url::StoreUrl;
use crate::error::{Error, Result};

/// Each takes the tables from one format to the next; the first from a file without any.
///
/// Times are milliseconds since 1970. `rank` is minus the priority, so that what is leased first sorts first. `state`
/// is 0 waiting, 1 waiting and known to be due, 2 running, 3 done, 4 dead, 5 cancelled. Large arguments stand apart,
/// since SQLite writes the whole of a row whenever something in it changes. Suspects have an index of their own, so that
/// a lease that passes them over does not read them; `survived` and what stands behind it is theirs alone, and for other jobs
/// nothing or 0, which takes a byte each. The views are a door for SQL; nothing is said there that SQLite 3.38 does not know,
/// since it is the SQLite of other programs. Steps are [`packed`](super::steps::packed). New ones stand in
/// `qtasks_new_steps` before they are moved, many at a time: in the order of their arrival those of a hundred jobs share a
/// page or two there. Older ones are packed only where text is UTF-8; else the file keeps its format. The `step` of a memo is -1 where it is for the whole body.
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE qtasks_lanes (
        id INTEGER PRIMARY KEY,
        queue TEXT NOT NULL,
        task TEXT NOT NULL,
        UNIQUE (queue, task)
    );
    CREATE TABLE qtasks_jobs (
        id BLOB PRIMARY KEY NOT NULL,
        lane INTEGER NOT NULL,
        rank INTEGER NOT NULL,
        state INTEGER NOT NULL,
        due INTEGER NOT NULL,
        attempt INTEGER NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0,
        steps INTEGER NOT NULL DEFAULT 0,
        skipped INTEGER NOT NULL DEFAULT 0,
        worker BLOB,
        progress_done INTEGER,
        progress_total INTEGER,
        max_time INTEGER,
        enqueued INTEGER NOT NULL,
        ended INTEGER,
        shape TEXT,
        outcome TEXT,
        args TEXT
    ) WITHOUT ROWID;
    CREATE INDEX qtasks_later ON qtasks_jobs (lane, due) WHERE state = 0;
    CREATE INDEX qtasks_ready ON qtasks_jobs (lane, rank, id) WHERE state = 1;
    CREATE INDEX qtasks_running ON qtasks_jobs (worker) WHERE worker IS NOT NULL;
    CREATE INDEX qtasks_ended ON qtasks_jobs (state, ended) WHERE ended IS NOT NULL;
    CREATE TABLE qtasks_args (job BLOB PRIMARY KEY NOT NULL, args TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE qtasks_steps (
        job BLOB NOT NULL,
        seq INTEGER NOT NULL,
        hash INTEGER NOT NULL,
        skipped INTEGER NOT NULL,
        reply TEXT NOT NULL,
        PRIMARY KEY (job, seq)
    ) WITHOUT ROWID;
    CREATE TABLE qtasks_new_steps (
        job BLOB NOT NULL,
        seq INTEGER NOT NULL,
        hash INTEGER NOT NULL,
        skipped INTEGER NOT NULL,
        reply TEXT NOT NULL,
        PRIMARY KEY (job, seq)
    ) WITHOUT ROWID;
    CREATE TABLE qtasks_attempts (
        job BLOB NOT NULL,
        number INTEGER NOT NULL,
        worker BLOB NOT NULL,
        started INTEGER,
        ended INTEGER NOT NULL,
        ending TEXT NOT NULL,
        error TEXT,
        PRIMARY KEY (job, number)
    ) WITHOUT ROWID;
    CREATE TABLE qtasks_workers (id BLOB PRIMARY KEY NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE qtasks_pruned (job BLOB PRIMARY KEY NOT NULL) WITHOUT ROWID;
",
    "
    ALTER TABLE qtasks_jobs ADD COLUMN suspect INTEGER NOT NULL DEFAULT 0;
    DROP INDEX qtasks_ready;
    CREATE INDEX qtasks_ready ON qtasks_jobs (lane, rank, id) WHERE state = 1 AND suspect = 0;
    CREATE INDEX qtasks_suspects ON qtasks_jobs (lane, rank, id) WHERE state = 1 AND suspect = 1;
    DROP TABLE qtasks_workers;
",
    "
    ALTER TABLE qtasks_jobs ADD COLUMN memos INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE qtasks_memos (
        job BLOB NOT NULL,
        step INTEGER NOT NULL,
        number INTEGER NOT NULL,
        name TEXT NOT NULL,
        nth INTEGER NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (job, step, number)
    ) WITHOUT ROWID;
",
    "
    INSERT INTO qtasks_steps (job, seq, hash, skipped, reply)
        SELECT job, seq, hash, skipped, reply FROM qtasks_new_steps;
    DROP TABLE qtasks_new_steps;
    CREATE TABLE qtasks_new_steps (
        arrival INTEGER PRIMARY KEY,
        job BLOB NOT NULL,
        seq INTEGER NOT NULL,
        hash INTEGER NOT NULL,
        skipped INTEGER NOT NULL,
        reply TEXT NOT NULL
    );
",
    "
    CREATE TABLE qtasks_strips (
        number INTEGER PRIMARY KEY,
        job BLOB NOT NULL,
        first INTEGER NOT NULL,
        steps BLOB NOT NULL,
        UNIQUE (job, first)
    );
    INSERT INTO qtasks_strips (job, first, steps)
        SELECT job, seq, CAST(unhex(printf('%016x%08x', hash, 2 * octet_length(reply) + skipped)) || reply AS BLOB)
        FROM (SELECT * FROM qtasks_steps
              UNION ALL SELECT job, seq, hash, skipped, reply FROM qtasks_new_steps)
        ORDER BY job, seq;
    DROP TABLE qtasks_steps;
    DROP TABLE qtasks_new_steps;
    CREATE TABLE qtasks_new_steps (arrival INTEGER PRIMARY KEY, steps BLOB NOT NULL);
",
    "
    ALTER TABLE qtasks_jobs ADD COLUMN survived INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE qtasks_jobs ADD COLUMN losses INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE qtasks_jobs ADD COLUMN leased INTEGER;
    ALTER TABLE qtasks_jobs ADD COLUMN liable INTEGER NOT NULL DEFAULT 0;
    DROP INDEX qtasks_suspects;
    CREATE INDEX qtasks_suspects ON qtasks_jobs (lane, survived, rank, id) WHERE state = 1 AND suspect = 1;
",
    include_str!("door.sql"),
];

/// The format that [`MIGRATIONS`] lead to.
pub(super) const FORMAT: i64 = MIGRATIONS.len() as i64;

/// The first format with steps as bytes, which are made of the text of older ones.
const PACKED: i64 = 5;

/// The format of the tables in the file; 0 where there are none.
pub(super) fn format(connection: &Connection) -> rusqlite::Result<i64> {
    let there = connection
        .prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'qtasks_format'")?
        .exists([])?;
    if !there {
        return Ok(0);
    }
    let found = connection.prepare_cached("SELECT format FROM qtasks_format")?.query_row([], |row| row.get(0));
    Ok(found.optional()?.unwrap_or(0))
}

/// Brings the tables to the format of this qtasks.
///
/// Any number of processes may do so at once: what is missing is found out and added under the one write lock.
pub(super) fn migrate(connection: &mut Connection, place: &StoreUrl, migrations: &[&str]) -> Result<()> {
    let known = migrations.len() as i64;
    if check(connection, place, known)? == known {
        return Ok(());
    }
    let explain = |error| place.explain(error);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(explain)?;
    let found = check(&transaction, place, known)?;
    match found {
        0 => refuse_strangers(&transaction, place)?,
        1..PACKED => refuse_utf_16(&transaction, place)?,
        _ => {}
    }
    advance(&transaction, &migrations[found as usize..], known).map_err(explain)?;
    transaction.commit().map_err(explain)
}

/// The format that was found, unless it is newer than `known`.
fn check(connection: &Connection, place: &StoreUrl, known: i64) -> Result<i64> {
    let found = format(connection).map_err(|error| place.explain(error))?;
    if found > known {
        return Err(Error::NewerStore { place: place.path.display().to_string(), found, known });
    }
    Ok(found.max(0))
}

/// Refuses a file in which another program has taken our names.
fn refuse_strangers(connection: &Connection, place: &StoreUrl) -> Result<()> {
    let sql = "SELECT name FROM sqlite_schema WHERE name LIKE 'qtasks!_%' ESCAPE '!' AND name <> 'qtasks_format'";
    let stranger: Option<String> =
        connection.query_row(sql, [], |row| row.get(0)).optional().map_err(|error| place.explain(error))?;
    match stranger {
        None => Ok(()),
        Some(name) => Err(Error::ForeignStore {
            place: place.path.display().to_string(),
            why: format!("it has a `{name}` and no format in `qtasks_format`"),
        }),
    }
}

/// Refuses a file whose text is not in the bytes that steps are made of.
fn refuse_utf_16(connection: &Connection, place: &StoreUrl) -> Result<()> {
    let encoding: String =
        connection.query_row("PRAGMA encoding", [], |row| row.get(0)).map_err(|error| place.explain(error))?;
    if encoding == "UTF-8" {
        return Ok(());
    }
    Err(Error::ForeignStore {
        place: place.path.display().to_string(),
        why: format!(
            "its text is {encoding}, and its steps can be taken over from UTF-8 only; dump it into a new file"
        ),
    })
}

fn advance(transaction: &Transaction<'_>, missing: &[&str], known: i64) -> rusqlite::Result<()> {
    transaction.execute_batch("CREATE TABLE IF NOT EXISTS qtasks_format (format INTEGER NOT NULL)")?;
    for migration in missing {
        transaction.execute_batch(migration)?;
    }
    transaction.execute("DELETE FROM qtasks_format", [])?;
    transaction.execute("INSERT INTO qtasks_format (format) VALUES (?1)", [known])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use futures::future::join_all;
    use jiff::Timestamp;
    use rusqlite::params;
    use tempfile::TempDir;

    use super::*;
    use crate::{
        error::chain,
        model::{
            job::{
                Counts, Job, JobCall, JobId, Lease, NewJob, Output, Reply, Standing, State, Step, Suspect, WorkerId,
            },
            json::Json,
        },
        store::{
            Ask, Filter, Store, Suspects,
            sqlite::{
                Sqlite, encoding,
                fixture::{NOW, ask, lease, neighbour, new_job, place},
                steps,
            },
        },
    };

    async fn refused(url: &str) -> String {
        chain(&Sqlite::open(url).await.unwrap_err())
    }

    /// Brings the file in `folder` to the format that `migrations` lead to.
    fn migrated(folder: &TempDir, migrations: &[&str]) -> Connection {
        let mut connection = neighbour(folder);
        let place = StoreUrl::parse(connection.path().unwrap()).unwrap();
        migrate(&mut connection, &place, migrations).unwrap();
        connection
    }

    #[tokio::test]
    async fn an_empty_file_and_one_with_other_tables_become_stores() {
        for tables in ["", "CREATE TABLE orders (id INTEGER PRIMARY KEY); PRAGMA user_version = 7"] {
            let (folder, url) = place("");
            neighbour(&folder).execute_batch(tables).unwrap();
            let store = Sqlite::open(&url).await.unwrap();
            store.enqueue(vec![new_job()]).await.unwrap();
            assert_eq!(lease(&store, 9).await.len(), 1);
            assert_eq!(format(&neighbour(&folder)).unwrap(), FORMAT);
        }
    }

    #[test]
    fn an_older_format_becomes_the_newest_and_keeps_what_it_holds() {
        let folder = TempDir::new().unwrap();
        let first = [MIGRATIONS[0]];
        migrated(&folder, &first).execute("INSERT INTO qtasks_lanes VALUES (1, 'q', 't')", []).unwrap();
        let second = [MIGRATIONS[0], "ALTER TABLE qtasks_lanes ADD COLUMN note TEXT DEFAULT 'new'"];
        for _ in 0..2 {
            let connection = migrated(&folder, &second);
            assert_eq!(format(&connection).unwrap(), 2);
            let note: String = connection.query_row("SELECT note FROM qtasks_lanes", [], |row| row.get(0)).unwrap();
            assert_eq!(note, "new");
        }
    }

    #[test]
    fn steps_of_older_formats_are_kept() {
        for older in [3, 4] {
            let folder = TempDir::new().unwrap();
            let connection = migrated(&folder, &MIGRATIONS[..older]);
            let id = JobId::new();
            for (table, seq, hash, skipped, reply) in [
                ("steps", 0, -1, false, "\"Grüße\""),
                ("steps", 1, i64::MAX, true, "no\0\n"),
                ("new_steps", 2, 7, true, ""),
            ] {
                let insert =
                    format!("INSERT INTO qtasks_{table} (job, seq, hash, skipped, reply) VALUES (?1, ?2, ?3, ?4, ?5)");
                connection.execute(&insert, params![id.to_bytes(), seq, hash, skipped, reply]).unwrap();
            }
            let found = steps::read(&migrated(&folder, MIGRATIONS), id, 0, 9).unwrap();
            let value = Reply::Value(Json::from_stored("\"Grüße\""));
            let step = |seq, hash, reply| Step { seq, hash, reply };
            let skipped = |why: &str| Reply::Skipped(why.into());
            assert_eq!(
                found,
                [step(0, u64::MAX, value), step(1, i64::MAX as u64, skipped("no\0\n")), step(2, 7, skipped(""))]
            );
        }
    }

    #[tokio::test]
    async fn jobs_of_the_format_before_suspects_were_measured_are_kept() {
        let (folder, url) = place("");
        let connection = migrated(&folder, &MIGRATIONS[..5]);
        connection.execute("INSERT INTO qtasks_lanes VALUES (1, 'default', 't')", []).unwrap();
        let (holder, [suspect, delayed, ordinary, running, done]) = (WorkerId::new(), [(); 5].map(|()| JobId::new()));
        for (id, state, is_suspect, attempt, worker, outcome) in [
            (suspect, 1, true, 2, None, None),
            (delayed, 0, true, 2, None, None),
            (ordinary, 1, false, 0, None, None),
            (running, 2, true, 3, Some(holder.to_bytes()), None),
            (done, 3, false, 1, None, Some("7")),
        ] {
            let due = encoding::millis(NOW) + if state == 0 { 5 } else { 0 };
            let ended = outcome.map(|_| encoding::millis(NOW));
            let insert = "INSERT INTO qtasks_jobs
                          (id, lane, rank, state, due, enqueued, args, suspect, attempt, worker, outcome, ended, failures)
                          VALUES (?1, 1, -4, ?2, ?3, ?4, '{}', ?5, ?6, ?7, ?8, ?9, 1)";
            let values =
                params![id.to_bytes(), state, due, encoding::millis(NOW), is_suspect, attempt, worker, outcome, ended];
            connection.execute(insert, values).unwrap();
        }
        drop(connection);

        let store = Sqlite::open(&url).await.unwrap();
        let known = Some(Suspect::default());
        let job = |id, state, suspect, attempt| Job {
            call: JobCall { id, priority: 4, ..new_job().call },
            standing: Standing { state, suspect, attempt, failures: 1 },
            counts: Counts::default(),
        };
        let later = State::Waiting { due: NOW + Duration::from_millis(5) };
        let output = Output::Value(Json::from_stored("7"));
        let mut expected = [
            job(suspect, State::Waiting { due: NOW }, known, 2),
            job(delayed, later, known, 2),
            job(ordinary, State::Waiting { due: NOW }, None, 0),
            job(running, State::Running { worker: holder }, known, 3),
            job(done, State::Done { output }, None, 1),
        ];
        expected.sort_by_key(|job| job.call.id);
        assert_eq!(store.jobs(Filter::default(), None, 9).await.unwrap(), expected);

        let lease = Lease { job: running, attempt: 3, worker: holder };
        assert_eq!(store.renew(holder, 1).await.unwrap().leases, [lease]);
        let asked = || Ask { suspects: Suspects::OneAlone, ..ask(9) };
        let leased = store.lease(asked()).await.unwrap();
        assert_eq!(leased.jobs.iter().map(|job| job.call.id).collect::<Vec<_>>(), [suspect, ordinary]);
        assert_eq!(
            leased.jobs[0].standing.suspect,
            Some(Suspect { leased: Some(NOW), liable: true, ..Suspect::default() })
        );
        assert_eq!(leased.next_due, Some(NOW + Duration::from_millis(5)));
        let leased = store.lease(Ask { now: leased.next_due.unwrap(), ..asked() }).await.unwrap();
        assert_eq!(leased.jobs[0].call.id, delayed);
    }

    #[tokio::test]
    async fn jobs_of_the_format_before_the_door_are_kept_and_others_come_in_by_it() {
        let (folder, url) = place("");
        let connection = migrated(&folder, &MIGRATIONS[..6]);
        let id = JobId::new();
        connection.execute("INSERT INTO qtasks_lanes VALUES (1, 'default', 't')", []).unwrap();
        let insert = "INSERT INTO qtasks_jobs (id, lane, rank, state, due, enqueued, args)
                      VALUES (?1, 1, 0, 1, ?2, ?2, '{}')";
        connection.execute(insert, params![id.to_bytes(), encoding::millis(NOW)]).unwrap();
        let by_door = "INSERT INTO qtasks_enqueue (id, task, args) VALUES (?1, 't', ?2)";
        connection.prepare(by_door).unwrap_err();
        drop(connection);

        let store = Sqlite::open(&url).await.unwrap();
        assert_eq!(store.job(id).await.unwrap(), Some(Job::from(NewJob::from(JobCall { id, ..new_job().call }))));
        let other = JobId::new();
        let neighbour = neighbour(&folder);
        neighbour.execute(by_door, params![id.to_string(), "{}"]).unwrap();
        neighbour.execute(by_door, params![other.to_string(), "{}"]).unwrap();
        let leased = store.lease(Ask { now: Timestamp::MAX, ..ask(9) }).await.unwrap();
        assert_eq!(leased.jobs.iter().map(|job| job.call.id).collect::<Vec<_>>(), [id, other]);
    }

    #[test]
    fn steps_in_utf_16_are_refused_and_kept() {
        let folder = TempDir::new().unwrap();
        neighbour(&folder).execute_batch("PRAGMA encoding = 'UTF-16le'; CREATE TABLE ours (text TEXT)").unwrap();
        let insert = "INSERT INTO qtasks_steps (job, seq, hash, skipped, reply) VALUES (x'01', 0, 1, 0, '2')";
        migrated(&folder, &MIGRATIONS[..4]).execute(insert, []).unwrap();
        let mut connection = neighbour(&folder);
        let place = StoreUrl::parse(connection.path().unwrap()).unwrap();
        let path = folder.path().join("jobs.db");
        assert_eq!(
            migrate(&mut connection, &place, MIGRATIONS).unwrap_err().to_string(),
            format!(
                "`{}` is not a store of qtasks: its text is UTF-16le, and its steps can be taken over from UTF-8 only; \
                 dump it into a new file",
                path.display()
            )
        );
        assert_eq!(format(&connection).unwrap(), 4);
        let kept: String = connection.query_row("SELECT reply FROM qtasks_steps", [], |row| row.get(0)).unwrap();
        assert_eq!(kept, "2");
    }

    #[test]
    fn a_migration_that_fails_leaves_the_older_format() {
        let folder = TempDir::new().unwrap();
        drop(migrated(&folder, &[MIGRATIONS[0]]));
        let mut connection = neighbour(&folder);
        let place = StoreUrl::parse(connection.path().unwrap()).unwrap();
        migrate(&mut connection, &place, &[MIGRATIONS[0], "DROP TABLE qtasks_lanes; SELECT nothing"]).unwrap_err();
        assert_eq!(format(&connection).unwrap(), 1);
        connection.execute("INSERT INTO qtasks_lanes VALUES (1, 'q', 't')", []).unwrap();
    }

    #[tokio::test]
    async fn a_newer_format_is_refused() {
        let (folder, url) = place("");
        drop(Sqlite::open(&url).await.unwrap());
        neighbour(&folder).execute("UPDATE qtasks_format SET format = 99", []).unwrap();
        let path = folder.path().join("jobs.db");
        assert_eq!(
            refused(&url).await,
            format!(
                "the store at `{}` has the format 99, and this qtasks knows formats up to {FORMAT}; update qtasks here, \
                 or use another store",
                path.display()
            )
        );
    }

    #[tokio::test]
    async fn a_file_of_somebody_else_is_refused() {
        let (folder, url) = place("");
        let path = folder.path().join("jobs.db");
        fs::write(&path, "no database, but some text that is long enough to be taken for the header of one".repeat(20))
            .unwrap();
        let place = path.display();
        assert_eq!(
            refused(&url).await,
            format!("`{place}` is not a store of qtasks: the file is not a SQLite database, or it is encrypted")
        );
        fs::remove_file(&path).unwrap();
        neighbour(&folder).execute_batch("CREATE TABLE qtasks_jobs (other TEXT)").unwrap();
        assert_eq!(
            refused(&url).await,
            format!("`{place}` is not a store of qtasks: it has a `qtasks_jobs` and no format in `qtasks_format`")
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_may_open_a_new_file_at_once() {
        let (_folder, url) = place("");
        for opened in join_all((0..16).map(|_| Sqlite::open(&url))).await {
            opened.unwrap().enqueue(vec![new_job()]).await.unwrap();
        }
        assert_eq!(lease(&Sqlite::open(&url).await.unwrap(), 99).await.len(), 16);
    }
}
