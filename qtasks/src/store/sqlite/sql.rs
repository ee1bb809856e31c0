//! All SQL of the writer.

use rusqlite::{Connection, PrepFlags, Statement};

use super::{after, calls::read::between_kept_attempts, encoding::job_columns};

/// Makes a struct of prepared statements, so that none is looked up by its text while jobs wait.
macro_rules! statements {
    ($($name:ident = $sql:expr;)*) => {
        pub(super) struct Statements<'c> {
            $(pub(super) $name: Statement<'c>,)*
        }

        impl<'c> Statements<'c> {
            pub(super) fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
                // Otherwise they would take the small blocks of memory that SQLite has ready for statements that run.
                let prepare = |sql| connection.prepare_with_flags(sql, PrepFlags::SQLITE_PREPARE_PERSISTENT);
                Ok(Self { $($name: prepare($sql)?,)* })
            }
        }

        /// Name and text of each.
        #[cfg(test)]
        pub(super) const ALL: &[(&str, &str)] = &[$((stringify!($name), $sql),)*];
    };
}

pub(super) const INSERT_JOB: &str =
    "INSERT INTO qtasks_jobs (id, lane, rank, state, counted, due, max_time, enqueued, args, worker, attempt, more)
     VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (id) DO NOTHING";
pub(super) const INSERT_ARGS: &str = "INSERT INTO qtasks_args (job, args) VALUES (?1, ?2)";
pub(super) const DELETE_ARGS: &str = "DELETE FROM qtasks_args WHERE job = ?1";
pub(super) const INSERT_EXPIRING: &str = "INSERT OR IGNORE INTO qtasks_expiring (at, job) VALUES (?1, ?2)";
pub(super) const INSERT_ENDS: &str = "INSERT INTO qtasks_ends (state, first, jobs) VALUES (?1, ?2, ?3)";
pub(super) const INSERT_LANE: &str =
    "INSERT INTO qtasks_lanes (queue, task) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET task = task RETURNING id";

/// Adds to the numbers of jobs of a lane.
pub(super) const COUNT: &str =
    "UPDATE qtasks_lanes SET waiting = waiting + ?2, running = running + ?3, done = done + ?4, dead = dead + ?5,
     cancelled = cancelled + ?6 WHERE id = ?1";
pub(super) const COUNT_ONE: &str = "UPDATE qtasks_lanes SET waiting = waiting + 1 WHERE id = ?1";

/// The rows of new steps, in the order of arrival.
pub(super) const NEW_STEPS: &str = "SELECT steps FROM qtasks_new_steps ORDER BY arrival";

/// The leases of a worker, without its name.
pub(super) const HELD: &str =
    "SELECT id, attempt FROM qtasks_jobs INDEXED BY qtasks_running WHERE worker = ?1 AND state = 2";

/// The update of a settlement, to which the facts of its attempt and its conditions are added.
macro_rules! settle {
    ($attempt:literal $hold:literal) => {
        concat!(
            "UPDATE qtasks_jobs SET state = ?1, counted = ?1, due = coalesce(?2, due), ended_at = ?3, shape = ?4, detail = ?5, \
             failures = ?6, suspect = ?7, survived = ?8, losses = ?9, leased = NULL, liable = 0, ",
            $attempt,
            " WHERE id = ?10 AND attempt = ?11 AND ",
            $hold
        )
    };
}

/// The jobs of a lane that are known to be due, or were due when they were enqueued, behind the job that was read last. The most
/// urgent come first.
macro_rules! ready {
    ($suspect:literal, $condition:literal, $behind:literal, $order:literal) => {
        concat!(
            "SELECT ",
            job_columns!("?2", "?3", "NULL", "1, j.due, NULL, NULL, NULL", $suspect),
            " FROM qtasks_jobs AS j INDEXED BY ",
            $condition,
            " AND j.lane = ?1 AND ",
            $behind,
            " ORDER BY ",
            $order,
            " LIMIT ?4"
        )
    };
}

