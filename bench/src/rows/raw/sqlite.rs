//! SQLite by itself, with the same promise for each commit.

use std::time::Instant;

use rusqlite::{Connection, params};

use super::filling;
use crate::{
    place::Place,
    row::{Scale, per_second},
    target::Kind,
};

/// What it comes to, where it is SQLite that is measured: on others it says nothing.
pub(crate) fn on(scale: &Scale, measure: impl FnOnce() -> rusqlite::Result<f64>) -> rusqlite::Result<Option<f64>> {
    (scale.target.kind() == Kind::Sqlite).then(measure).transpose()
}

fn open(place: &Place) -> rusqlite::Result<Connection> {
    let connection = Connection::open(place.path("raw.db"))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "wal_autocheckpoint", 8_000)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY, state INTEGER NOT NULL, args TEXT NOT NULL);
         CREATE INDEX IF NOT EXISTS ready ON jobs (id) WHERE state = 0;
         CREATE TABLE IF NOT EXISTS steps (
             job INTEGER NOT NULL, seq INTEGER NOT NULL, hash INTEGER NOT NULL, reply TEXT NOT NULL,
             PRIMARY KEY (job, seq)) WITHOUT ROWID",
    )?;
    Ok(connection)
}

const INSERT: &str = "INSERT INTO jobs (state, args) VALUES (0, ?1)";

/// Inserts a second, a hundred in a commit.
pub(crate) fn inserts(place: &Place, count: u64) -> rusqlite::Result<f64> {
    let (mut connection, args) = (open(place)?, filling());
    let start = Instant::now();
    for _ in 0..count / 100 {
        let transaction = connection.transaction()?;
        for _ in 0..100 {
            transaction.prepare_cached(INSERT)?.execute([&args])?;
        }
        transaction.commit()?;
    }
    Ok(per_second(count, start.elapsed()))
}

/// Jobs a second that are inserted, claimed and completed, a hundred in a commit.
pub(crate) fn lives(place: &Place, count: u64) -> rusqlite::Result<f64> {
    let (mut connection, args) = (open(place)?, filling());
    let start = Instant::now();
    for _ in 0..count / 100 {
        let transaction = connection.transaction()?;
        for _ in 0..100 {
            transaction.prepare_cached(INSERT)?.execute([&args])?;
        }
        transaction.commit()?;
        let claim = "UPDATE jobs SET state = 1 WHERE id IN (SELECT id FROM jobs WHERE state = 0 ORDER BY id LIMIT 100)
                     RETURNING id, args";
        let claimed: Vec<i64> = connection
            .prepare_cached(claim)?
            .query_map([], |row| row.get::<_, String>(1).and_then(|_args| row.get(0)))?
            .collect::<Result<_, _>>()?;
        let transaction = connection.transaction()?;
        for id in claimed {
            transaction.prepare_cached("UPDATE jobs SET state = 2 WHERE id = ?1")?.execute([id])?;
        }
        transaction.commit()?;
    }
    Ok(per_second(count, start.elapsed()))
}

/// Steps a second, one of each of so many jobs in a commit.
pub(crate) fn steps(place: &Place, jobs: u64, count: u64) -> rusqlite::Result<f64> {
    let mut connection = open(place)?;
    let start = Instant::now();
    for seq in 0..count / jobs {
        let transaction = connection.transaction()?;
        for job in 0..jobs {
            transaction.prepare_cached("INSERT INTO steps VALUES (?1, ?2, ?3, ?4)")?.execute(params![
                job.cast_signed(),
                seq.cast_signed(),
                i64::MAX,
                "1234567"
            ])?;
        }
        transaction.commit()?;
    }
    Ok(per_second(count, start.elapsed()))
}

/// Steps a second of one job, a thousand in a commit.
pub(crate) fn appends(place: &Place, count: u64) -> rusqlite::Result<f64> {
    let mut connection = open(place)?;
    let start = Instant::now();
    for batch in 0..count / 1000 {
        let transaction = connection.transaction()?;
        for seq in batch * 1000..(batch + 1) * 1000 {
            let insert = "INSERT INTO steps VALUES (-1, ?1, ?2, ?3)";
            transaction.prepare_cached(insert)?.execute(params![seq.cast_signed(), i64::MAX, "1234567"])?;
        }
        transaction.commit()?;
    }
    Ok(per_second(count, start.elapsed()))
}

/// Steps a second that are read again.
pub(crate) fn reads(place: &Place, count: u64) -> rusqlite::Result<f64> {
    appends(place, count)?;
    let connection = open(place)?;
    let start = Instant::now();
    let mut statement = connection.prepare("SELECT seq, hash, reply FROM steps WHERE job = -1 ORDER BY seq")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        std::hint::black_box((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?));
    }
    Ok(per_second(count, start.elapsed()))
}
