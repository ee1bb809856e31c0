//! The tables of each format, in SQL.

/// Each migration takes the tables from one format to the next; the first begins with a file without tables.
///
/// Times are milliseconds since 1970. `rank` is minus the priority, so that what is leased first sorts first. `state`
/// is -1 waiting for other jobs, 0 waiting, 1 waiting and known to be due, 2 running, 3 done, 4 dead, 5 cancelled. Large arguments stand apart,
/// since SQLite writes the whole of a row whenever something in it changes. Suspects have an index of their own, so that
/// a lease that passes them over does not read them. `survived` and the columns behind it are for suspects alone; other jobs have
/// null or 0 there, which takes a byte each. The views are a door for SQL: they use nothing that SQLite 3.38 does not know, since
/// other programs enqueue by them with their own SQLite. Steps are [`packed`](crate::store::sqlite::steps::packed). New ones stand in
/// `qtasks_new_steps` before they are moved, many at a time: in the order of their arrival those of a hundred jobs share a
/// page or two there. Older ones are packed only where text is UTF-8; else the file keeps its format.
/// The `step` of a memo is -1 where it is for the whole body. An attempt that ends a job well stands in the row of the job: `worker`,
/// `started` and `ended_at`. The jobs that ended in one transaction stand in a row of `qtasks_ends`. Programs of format 7 that have
/// the file open know no such lists: so that they end no job any more, the time of its end has a new column, and `ended` a trigger.
/// `waiting` and the columns behind it say how many jobs of a lane are in each state; the numbers are filled in by
/// [`advance`](super::advance). `counted` is the state as which a job is counted there: null, if it had ended before there were counts.
/// Programs of format 8 count nothing. Since they do not write `counted`, its constraint keeps them from enqueueing, leasing and settling
/// jobs, and it says why; and they delete none, for the index of the lists has a new name. `recounts` is how often the counts were mended.
/// `more` has what few calls have, as one text; before format 10 it was called `trace`. A job that may expire stands in `qtasks_expiring`,
/// under the time at which that is to be looked at: so it costs other jobs nothing. `qtasks_keys` says which job has taken the key of a task
/// last. The job holds the key until it has ended, and no end writes there.
/// `qtasks_waits` says which job waits for which `parent`, and whether it `runs` also where that does not end well; how many these are
/// stands in the `detail` of the job. Programs of format 10 would end jobs and let none on that wait for them: what belongs to a state was
/// called `outcome` before, so that they end none.
/// Dead jobs stand in a table of their own: an index of them, even one that leaves all others out, would cost each change of these.
pub(crate) const MIGRATIONS: &[&str] = &[
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
    "
    ALTER TABLE qtasks_jobs ADD COLUMN started INTEGER;
    ALTER TABLE qtasks_jobs ADD COLUMN ended_at INTEGER;
    CREATE TABLE qtasks_ends (
        number INTEGER PRIMARY KEY,
        state INTEGER NOT NULL,
        first INTEGER NOT NULL,
        jobs BLOB NOT NULL
    );
    CREATE INDEX qtasks_ends_first ON qtasks_ends (state, first);
    INSERT INTO qtasks_ends (state, first, jobs)
        SELECT state, ended, id FROM qtasks_jobs WHERE ended IS NOT NULL ORDER BY state, ended;
    UPDATE qtasks_jobs SET ended_at = ended, ended = NULL WHERE ended IS NOT NULL;
    DROP INDEX qtasks_ended;
    DROP INDEX qtasks_running;
    CREATE INDEX qtasks_running ON qtasks_jobs (worker) WHERE state = 2;
    CREATE TRIGGER qtasks_older BEFORE UPDATE OF ended ON qtasks_jobs BEGIN
        SELECT RAISE(ABORT, 'the tables have the format of a newer qtasks; start this program again');
    END;
",
    concat!(
        "
    ALTER TABLE qtasks_format ADD COLUMN recounts INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE qtasks_lanes ADD COLUMN waiting INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE qtasks_lanes ADD COLUMN running INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE qtasks_lanes ADD COLUMN done INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE qtasks_lanes ADD COLUMN dead INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE qtasks_lanes ADD COLUMN cancelled INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE qtasks_jobs ADD COLUMN counted INTEGER;
    UPDATE qtasks_jobs SET counted = state WHERE state < 3;
    ALTER TABLE qtasks_jobs ADD COLUMN trace TEXT
        CONSTRAINT \"the tables have the format of a newer qtasks; start this program again\"
        CHECK (counted IS state OR counted IS NULL AND state > 2);
    DROP INDEX qtasks_ends_first;
    CREATE INDEX qtasks_ends_by_age ON qtasks_ends (state, first);
    CREATE TABLE qtasks_dead (job BLOB PRIMARY KEY NOT NULL) WITHOUT ROWID;
    INSERT INTO qtasks_dead (job) SELECT id FROM qtasks_jobs WHERE state = 4;
    CREATE TABLE qtasks_notes (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        version BLOB NOT NULL,
        value TEXT NOT NULL,
        until INTEGER,
        PRIMARY KEY (kind, name)
    ) WITHOUT ROWID;
    ALTER TABLE qtasks_attempts ADD COLUMN steps INTEGER;
    CREATE TABLE qtasks_rates (
        span INTEGER NOT NULL,
        start INTEGER NOT NULL,
        queue TEXT NOT NULL,
        task TEXT NOT NULL,
        numbers TEXT NOT NULL,
        PRIMARY KEY (span, start, queue, task)
    ) WITHOUT ROWID;
",
        include_str!("door_with_cards.sql"),
    ),
    concat!(
        "
    DROP VIEW qtasks_checked_call;
    DROP VIEW qtasks_named_call;
    DROP VIEW qtasks_cards;
    DROP TRIGGER qtasks_check_call;
    PRAGMA writable_schema = ON; -- Otherwise a view of the user's that names what is gone stops it.
    ALTER TABLE qtasks_jobs RENAME COLUMN trace TO more;
    PRAGMA writable_schema = OFF;
    CREATE TABLE qtasks_expiring (at INTEGER NOT NULL, job BLOB NOT NULL, PRIMARY KEY (at, job)) WITHOUT ROWID;
    CREATE TABLE qtasks_keys (
        task TEXT NOT NULL,
        key TEXT NOT NULL,
        job BLOB NOT NULL,
        until INTEGER,
        PRIMARY KEY (task, key)
    ) WITHOUT ROWID;
    CREATE INDEX qtasks_keys_until ON qtasks_keys (until) WHERE until IS NOT NULL;
",
        include_str!("door_with_expiry.sql"),
    ),
    "
    PRAGMA writable_schema = ON; -- Otherwise a view of the user's that names what is gone stops it.
    ALTER TABLE qtasks_jobs RENAME COLUMN outcome TO detail;
    PRAGMA writable_schema = OFF;
    CREATE INDEX qtasks_expiring_by_job ON qtasks_expiring (job);
    CREATE TABLE qtasks_waits (
        parent BLOB NOT NULL,
        job BLOB NOT NULL,
        runs INTEGER NOT NULL,
        PRIMARY KEY (parent, job)
    ) WITHOUT ROWID;
    CREATE INDEX qtasks_waits_by_job ON qtasks_waits (job);
",
];