statements! {
    begin = "BEGIN IMMEDIATE";
    commit = "COMMIT";
    rollback = "ROLLBACK";
    savepoint = "SAVEPOINT qtasks_handler";
    release_savepoint = "RELEASE qtasks_handler";
    undo_savepoint = "ROLLBACK TO qtasks_handler";
    data_version = "PRAGMA data_version";

    insert_job = INSERT_JOB;
    insert_args = INSERT_ARGS;
    insert_expiring = INSERT_EXPIRING;
    insert_lane = INSERT_LANE;
    count = COUNT;
    lane_of = "SELECT lane FROM qtasks_jobs WHERE id = ?1";
    new_lanes = "SELECT id, queue, task FROM qtasks_lanes WHERE id > ?1 ORDER BY id";

    first_later = "SELECT due FROM qtasks_jobs INDEXED BY qtasks_later
                   WHERE state = 0 AND lane = ?1 ORDER BY due LIMIT 1";
    promote = "UPDATE qtasks_jobs SET state = 1, counted = 1 WHERE id IN (
                   SELECT id FROM qtasks_jobs INDEXED BY qtasks_later
                   WHERE state = 0 AND lane = ?1 AND due <= ?2 ORDER BY due LIMIT ?3)";
    next_later = "SELECT due FROM qtasks_jobs INDEXED BY qtasks_later
                  WHERE state = 0 AND lane = ?1 AND due > ?2 ORDER BY due LIMIT 1";
    ready = ready!("0", "qtasks_ready WHERE j.state = 1 AND j.suspect = 0", "(j.rank, j.id) > (?5, ?6)", "j.rank, j.id");
    ready_suspects = ready!(
        "1, j.survived, j.losses, j.leased, j.liable",
        "qtasks_suspects WHERE j.state = 1 AND j.suspect = 1",
        "(j.survived, j.rank, j.id) > (?7, ?5, ?6)",
        "j.survived, j.rank, j.id"
    );
    run = "UPDATE qtasks_jobs SET state = 2, counted = 2, worker = ?2, attempt = ?3 WHERE id = ?1";
    run_suspect = "UPDATE qtasks_jobs SET state = 2, counted = 2, worker = ?2, attempt = ?3, leased = ?4, liable = ?5
                   WHERE id = ?1";

    advance = "UPDATE qtasks_jobs
               SET steps = steps + ?5, skipped = skipped + ?6, failures = 0, losses = 0, liable = 0
               WHERE id = ?1 AND worker = ?2 AND attempt = ?3 AND state = 2 AND steps = ?4";
    pass = "UPDATE qtasks_jobs SET liable = 0 WHERE id = ?1";
    progress = "UPDATE qtasks_jobs SET progress_done = ?2, progress_total = ?3 WHERE id = ?1";
    recorded = "SELECT steps, memos FROM qtasks_jobs WHERE id = ?1 AND worker = ?2 AND attempt = ?3 AND state = 2";
    insert_steps = "INSERT INTO qtasks_strips (job, first, steps) VALUES (?1, ?2, ?3)";
    insert_new_steps = "INSERT INTO qtasks_new_steps (steps) VALUES (?1)";
    count_memos = "UPDATE qtasks_jobs SET memos = memos + ?2 WHERE id = ?1";
    insert_memo = "INSERT INTO qtasks_memos (job, step, number, name, nth, value) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    new_steps = NEW_STEPS;
    clear_new_steps = "DELETE FROM qtasks_new_steps";
    count_new_steps = "SELECT coalesce(sum(length(steps)), 0), count(*) FROM qtasks_new_steps";

    // An attempt that ends a job well stays in the row of the job.
    settle_leased = settle!(
        "worker = CASE WHEN ?14 THEN worker END, started = ?15"
        "state = 2 AND worker = ?12 AND steps = coalesce(?13, steps)"
    );
    settle_seen = settle!("worker = NULL, started = NULL" "state BETWEEN ?12 AND ?13 AND steps = coalesce(?14, steps)");
    // It moves into the history when the job is run again.
    keep_attempt = "INSERT OR REPLACE INTO qtasks_attempts (job, number, worker, started, ended, ending, steps)
                    SELECT id, attempt, worker, started, ended_at, 'done', steps FROM qtasks_jobs
                    WHERE id = ?1 AND attempt = ?2 AND state = 3 AND worker IS NOT NULL AND steps = coalesce(?3, steps)";
    insert_dead = "INSERT OR IGNORE INTO qtasks_dead (job) VALUES (?1)";
    delete_dead = "DELETE FROM qtasks_dead WHERE job = ?1";
    insert_attempt = "INSERT OR REPLACE INTO qtasks_attempts (job, number, worker, started, ended, ending, error, steps)
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, (SELECT steps FROM qtasks_jobs WHERE id = ?1))";
    trim_attempts = concat!("DELETE FROM qtasks_attempts WHERE job = ?1 AND ", between_kept_attempts!());

    // A job that never started.
    placed = "SELECT j.lane, j.rank, j.state, j.due, l.task FROM qtasks_jobs AS j JOIN qtasks_lanes AS l ON l.id = j.lane
              WHERE j.id = ?1 AND j.state < 2 AND j.attempt = 0";
    place = "UPDATE qtasks_jobs SET lane = ?2, rank = ?3, state = ?4, counted = ?4, due = ?5 WHERE id = ?1";

    expire_from = "INSERT OR IGNORE INTO qtasks_expiring (at, job)
                   SELECT ?2 + json_extract(more, '$.expires'), id FROM qtasks_jobs
                   WHERE id = ?1 AND more LIKE '{%' AND json_extract(more, '$.expires') IS NOT NULL";
    some_waits = "SELECT 1 FROM qtasks_waits WHERE parent >= x'' LIMIT 1";
    children = "SELECT job, runs FROM qtasks_waits WHERE parent = ?1";
    forget_children = "DELETE FROM qtasks_waits WHERE parent = ?1";
    forget_parents = "DELETE FROM qtasks_waits WHERE job = ?1";
    count_parents = "SELECT count(*) FROM qtasks_waits WHERE job = ?1";
    how_ended = "SELECT state, ended_at FROM qtasks_jobs WHERE id = ?1 AND state > 2";
    cancel_child = after::CANCEL;
    set_parents = "UPDATE qtasks_jobs SET detail = ?2 WHERE id = ?1 AND state = -1";
    let_go = "UPDATE qtasks_jobs SET state = (due <= ?2), counted = (due <= ?2), due = max(due, ?2), detail = NULL
              WHERE id = ?1 AND state = -1 RETURNING due";

    expiring = "SELECT at, job FROM qtasks_expiring WHERE at <= ?1 ORDER BY at, job LIMIT ?2";
    delete_expiring = "DELETE FROM qtasks_expiring WHERE at = ?1 AND job = ?2";
    forget_expiring = "DELETE FROM qtasks_expiring WHERE job = ?1";
    first_attempt = "SELECT number FROM qtasks_attempts WHERE job = ?1 ORDER BY number LIMIT 1";

    key_of = "SELECT l.task, json_extract(j.more, '$.key') FROM qtasks_jobs AS j JOIN qtasks_lanes AS l ON l.id = j.lane
              WHERE j.id = ?1 AND j.more LIKE '{%' AND json_extract(j.more, '$.key') IS NOT NULL";
    delete_key = "DELETE FROM qtasks_keys WHERE task = ?1 AND key = ?2 AND job = ?3 AND (until IS NULL OR until < ?4)";
    delete_old_keys = "DELETE FROM qtasks_keys WHERE until < ?1 AND NOT EXISTS (SELECT 1 FROM qtasks_jobs WHERE id = qtasks_keys.job)";

    note_version = "SELECT version FROM qtasks_notes WHERE kind = ?1 AND name = ?2";
    write_note = "INSERT OR REPLACE INTO qtasks_notes (kind, name, version, value, until) VALUES (?1, ?2, ?3, ?4, ?5)";
    rate = "SELECT numbers FROM qtasks_rates WHERE span = ?1 AND start = ?2 AND queue = ?3 AND task = ?4";
    write_rate = "INSERT OR REPLACE INTO qtasks_rates (span, start, queue, task, numbers) VALUES (?1, ?2, ?3, ?4, ?5)";
    prune_rates = "DELETE FROM qtasks_rates WHERE span = ?1 AND start < ?2";
    delete_note = "DELETE FROM qtasks_notes WHERE kind = ?1 AND name = ?2";

    count_recount = "UPDATE qtasks_format SET recounts = recounts + 1 WHERE recounts = ?1";

    ends = "SELECT number, jobs FROM qtasks_ends INDEXED BY qtasks_ends_by_age
            WHERE state = ?1 AND first < ?2 ORDER BY first LIMIT 1";
    insert_ends = INSERT_ENDS;
    delete_ends = "DELETE FROM qtasks_ends WHERE number = ?1";
    ended = "SELECT ended_at, steps, memos, lane, state, more IS NOT NULL FROM qtasks_jobs WHERE id = ?1 AND state = ?2";
    delete_job = "DELETE FROM qtasks_jobs WHERE id = ?1";
    delete_args = DELETE_ARGS;
    delete_attempts = "DELETE FROM qtasks_attempts WHERE job = ?1";
    delete_steps = "DELETE FROM qtasks_strips WHERE job = ?1 AND first < ?2";
    insert_pruned = "INSERT OR IGNORE INTO qtasks_pruned (job) VALUES (?1)";
    delete_memos = "DELETE FROM qtasks_memos WHERE job = ?1 AND (step, number) IN (
                        SELECT step, number FROM qtasks_memos WHERE job = ?1 LIMIT ?2)";
    pruned = "SELECT p.job, (SELECT min(s.first) FROM qtasks_strips AS s WHERE s.job = p.job) FROM qtasks_pruned AS p LIMIT 1";
    delete_pruned = "DELETE FROM qtasks_pruned WHERE job = ?1";
}

