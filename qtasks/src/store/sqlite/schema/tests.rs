//! Files of every format, and files that are refused.

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
            Attempt, Counts, Ending, Job, JobCall, JobId, Lease, NewJob, NextState, Output, Reply, Standing, State,
            StateKind, Step, Suspect, WorkerId,
        },
        json::Json,
        lifecycle::Outcome,
    },
    store::{
        Ask, Budget, Find, Hold, JobCounts, Settlement, Store, Suspects, Written,
        sqlite::{
            Sqlite, encoding,
            fixture::{NOW, ask, lease, neighbour, new_job, temp_url},
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
    let url = StoreUrl::parse(connection.path().unwrap()).unwrap();
    migrate(&mut connection, &url, migrations).unwrap();
    connection
}

#[tokio::test]
async fn an_empty_file_and_one_with_other_tables_become_stores() {
    for tables in ["", "CREATE TABLE orders (id INTEGER PRIMARY KEY); PRAGMA user_version = 7"] {
        let (folder, url) = temp_url("");
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
    let (folder, url) = temp_url("");
    let connection = migrated(&folder, &MIGRATIONS[..5]);
    connection.execute("INSERT INTO qtasks_lanes VALUES (1, 'default', 't')", []).unwrap();
    let (holder, [suspect, delayed, ordinary, running, done]) = (WorkerId::new(), [(); 5].map(|()| JobId::new()));
    insert_jobs_of_format_5(&connection, holder, [suspect, delayed, ordinary, running, done]);
    drop(connection);

    let store = Sqlite::open(&url).await.unwrap();
    let known = Some(Suspect::default());
    let job = |id, state: State, suspect, attempt| Job {
        call: JobCall { id, priority: 4, ..new_job().call },
        ended: state.is_ended().then_some(NOW),
        standing: Standing { state, suspect, attempt, failures: 1 },
        counts: Counts::default(),
    };
    let later = State::waiting(NOW + Duration::from_millis(5));
    let output = Output::Value(Json::from_stored("7"));
    let mut expected = [
        job(suspect, State::waiting(NOW), known, 2),
        job(delayed, later, known, 2),
        job(ordinary, State::waiting(NOW), None, 0),
        job(running, State::Running { worker: holder, due: NOW }, known, 3),
        job(done, State::Done { output }, None, 1),
    ];
    expected.sort_by_key(|job| job.call.id);
    assert_eq!(store.find(Find::default().oldest_first(), None, Budget::jobs(9)).await.unwrap().jobs, expected);

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

/// A suspect that is due, one that is due later, an ordinary job, a running suspect and a job that is done.
fn insert_jobs_of_format_5(connection: &Connection, holder: WorkerId, jobs: [JobId; 5]) {
    let [suspect, delayed, ordinary, running, done] = jobs;
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
}

#[tokio::test]
async fn jobs_of_the_format_before_the_door_are_kept_and_others_come_in_by_it() {
    let (folder, url) = temp_url("");
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

#[tokio::test]
async fn attempts_and_ended_jobs_of_the_format_before_the_lists_are_kept_and_pruned() {
    let (folder, url) = temp_url("");
    let connection = migrated(&folder, &MIGRATIONS[..7]);
    connection.execute("INSERT INTO qtasks_lanes VALUES (1, 'default', 't')", []).unwrap();
    let (holder, [done, dead, running]) = (WorkerId::new(), [(); 3].map(|()| JobId::new()));
    let job = "INSERT INTO qtasks_jobs (id, lane, rank, state, due, enqueued, args, attempt, worker, outcome, ended)
               VALUES (?1, 1, 0, ?2, 0, 0, '{}', 2, ?3, ?4, ?5)";
    let history = "INSERT INTO qtasks_attempts (job, number, worker, started, ended, ending, error)
                   VALUES (?1, 1, ?3, 1, 2, 'failed', 'no'), (?1, 2, ?3, 3, ?2, 'done', NULL)";
    for (id, state, worker, outcome, ended) in [
        (done, 3, None, Some("7"), Some(100)),
        (dead, 4, None, Some("no"), Some(50)),
        (running, 2, Some(holder.to_bytes()), None, None),
    ] {
        connection.execute(job, params![id.to_bytes(), state, worker, outcome, ended]).unwrap();
        let ended = ended.unwrap_or(9);
        connection.execute(history, params![id.to_bytes(), ended, holder.to_bytes()]).unwrap();
    }
    drop(connection);

    let store = Sqlite::open(&url).await.unwrap();
    let milliseconds = |time| encoding::time(time);
    let attempt = |number, started, ended, ending| {
        let (started, ended) = (Some(milliseconds(started)), milliseconds(ended));
        Attempt { number, worker: holder, started, ended, ending, steps: None }
    };
    let failed = attempt(1, 1, 2, Ending::Failed { error: "no".into() });
    let kept = [failed, attempt(2, 3, 100, Ending::Done)];
    assert_eq!(store.attempts(done).await.unwrap(), kept);
    let lease = Lease { job: running, attempt: 2, worker: holder };
    assert_eq!(store.renew(holder, 1).await.unwrap().leases, [lease]);
    for (before, pruned) in [(50, 0), (51, 1), (100, 0), (101, 1)] {
        let before = milliseconds(before);
        assert_eq!(store.prune(before, before, 9).await.unwrap(), pruned, "{before}");
    }
    assert_eq!(
        store.find(Find::default().oldest_first(), None, Budget::jobs(9)).await.unwrap().jobs[0].call.id,
        running
    );
    assert_eq!(store.attempts(done).await.unwrap(), []);
}

/// It would not list them, and they would never be pruned.
#[tokio::test]
async fn a_program_of_the_format_before_the_lists_ends_no_job_any_more() {
    let (folder, url) = temp_url("");
    let store = Sqlite::open(&url).await.unwrap();
    store.enqueue(vec![new_job()]).await.unwrap();
    let settle =
        "UPDATE qtasks_jobs SET state = ?1, due = coalesce(?2, due), ended = ?3, worker = NULL WHERE id IS NOT NULL";
    let refused = neighbour(&folder).execute(settle, params![5, None::<i64>, 1]).unwrap_err();
    assert_eq!(refused.to_string(), "the tables have the format of a newer qtasks; start this program again");
}

/// Jobs as programs of format 8 wrote them: those of the lane 1 in each state, and one of the lane 2 that waits.
fn insert_jobs_of_format_8(connection: &Connection, holder: WorkerId) -> Vec<JobId> {
    connection
        .execute("INSERT INTO qtasks_lanes VALUES (1, 'default', 't'), (2, 'q', 't'), (3, 'none', 't')", [])
        .unwrap();
    let insert = "INSERT INTO qtasks_jobs (id, lane, rank, state, due, max_time, enqueued, args, worker, attempt)
                  VALUES (?1, ?2, 0, ?3, ?4, NULL, ?4, '{}', ?5, ?6) ON CONFLICT (id) DO NOTHING";
    let end = "UPDATE qtasks_jobs SET ended_at = ?2, outcome = 'no' WHERE id = ?1 AND state > 2";
    let now = encoding::millis(NOW);
    let jobs = [(1, 0), (1, 1), (1, 1), (1, 2), (1, 3), (1, 4), (1, 5), (1, 4), (2, 1)];
    let ids = jobs.into_iter().map(|(lane, state)| {
        let (id, worker) = (JobId::new(), (state == 2).then_some(holder.to_bytes()));
        connection.execute(insert, params![id.to_bytes(), lane, state, now, worker, i64::from(state > 1)]).unwrap();
        let ended = connection.execute(end, params![id.to_bytes(), now]).unwrap();
        if ended > 0 {
            let list = "INSERT INTO qtasks_ends (state, first, jobs) VALUES (?1, ?2, ?3)";
            connection.execute(list, params![state, now, id.to_bytes()]).unwrap();
        }
        id
    });
    ids.collect()
}

async fn counts(store: &Sqlite) -> Vec<(String, [u64; 5])> {
    let mut counts = store.counts(NOW).await.unwrap();
    counts.sort_by(|one, other| one.lane.cmp(&other.lane));
    let numbers = |JobCounts { waiting, running, done, dead, cancelled, .. }| [waiting, running, done, dead, cancelled];
    counts.into_iter().map(|counts| (counts.lane.queue, numbers(counts.jobs))).collect()
}

#[tokio::test]
async fn jobs_of_the_format_before_the_counts_are_counted_and_found() {
    let (folder, url) = temp_url("");
    let holder = WorkerId::new();
    let ids = insert_jobs_of_format_8(&migrated(&folder, &MIGRATIONS[..8]), holder);
    let store = Sqlite::open(&url).await.unwrap();
    let of = |numbers| ("default".to_owned(), numbers);
    let [none, other] = [("none".to_owned(), [0; 5]), ("q".to_owned(), [1, 0, 0, 0, 0])];
    assert_eq!(counts(&store).await, [of([3, 1, 1, 2, 1]), none.clone(), other.clone()]);
    let all = store.find(Find::default().oldest_first(), None, Budget::PAGE).await.unwrap().jobs;
    assert_eq!(all.iter().map(|job| job.call.id).collect::<Vec<_>>(), ids);
    assert!(all.iter().all(|job| job.call.trace.is_none() && job.ended.is_some() == job.standing.state.is_ended()));
    let dead = store.find(Find::default().state(StateKind::Dead), None, Budget::PAGE).await.unwrap();
    assert_eq!((dead.jobs.iter().map(|job| job.call.id).collect::<Vec<_>>(), dead.looked), (vec![ids[7], ids[5]], 2));

    // Those that had ended before, too, are tried again and pruned.
    let hold = Hold::Seen { job: ids[5], state: StateKind::Dead, attempt: 1 };
    let next = NextState::Waiting { due: NOW };
    let outcome = Outcome { next, failures: 0, suspect: None };
    let retried = Settlement { hold, outcome, steps: None, attempt: None, now: NOW };
    assert_eq!(store.settle([retried].into()).await.unwrap(), [Written::Yes]);
    assert_eq!(counts(&store).await, [of([4, 1, 1, 1, 1]), none.clone(), other.clone()]);
    assert_eq!(lease(&store, 9).await.len(), 4);
    assert_eq!(store.prune(Timestamp::MAX, Timestamp::MAX, 9).await.unwrap(), 3);
    assert_eq!(counts(&store).await, [of([0, 5, 0, 0, 0]), none, other]);
    assert_eq!(store.recount().await.unwrap(), 0);
}

/// Also in a file where the user has a view of something that is gone.
#[tokio::test]
async fn jobs_of_the_format_9_keep_their_trace() {
    let (folder, url) = temp_url("");
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let older = migrated(&folder, &MIGRATIONS[..9]);
    let options = format!("{{\"traceparent\": \"{trace}\"}}");
    older.execute("INSERT INTO qtasks_enqueue (task, options) VALUES ('t', ?1), ('t', '{}')", [options]).unwrap();
    let insert = "INSERT INTO qtasks_jobs (id, lane, rank, state, counted, due, enqueued, trace) VALUES (?1, 1, 0, 0, 0, 0, 0, NULL)";
    let mut insert = older.prepare(insert).unwrap();
    older.execute_batch("CREATE VIEW report AS SELECT * FROM gone").unwrap();
    let store = Sqlite::open(&url).await.unwrap();
    let mut found = store.find(Find::default(), None, Budget::PAGE).await.unwrap().jobs;
    found.sort_by_key(|job| job.call.trace.is_none());
    let found: Vec<_> = found.into_iter().map(|job| (job.call.trace, job.call.expires)).collect();
    assert_eq!(found, [(Some(trace.to_owned()), None), (None, None)]);
    insert.execute([JobId::new().to_bytes()]).unwrap_err();
    older.execute("INSERT INTO qtasks_enqueue (task, options) VALUES ('t', '{\"expires\": 1}')", []).unwrap();
    assert_eq!(store.expired(Timestamp::MAX, 9).await.unwrap().jobs.len(), 1);
}

/// It would let none on that wait for them.
#[tokio::test]
async fn a_program_of_the_format_10_ends_no_job_any_more() {
    let (folder, url) = temp_url("");
    let older = migrated(&folder, &MIGRATIONS[..10]);
    older.execute("INSERT INTO qtasks_enqueue (task, options) VALUES ('t', '{}')", []).unwrap();
    let settle = "UPDATE qtasks_jobs SET state = 3, counted = 3, ended_at = 1, shape = NULL, outcome = NULL WHERE id IS NOT NULL";
    let mut settle = older.prepare(settle).unwrap();
    older.execute_batch("CREATE VIEW report AS SELECT * FROM gone").unwrap();
    let store = Sqlite::open(&url).await.unwrap();
    assert_eq!(store.find(Find::default(), None, Budget::PAGE).await.unwrap().jobs.len(), 1);
    let refused = settle.execute([]).unwrap_err();
    assert!(refused.to_string().contains("no such column: outcome"), "{refused}");
}

/// It would not count them. What it says is what a program says that has had the file open all the while.
#[tokio::test]
async fn a_program_of_the_format_before_the_counts_changes_no_job_any_more() {
    let (folder, url) = temp_url("");
    let older = migrated(&folder, &MIGRATIONS[..8]);
    let ids = insert_jobs_of_format_8(&older, WorkerId::new());
    let newer = "CHECK constraint failed: the tables have the format of a newer qtasks; start this program again";
    let settle =
        "UPDATE qtasks_jobs SET state = ?1, due = coalesce(?2, due), ended_at = ?3, worker = NULL WHERE id = ?4";
    let [later, ready, _, running, done, dead, ..] = ids[..] else { panic!("{ids:?}") };
    let statements = [
        (
            "INSERT INTO qtasks_jobs (id, lane, rank, state, due, max_time, enqueued, args, worker, attempt)
          VALUES (?4, 1, 0, ?1, ?3, ?2, ?3, '{}', NULL, 0) ON CONFLICT (id) DO NOTHING",
            1,
            JobId::new(),
        ),
        ("UPDATE qtasks_jobs SET state = ?1 + 0 * ?3, max_time = ?2 WHERE id = ?4", 1, later),
        ("UPDATE qtasks_jobs SET state = ?1 + 0 * ?3, max_time = ?2 WHERE id = ?4", 2, ready),
        (settle, 3, running),
        (settle, 5, ready),
        (settle, 0, dead),
        (settle, 1, done),
    ];
    let mut statements = statements.map(|(sql, state, id)| (older.prepare(sql).unwrap(), state, id));
    let ends = "SELECT number, jobs FROM qtasks_ends INDEXED BY qtasks_ends_first WHERE state = 3 AND first < 9 ORDER BY first";
    let mut ends = older.prepare(ends).unwrap();
    let store = Sqlite::open(&url).await.unwrap();
    for (statement, state, id) in &mut statements {
        let refused = statement.execute(params![*state, None::<i64>, 1, id.to_bytes()]).unwrap_err();
        assert_eq!(refused.to_string(), newer, "{statement:?}");
    }
    let refused = ends.exists([]).unwrap_err().to_string();
    assert!(refused.contains("no such index: qtasks_ends_first"), "it deletes none: {refused}");
    assert_eq!(store.recount().await.unwrap(), 0);
}

#[test]
fn steps_in_utf_16_are_refused_and_kept() {
    let folder = TempDir::new().unwrap();
    neighbour(&folder).execute_batch("PRAGMA encoding = 'UTF-16le'; CREATE TABLE ours (text TEXT)").unwrap();
    let insert = "INSERT INTO qtasks_steps (job, seq, hash, skipped, reply) VALUES (x'01', 0, 1, 0, '2')";
    migrated(&folder, &MIGRATIONS[..4]).execute(insert, []).unwrap();
    let mut connection = neighbour(&folder);
    let url = StoreUrl::parse(connection.path().unwrap()).unwrap();
    let path = folder.path().join("jobs.db");
    assert_eq!(
        migrate(&mut connection, &url, MIGRATIONS).unwrap_err().to_string(),
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
    let url = StoreUrl::parse(connection.path().unwrap()).unwrap();
    migrate(&mut connection, &url, &[MIGRATIONS[0], "DROP TABLE qtasks_lanes; SELECT nothing"]).unwrap_err();
    assert_eq!(format(&connection).unwrap(), 1);
    connection.execute("INSERT INTO qtasks_lanes VALUES (1, 'q', 't')", []).unwrap();
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let (folder, url) = temp_url("");
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
async fn a_file_of_another_program_is_refused() {
    let (folder, url) = temp_url("");
    let path = folder.path().join("jobs.db");
    fs::write(&path, "no database, but some text that is long enough to be taken for the header of one".repeat(20))
        .unwrap();
    let shown = path.display();
    assert_eq!(
        refused(&url).await,
        format!("`{shown}` is not a store of qtasks: the file is not a SQLite database, or it is encrypted")
    );
    fs::remove_file(&path).unwrap();
    neighbour(&folder).execute_batch("CREATE TABLE qtasks_jobs (other TEXT)").unwrap();
    assert_eq!(
        refused(&url).await,
        format!("`{shown}` is not a store of qtasks: it has a `qtasks_jobs` and no format in `qtasks_format`")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_may_open_a_new_file_at_once() {
    let (_folder, url) = temp_url("");
    for opened in join_all((0..16).map(|_| Sqlite::open(&url))).await {
        opened.unwrap().enqueue(vec![new_job()]).await.unwrap();
    }
    assert_eq!(lease(&Sqlite::open(&url).await.unwrap(), 99).await.len(), 16);
}
