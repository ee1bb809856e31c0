//! The SQL function `qtasks.enqueue`.

use std::{sync::Arc, time::Duration};

use qtasks::{
    job::{Job, Version},
    json::Json,
    postgres::Postgres,
    prelude::*,
    store::{Note, NoteChange, Store, Written},
};
use qtasks_tests::servers::postgres::{shared, tell};

use crate::welcome;

/// What the server says to a call with an id.
fn call(url: &str, task: &str, args: &str, id: JobId) -> Result<String, String> {
    let said = tell(url, &format!(r#"SELECT qtasks.enqueue('{task}', '{args}', '{{"id": "{id}"}}')"#));
    said.map_err(|said| said.lines().next().unwrap_or_default().to_owned())
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn an_id_names_one_call() {
    let url = shared().new_database();
    let app = QueueTasks::open(&url).await.unwrap();
    let job = app.enqueue(welcome("Ada \u{0} Lovelace".repeat(9)).priority(9)).await.unwrap().id();
    let id = JobId::new();
    let args = r#"{"user": "Ada", "more": [1, {"a": null, "b": 2}]}"#;
    for _ in 0..2 {
        assert_eq!(call(&url, "doors.welcome", args, id), Ok(id.to_string()), "the job that is there");
    }
    let sorted_otherwise = r#"{"more": [1, {"b": 2, "a": null}], "user": "Ada"}"#;
    assert_eq!(call(&url, "doors.welcome", sorted_otherwise, id), Ok(id.to_string()));
    assert_eq!(
        call(&url, "other", args, id),
        Err(format!("ERROR:  job {id} is one of the task `doors.welcome`, not of `other`"))
    );
    for (args, id) in [(r#"{"user": "Bob"}"#, id), ("{}", id), (r#"{"user": "Ada"}"#, job)] {
        let said = "is there with other arguments; an id names one call, so give this one another";
        assert_eq!(
            call(&url, "doors.welcome", args, id),
            Err(format!("ERROR:  job {id} of the task `doors.welcome` {said}"))
        );
    }
    assert_eq!(tell(&url, "SELECT count(*) FROM qtasks.jobs").unwrap(), "2");
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn what_an_option_cannot_be_is_said() {
    let url = shared().new_database();
    drop(QueueTasks::open(&url).await.unwrap());
    for (options, said) in crate::wrong_options() {
        let error = tell(&url, &format!("SELECT qtasks.enqueue('t', '{{}}', '{options}')")).unwrap_err();
        assert_eq!(error.lines().next(), Some(&*format!("ERROR:  {said}")), "{options}");
    }
    let deep = format!(r#"{{"a": {}{}}}"#, "[".repeat(128), "]".repeat(128));
    let error = tell(&url, &format!("SELECT qtasks.enqueue('t', '{deep}')")).unwrap_err();
    assert_eq!(error.lines().next(), Some("ERROR:  the arguments of `t` are more than 128 arrays and objects deep"));
    tell(&url, &format!("SELECT qtasks.enqueue('t', '{}')", &deep.replacen("[[", "[", 1).replacen("]]", "]", 1)))
        .unwrap();
    let last = r#"{"queue": null, "priority": 7.0, "delay": 1e30, "max_time": 1e30}"#;
    tell(&url, &format!("SELECT qtasks.enqueue('t', '{{}}', '{last}')")).unwrap();
    assert_eq!(tell(&url, "SELECT count(*) FROM qtasks.jobs").unwrap(), "2");
}

/// The store at `url`, and the job of a call with these options.
async fn enqueued(url: &str, store: &Postgres, task: &str, options: &str) -> Job {
    let id = tell(url, &format!("SELECT qtasks.enqueue('{task}', '{{}}', '{options}')")).unwrap();
    store.job(id.parse().unwrap()).await.unwrap().unwrap()
}

fn card(task: &str, value: &str, until: Option<jiff::Timestamp>) -> Note {
    let (kind, name) = ("task".to_owned(), task.to_owned());
    Note { kind, name, version: Version::new(), value: Json::from_stored(value), until }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn what_a_call_leaves_out_is_said_by_the_card_of_its_task() {
    let url = shared().new_database();
    let store = Arc::new(Postgres::open(&url).await.unwrap());
    let past = jiff::Timestamp::from_second(1).unwrap();
    let cards = [
        card("whole", r#"{"queue":"mail","priority":3,"retry":{"a":[1]},"none":null}"#, None),
        card("queue", r#"{"queue":"mail","priority":null}"#, Some(jiff::Timestamp::MAX)),
        card("past", r#"{"queue":"mail","priority":3}"#, Some(past)),
        card("empty", "{}", None),
        card("strange", "[1]", None),
        Note { kind: "pause".into(), ..card("other", r#"{"queue":"mail","priority":3}"#, None) },
    ];
    let changes = cards.iter().map(|note| NoteChange::Write { note: note.clone(), seen: None }).collect();
    assert_eq!(store.note(changes, vec![]).await.unwrap(), Written::Yes);
    for (task, options, queue, priority) in [
        ("whole", "{}", "mail", 3),
        ("whole", r#"{"queue": null, "priority": null}"#, "mail", 3),
        ("whole", r#"{"queue": "own"}"#, "own", 3),
        ("whole", r#"{"priority": 0}"#, "mail", 0),
        ("whole", r#"{"queue": "own", "priority": -1}"#, "own", -1),
        ("queue", "{}", "mail", 0),
        ("past", "{}", "default", 0),
        ("empty", "{}", "default", 0),
        ("strange", "{}", "default", 0),
        ("other", "{}", "default", 0),
        ("none", r#"{"priority": 5}"#, "default", 5),
    ] {
        let call = enqueued(&url, &store, task, options).await.call;
        assert_eq!((&*call.queue, call.priority), (queue, priority), "{task} {options}");
    }
    let change = NoteChange::Delete { kind: "task".into(), name: "whole".into(), seen: cards[0].version };
    assert_eq!(store.note(vec![change], vec![]).await.unwrap(), Written::Yes);
    assert_eq!(enqueued(&url, &store, "whole", "{}").await.call.queue, "default");
}

/// And that a card says when the jobs of its task expire.
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_call_may_say_when_its_job_expires() {
    let url = shared().new_database();
    let store = Arc::new(Postgres::open(&url).await.unwrap());
    let cards = ["600.5", "null", "\"10m\"", "-1"].iter().zip(["good", "none", "text", "less"]);
    let note = |(expires, task): (&&str, &str)| {
        card(task, &format!(r#"{{"queue":"q","priority":0,"expires":{expires}}}"#), None)
    };
    let changes = cards.map(note).map(|note| NoteChange::Write { note, seen: None }).collect();
    assert_eq!(store.note(changes, vec![]).await.unwrap(), Written::Yes);
    let span = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (task, options, millis) in [
        ("t", r#"{"expires": 1.0005}"#, Some(1_001)),
        ("t", r#"{"expires": null}"#, None),
        ("good", "{}", Some(600_500)),
        ("good", r#"{"expires": 7, "queue": "own"}"#, Some(7_000)),
        ("none", "{}", None),
    ] {
        let job = enqueued(&url, &store, task, options).await;
        assert_eq!((job.call.expires, job.call.trace), (millis.map(Duration::from_millis), None), "{task} {options}");
    }
    let both = enqueued(&url, &store, "t", &format!(r#"{{"expires": 60, "traceparent": "{span}"}}"#)).await.call;
    assert_eq!((both.expires, both.trace.as_deref()), (Some(Duration::from_secs(60)), Some(span)));
    for task in ["text", "less"] {
        let error = tell(&url, &format!("SELECT qtasks.enqueue('{task}')")).unwrap_err();
        assert_eq!(
            error.lines().next(),
            Some("ERROR:  `expires` is a number of seconds, from 0 on"),
            "a card of no use"
        );
    }
    let keyed = card("keyed", r#"{"queue":"q","priority":0,"unique":{"on_duplicate":"join"}}"#, None);
    let change = NoteChange::Write { note: keyed, seen: None };
    assert_eq!(store.note(vec![change], vec![]).await.unwrap(), Written::Yes);
    let error = tell(&url, "SELECT qtasks.enqueue('keyed')").unwrap_err();
    let said =
        "ERROR:  of `keyed` there is one job at a time for each key, and a call in SQL has no key: enqueue it in Rust";
    assert_eq!(error.lines().next(), Some(said));
    let mut expired = store.expired(jiff::Timestamp::MAX, 9).await.unwrap().jobs;
    expired.retain(|job| matches!(job.standing.state, qtasks::job::State::Waiting { .. }));
    assert_eq!(expired.len(), 4);
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn a_span_that_is_named_is_kept() {
    let url = shared().new_database();
    let store = Postgres::open(&url).await.unwrap();
    let span = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let job = enqueued(&url, &store, "t", &format!(r#"{{"traceparent": "{span}"}}"#)).await;
    assert_eq!(job.call.trace.as_deref(), Some(span));
    assert_eq!(enqueued(&url, &store, "t", r#"{"traceparent": null}"#).await.call.trace, None);
    for wrong in
        ["5", "\"\"", "\"00-4bf92f35-00f067aa0ba902b7-01\"", &format!("\"{span}-more\""), &format!("[\"{span}\"]")]
    {
        let error =
            tell(&url, &format!(r#"SELECT qtasks.enqueue('t', '{{}}', '{{"traceparent": {wrong}}}')"#)).unwrap_err();
        assert_eq!(error.lines().next(), Some(&*format!("ERROR:  `traceparent` is a text like `{span}`")), "{wrong}");
    }
}