#[cfg(test)]
mod tests {
    use rusqlite::{StatementStatus, params};

    use super::*;
    use crate::store::sqlite::{
        Sqlite,
        calls::{count, find, note, read},
        fixture::{neighbour, store, temp_url},
        steps::{LAST_SEGMENTS, SEGMENTS},
        url::StoreUrl,
    };

    fn plan(connection: &Connection, sql: &str) -> String {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.raw_query().mapped(|row| row.get::<_, String>(3));
        steps.collect::<Result<Vec<_>, _>>().unwrap().join("; ")
    }

    #[tokio::test]
    async fn nothing_that_the_writer_does_looks_at_all_jobs_or_sorts_them() {
        let (folder, _store) = store().await;
        let connection = neighbour(&folder);
        for (name, sql) in ALL {
            let plan = plan(&connection, sql);
            // Tables that stay small.
            let large =
                plan.replace("SCAN qtasks_new_steps", "").replace("SCAN p", "").replace("SCAN qtasks_format", "");
            assert!(!large.contains("SCAN") && !large.contains("TEMP B-TREE"), "{name}: {plan}");
        }
    }

    #[tokio::test]
    async fn no_statement_of_the_writer_is_compiled_again_when_values_are_bound() {
        let (_folder, url) = temp_url("");
        let _store = Sqlite::open(&url).await.unwrap();
        let connection = StoreUrl::parse(&url).unwrap().connect().unwrap();
        let of_transactions = ["begin", "commit", "rollback", "savepoint", "release_savepoint", "undo_savepoint"];
        for (name, sql) in ALL.iter().filter(|(name, _)| !of_transactions.contains(name)) {
            let mut statement = connection.prepare(sql).unwrap();
            for value in 1..4_i64 {
                for parameter in 1..=statement.parameter_count() {
                    statement.raw_bind_parameter(parameter, value).unwrap();
                }
                // Some refuse these values, and only when they are run.
                _ = statement.raw_query().next();
            }
            assert_eq!(statement.get_status(StatementStatus::RePrepare), 0, "{name}");
        }
    }

