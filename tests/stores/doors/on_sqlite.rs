//! The view `qtasks_enqueue`, into which any program inserts that opens the file.

use std::time::Duration;

use jiff::Timestamp;
use qtasks::{
    job::{Job, State, Version},
    prelude::*,
    sqlite::rusqlite::{Connection, params},
    store::{Budget, Find, Note, NoteChange, Written},
};
use qtasks_tests::{Place, Stage, in_time};

use crate::welcome;

const ENQUEUE: &str = "INSERT INTO qtasks_enqueue (id, task, args, options) VALUES (?1, ?2, ?3, ?4)";

async fn stage() -> (Stage, Connection) {
    let stage = Stage::open(Place::sqlite()).await;
    let connection = Connection::open(stage.file()).unwrap();
    (stage, connection)
}

/// What SQLite says to this call.
fn call(connection: &Connection, id: Option<&str>, task: &str, args: &str, options: &str) -> Result<(), String> {
    connection.execute(ENQUEUE, params![id, task, args, options]).map(drop).map_err(|error| error.to_string())
}

async fn jobs(stage: &Stage) -> Vec<Job> {
    stage.app.find(Find::default().oldest_first()).budget(Budget::jobs(999)).await.unwrap().jobs
}

#[tokio::test]
async fn a_job_exists_exactly_if_the_transaction_commits() {
    let (stage, mut connection) = stage().await;
    let id: JobId = connection
        .query_row("SELECT id FROM qtasks_new_id", [], |row| row.get::<_, String>(0))
        .unwrap()
        .parse()
        .unwrap();
    let enqueue = |connection: &Connection| {
        call(connection, Some(&id.to_string()), "doors.welcome", r#"{"user": "Ada"}"#, "{}").unwrap();
    };
    let tx = connection.transaction().unwrap();
    enqueue(&tx);
    tx.rollback().unwrap();
    assert_eq!(jobs(&stage).await, []);

    // A worker that waits hears of it from another connection's commit.
    let worker = stage.app.worker().start().await.unwrap();
    let tx = connection.transaction().unwrap();
    enqueue(&tx);
    tx.commit().unwrap();
    let job = loop {
        match stage.app.job::<welcome>(id).await {
            Ok(job) => break job,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    assert_eq!(in_time(job.result()).await.unwrap(), "welcome, Ada");
    worker.shutdown().await.unwrap();
}

#[tokio::test]
async fn options_are_those_of_a_call() {
    let (stage, connection) = stage().await;
    let options = r#"{"queue": "mail", "priority": -7, "max_time": 1.5, "delay": 60.0005}"#;
    call(&connection, None, "t", r#" {"a" : 1.50} "#, options).unwrap();
    call(&connection, None, "t", "{}", r#"{"at": "2030-01-02T04:04:05.678+01:00", "priority": 7.0}"#).unwrap();
    call(&connection, None, "t", "{}", r#"{"delay": 1e30, "max_time": 1e30, "queue": null, "id": null}"#).unwrap();
    let found = jobs(&stage).await;
    let job = |is: fn(&Job) -> bool| found.iter().find(|job| is(job)).unwrap();
    let first = job(|job| job.call.priority == -7);
    assert_eq!((&*first.call.queue, &*first.call.task, first.call.args.as_str()), ("mail", "t", r#" {"a" : 1.50} "#));
    assert_eq!(first.call.max_time, Some(Duration::from_millis(1_500)));
    assert_eq!(first.standing.state, State::waiting(first.call.enqueued + Duration::from_millis(60_001)), "rounded up");
    let due: Timestamp = "2030-01-02T03:04:05.678Z".parse().unwrap();
    assert_eq!(job(|job| job.call.priority == 7).standing.state, State::waiting(due));
    let last = job(|job| job.call.priority == 0);
    assert_eq!((&*last.call.queue, last.call.max_time), ("default", Some(Duration::MAX)));
    let State::Waiting { due, .. } = last.standing.state else { panic!("{last:?}") };
    assert!(due > "9999-12-30T00:00:00Z".parse().unwrap());
}

#[tokio::test]
async fn what_may_be_left_out_may_be_left_out() {
    let (stage, connection) = stage().await;
    connection.execute("INSERT INTO qtasks_enqueue (task) VALUES ('t'), ('t')", []).unwrap();
    connection.execute("INSERT INTO qtasks_enqueue VALUES (NULL, 'u', NULL, NULL)", []).unwrap();
    let now = Timestamp::now();
    let found = jobs(&stage).await;
    assert_eq!(found.len(), 3, "each row has an id of its own");
    for job in found {
        assert_eq!(
            (&*job.call.queue, job.call.priority, job.call.args.as_str(), job.call.max_time),
            ("default", 0, "{}", None)
        );
        assert_eq!(job.standing.state, State::waiting(job.call.enqueued));
        assert!(
            now.duration_since(job.call.enqueued).abs() < jiff::SignedDuration::from_secs(60),
            "{}",
            job.call.enqueued
        );
    }
}

#[tokio::test]
async fn ids_that_sql_makes_sort_by_age() {
    let (stage, connection) = stage().await;
    let before = JobId::new();
    // The clock of a view goes by milliseconds.
    while Timestamp::now().as_millisecond() <= i64::try_from(millis(before)).unwrap() {}
    let sql = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 200)
               INSERT INTO qtasks_enqueue (task) SELECT 't' FROM n";
    connection.execute(sql, []).unwrap();
    let found = jobs(&stage).await;
    assert_eq!(found.len(), 200);
    assert!(found.iter().all(|job| job.call.id > before && job.call.id.to_string().as_bytes()[14] == b'7'));
    assert!(found.iter().all(|job| b"89ab".contains(&job.call.id.to_string().as_bytes()[19])));
}

fn millis(id: JobId) -> u64 {
    id.to_bytes()[..6].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[tokio::test]
async fn every_id_is_read_as_it_is() {
    let (stage, connection) = stage().await;
    let mut ids: Vec<JobId> =
        (0..16).map(|n: u8| JobId::from_bytes(std::array::from_fn(|i| n * 16 + i as u8))).collect();
    ids.push("FFffFFff-0000-4000-8000-aAbBcCdDeEfF".parse().unwrap());
    for id in &ids {
        call(&connection, Some(&id.to_string().to_uppercase()), "t", "{}", "{}").unwrap();
        call(&connection, None, "t", "{}", &format!(r#"{{"id": "{id}"}}"#)).unwrap();
        connection.execute(ENQUEUE, params![id.to_bytes(), "t", "{}", None::<&str>]).unwrap();
    }
    assert_eq!(jobs(&stage).await.iter().map(|job| job.call.id).collect::<Vec<_>>(), ids);
}

#[tokio::test]
async fn an_id_names_one_call() {
    let (stage, connection) = stage().await;
    let long = format!(r#"{{"user": "{}", "more": [1, {{"a": null, "b": 2}}]}}"#, "Ada ".repeat(500));
    let sorted = format!(r#"{{"more":[1,{{"b":2,"a":null}}], "user":"{}"}}"#, "Ada ".repeat(500));
    for args in ["{}", &long] {
        let id = JobId::new();
        let text = id.to_string();
        let call = |task: &str, args: &str| call(&connection, Some(&text), task, args, r#"{"priority": 1}"#);
        call("doors.welcome", args).unwrap();
        let before = stage.store.job(id).await.unwrap();
        for same in [args, &format!("{args} ")] {
            call("doors.welcome", same).unwrap();
        }
        if args.len() > 2 {
            call("doors.welcome", &sorted).unwrap();
        }
        let end = "an id names one call, so give this one another";
        let said = format!("a job of this id is there, and is one of another task; {end}");
        assert_eq!(call("other", args), Err(said));
        for other in [r#"{"user": "Bob"}"#, r#"{"user": null}"#, &long.replace("2}", "2.0}"), &long.replace(']', ",3]")]
        {
            let said = format!("a job of this id is there with other arguments; {end}");
            assert_eq!(call("doors.welcome", other), Err(said), "{other}");
        }
        // What is said here is not what becomes of a job that is there.
        for or in ["REPLACE", "IGNORE"] {
            let sql = ENQUEUE.replacen("INSERT", &format!("INSERT OR {or}"), 1);
            connection.execute(&sql, params![text, "doors.welcome", args, r#"{"priority": 9}"#]).unwrap();
        }
        assert_eq!(stage.store.job(id).await.unwrap(), before, "it is as it was");
    }
    // And those that Rust enqueues.
    let job = stage.app.enqueue(welcome("Ada".into())).await.unwrap().id().to_string();
    call(&connection, Some(&job), "doors.welcome", r#"{ "user": "Ada" }"#, "{}").unwrap();
    let id: JobId = job.parse().unwrap();
    let error = stage.app.enqueue(welcome("Bob".into()).id(id)).await.unwrap_err();
    assert!(error.to_string().contains("is there with other arguments"), "{error}");
    let of_sql = JobId::new();
    call(&connection, Some(&of_sql.to_string()), "doors.welcome", r#"{ "user": "Ada" }"#, "{}").unwrap();
    stage.app.enqueue(welcome("Ada".into()).id(of_sql)).await.unwrap();
    assert_eq!(jobs(&stage).await.len(), 4);
}

async fn card(stage: &Stage, task: &str, value: &str, until: Option<Timestamp>) {
    let (kind, name, value) = ("task".to_owned(), task.to_owned(), serde_json::from_str(value).unwrap());
    let note = Note { kind, name, version: Version::new(), value, until };
    let written = stage.store.note(vec![NoteChange::Write { note, seen: None }], vec![]).await.unwrap();
    assert_eq!(written, Written::Yes);
}

#[tokio::test]
async fn the_card_of_a_task_says_what_a_call_does_not() {
    let (stage, connection) = stage().await;
    let (past, future) = (Timestamp::now() - Duration::from_secs(60), Timestamp::now() + Duration::from_secs(60));
    card(&stage, "both", r#"{"priority": -32768, "more": [1], "queue": "mail"}"#, None).await;
    card(&stage, "queue", r#"{"queue": "mail"}"#, Some(future)).await;
    card(&stage, "none", r#"{"queue": null, "priority": "high"}"#, None).await;
    card(&stage, "old", r#"{"queue": "mail", "priority": 3}"#, Some(past)).await;
    card(&stage, "text", r#""mail""#, None).await;
    for (task, options, queue, priority) in [
        ("both", "{}", "mail", -32768),
        ("both", r#"{"queue": "other"}"#, "other", -32768),
        ("both", r#"{"priority": 7, "queue": null}"#, "mail", 7),
        ("both", r#"{"priority": 0, "queue": "default"}"#, "default", 0),
        ("queue", "{}", "mail", 0),
        ("none", "{}", "default", 0),
        ("old", "{}", "default", 0),
        ("text", "{}", "default", 0),
        ("nobody", "{}", "default", 0),
    ] {
        let id = JobId::new();
        call(&connection, Some(&id.to_string()), task, "{}", options).unwrap();
        let job = stage.store.job(id).await.unwrap().unwrap();
        assert_eq!((&*job.call.queue, job.call.priority), (queue, priority), "{task} {options}");
    }
}

#[tokio::test]
async fn a_call_may_name_its_trace() {
    let (stage, connection) = stage().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let options = |trace: &str| serde_json::json!({ "traceparent": trace }).to_string();
    call(&connection, None, "t", "{}", &options(trace)).unwrap();
    call(&connection, None, "t", "{}", r#"{"traceparent": null}"#).unwrap();
    let traces: Vec<_> = jobs(&stage).await.into_iter().map(|job| job.call.trace).collect();
    assert_eq!(traces, [Some(trace.to_owned()), None]);
    let said = Err(format!("`traceparent` is a text like `{trace}`"));
    assert_eq!(call(&connection, None, "t", "{}", r#"{"traceparent": 5}"#), said);
    for wrong in ["", "00", &trace[1..], &trace.to_uppercase(), &trace.replace('-', "0"), &format!("{trace}-1")] {
        assert_eq!(call(&connection, None, "t", "{}", &options(wrong)), said, "{wrong}");
    }
}

#[tokio::test]
async fn a_call_may_say_when_its_job_expires() {
    let (stage, connection) = stage().await;
    let insert = "INSERT INTO qtasks_notes (kind, name, version, value) VALUES ('task', ?1, zeroblob(16), ?2)";
    for (task, expires) in [("good", "600.5"), ("none", "null"), ("text", "\"10m\""), ("less", "-1")] {
        connection.execute(insert, [task, &format!(r#"{{"queue":"q","priority":0,"expires":{expires}}}"#)]).unwrap();
    }
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (task, options, millis) in [
        ("t", r#"{"expires": 1.0005}"#, Some(1_001)),
        ("t", r#"{"expires": null}"#, None),
        ("good", "{}", Some(600_500)),
        ("good", r#"{"expires": 7, "queue": "own"}"#, Some(7_000)),
        ("none", "{}", None),
        ("text", "{}", None),
        ("less", "{}", None),
        ("t", &format!(r#"{{"expires": 1e30, "traceparent": "{trace}"}}"#), Some(i64::MAX)),
    ] {
        let id = JobId::new();
        for _ in 0..2 {
            call(&connection, Some(&id.to_string()), task, "{}", options).unwrap();
        }
        let job = stage.store.job(id).await.unwrap().unwrap();
        let expected = millis.map(|millis| match millis {
            i64::MAX => Duration::MAX,
            millis => Duration::from_millis(millis.cast_unsigned()),
        });
        assert_eq!(job.call.expires, expected, "{task} {options}");
        assert_eq!(job.call.trace.as_deref(), options.contains("trace").then_some(trace));
    }
    let key = r#"{"queue":"q","priority":0,"unique":{"on_duplicate":"join"}}"#;
    connection.execute(insert, ["keyed", key]).unwrap();
    let said = "of this task there is one job at a time for each key, and a call in SQL has no key: enqueue it in Rust";
    assert_eq!(call(&connection, None, "keyed", "{}", "{}"), Err(said.to_owned()));
    let far: Timestamp = "9999-12-30T00:00:00Z".parse().unwrap();
    assert_eq!(stage.store.expired(far, 9).await.unwrap().jobs.len(), 3);
}

#[tokio::test]
async fn what_comes_by_the_door_is_counted() {
    let (stage, mut connection) = stage().await;
    let id = JobId::new().to_string();
    for _ in 0..2 {
        call(&connection, Some(&id), "t", "{}", "{}").unwrap();
    }
    call(&connection, None, "t", "{}", r#"{"delay": 60}"#).unwrap();
    call(&connection, None, "t", "{}", r#"{"queue": "mail"}"#).unwrap();
    let tx = connection.transaction().unwrap();
    call(&tx, None, "t", "{}", "{}").unwrap();
    tx.rollback().unwrap();
    let mut counts = stage.store.counts(Timestamp::now()).await.unwrap();
    counts.sort_by(|one, other| one.lane.cmp(&other.lane));
    let waiting: Vec<_> = counts.iter().map(|counts| (&*counts.lane.queue, counts.jobs.waiting)).collect();
    assert_eq!(waiting, [("default", 2), ("mail", 1)]);
    assert_eq!(stage.store.recount().await.unwrap(), 0);
}

#[tokio::test]
async fn what_cannot_be_meant_is_said() {
    let (stage, connection) = stage().await;
    for (options, said) in crate::wrong_options() {
        assert_eq!(call(&connection, None, "t", "{}", options), Err(said.to_owned()), "{options}");
    }
    let names = "this is no name of a task or a queue: they are made of 1 to 128 of `A-Z a-z 0-9 _ . : -`";
    let long = "x".repeat(129);
    for name in ["", "a task", "ü", "a\0", &long, "a/b", "a]", "^"] {
        assert_eq!(call(&connection, None, name, "{}", "{}"), Err(names.to_owned()), "{name}");
        let options = serde_json::json!({ "queue": name }).to_string();
        assert_eq!(call(&connection, None, "t", "{}", &options), Err(names.to_owned()), "{options}");
    }
    let object = "the arguments are an object by parameter name";
    let deep = format!(r#"{{"a": {}{}}}"#, "[".repeat(128), "]".repeat(128));
    let large = format!(r#"{{"a": "{}"}}"#, "x".repeat(1 << 20));
    for (args, said) in [
        ("[1]", object),
        ("null", object),
        ("5", object),
        ("", "the arguments are JSON, as a text"),
        ("{a: 1}", "the arguments are JSON, as a text"),
        (r#"{"a": 1"#, "the arguments are JSON, as a text"),
        (&deep, "the arguments are more than 128 arrays and objects deep"),
        (&large, "the arguments are larger than 1 MiB"),
    ] {
        assert_eq!(call(&connection, None, "t", args, "{}"), Err(said.to_owned()));
    }
    let known = "an option is not known; there are `queue`, `priority`, `delay`, `at`, `max_time`, `expires`, \
                 `traceparent` and `id`";
    assert_eq!(call(&connection, None, "t", "{}", r#"{"prio": 1}"#), Err(known.to_owned()));
    assert_eq!(call(&connection, None, "t", "{}", "{"), Err("the options are JSON, as a text".to_owned()));
    for id in ["", "first", "01900000-0000-7000-8000-00000000000", "01900000-0000-7000-8000-00000000000g"] {
        assert_eq!(call(&connection, Some(id), "t", "{}", "{}"), Err("`id` is a UUID, as a text".to_owned()), "{id}");
    }
    let id = JobId::new().to_string();
    let twice = call(&connection, Some(&id), "t", "{}", &format!(r#"{{"id": "{id}"}}"#));
    assert_eq!(twice, Err("the id is given twice, as `id` and in the options; leave one of them out".to_owned()));
    assert_eq!(jobs(&stage).await, []);
    // What is just within the limits.
    let (fits, longest) = (deep.replacen("[[", "[", 1).replacen("]]", "]", 1), "x".repeat(128));
    call(&connection, None, &longest, &fits, "{}").unwrap();
    call(&connection, None, "A-z.0:9_", &format!(r#"{{"a": "{}"}}"#, "[{".repeat(500_000)), "{}").unwrap();
}

#[tokio::test]
async fn values_of_other_types_are_refused() {
    let (stage, connection) = stage().await;
    let names = "this is no name of a task or a queue: they are made of 1 to 128 of `A-Z a-z 0-9 _ . : -`";
    for (sql, said) in [
        ("INSERT INTO qtasks_enqueue (args) VALUES ('{}')", names),
        ("INSERT INTO qtasks_enqueue (task) VALUES (5)", names),
        ("INSERT INTO qtasks_enqueue (task, args) VALUES ('t', x'7b7d')", "the arguments are JSON, as a text"),
        ("INSERT INTO qtasks_enqueue (task, options) VALUES ('t', 5)", "the options are JSON, as a text"),
        ("INSERT INTO qtasks_enqueue (task, id) VALUES ('t', 5)", "`id` is a UUID, as a text"),
        ("INSERT INTO qtasks_enqueue (task, id) VALUES ('t', x'00')", "`id` is a UUID, as a text"),
        ("INSERT OR IGNORE INTO qtasks_enqueue (task) VALUES ('')", names),
    ] {
        assert_eq!(connection.execute(sql, []).unwrap_err().to_string(), said, "{sql}");
    }
    assert_eq!(jobs(&stage).await, []);
}

#[tokio::test]
async fn a_file_whose_text_is_utf_16_takes_an_id_of_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA encoding = 'UTF-16le'; CREATE TABLE ours (text TEXT)").unwrap();
    let app = QueueTasks::open(&format!("sqlite:{}", path.display())).await.unwrap();
    let id = JobId::new();
    let args = r#"{"user": "Grüße"}"#;
    for id in [Some(id.to_string()), None] {
        let said = "this file keeps text as UTF-16, so give the id as a blob of 16 bytes";
        assert_eq!(call(&connection, id.as_deref(), "doors.welcome", args, "{}"), Err(said.to_owned()));
    }
    connection.execute(ENQUEUE, params![id.to_bytes(), "doors.welcome", args, r#"{"delay": 0.001}"#]).unwrap();
    let found = app.find(Find::default().oldest_first()).budget(Budget::jobs(9)).await.unwrap().jobs;
    assert_eq!((found[0].call.id, found[0].call.args.as_str()), (id, args));
}

#[tokio::test]
async fn a_connection_that_trusts_no_schema_is_refused_by_an_older_sqlite() {
    let (_stage, connection) = stage().await;
    connection.execute_batch("PRAGMA trusted_schema = OFF").unwrap();
    let said = call(&connection, None, "t", "{}", "{}");
    assert!(said.as_ref().is_ok() || said.as_ref().unwrap_err().contains("unsafe use of"), "{said:?}");
    connection.execute_batch("PRAGMA trusted_schema = ON").unwrap();
    call(&connection, None, "t", "{}", "{}").unwrap();
}