    #[tokio::test]
    async fn jobs_are_found_by_their_indexes() {
        let (folder, _store) = store().await;
        let connection = neighbour(&folder);
        let of = |name: &str| plan(&connection, ALL.iter().find(|(known, _)| *known == name).unwrap().1);
        let ready = of("ready");
        assert!(ready.contains("INDEX qtasks_ready (lane=? AND (rank,id)>(?,?))"), "{ready}");
        let suspects = of("ready_suspects");
        assert!(suspects.contains("INDEX qtasks_suspects (lane=? AND (survived,rank,id)>(?,?,?))"), "{suspects}");
        let first = of("first_later");
        assert!(first.contains("COVERING INDEX qtasks_later (lane=?)"), "{first}");
        let promote = of("promote");
        assert!(promote.contains("COVERING INDEX qtasks_later (lane=? AND due<?)"), "{promote}");
        let held = plan(&connection, HELD);
        assert!(held.contains("INDEX qtasks_running (worker=?)"), "{held}");
        let ends = of("ends");
        assert!(ends.contains("INDEX qtasks_ends_by_age (state=? AND first<?)"), "{ends}");
    }

    #[tokio::test]
    async fn readers_go_by_keys_and_do_not_sort_what_is_many() {
        let (folder, _store) = store().await;
        let connection = neighbour(&folder);
        let found = [find::ALL, find::DEAD].concat();
        let others = [read::JOB, read::MEMOS, read::ATTEMPTS, read::JOBS_OF, note::NOTES];
        for sql in found.into_iter().chain(others).chain([HELD, SEGMENTS, LAST_SEGMENTS]) {
            let plan = plan(&connection, sql);
            assert!(!plan.contains("SCAN") && !plan.contains("TEMP B-TREE"), "{sql}: {plan}");
        }
        let holders = plan(&connection, read::HOLDERS);
        assert!(holders.contains("SEARCH n USING COVERING INDEX qtasks_running (worker>?)"), "{holders}");
        let dead = plan(&connection, find::DEAD[0]);
        assert!(dead.contains("SEARCH d USING PRIMARY KEY (job>? AND job<?)"), "{dead}");
        let counts = plan(&connection, count::COUNTS);
        for search in ["qtasks_jobs USING INDEX qtasks_ready (lane=?)", "qtasks_jobs USING INDEX qtasks_later (lane=?)"]
        {
            assert!(counts.contains(search) && !counts.contains("SCAN qtasks_jobs"), "{counts}");
        }
    }

    #[tokio::test]
    async fn a_pair_of_queue_and_task_keeps_its_number() {
        let (folder, _store) = store().await;
        let connection = neighbour(&folder);
        let mut insert = connection.prepare(INSERT_LANE).unwrap();
        let mut lane = |queue, task| insert.query_row(params![queue, task], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!([lane("a", "t"), lane("b", "t"), lane("a", "t")], [1, 2, 1]);
    }
}
