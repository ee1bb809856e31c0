//! Jobs that come into a store by connections of the application's own: in its transactions, and by SQL.

mod on_postgres;
mod on_sqlite;
mod other_places;
mod statements;

use qtasks::prelude::*;

#[qtask(name = "doors.welcome", queue = "mail", priority = 3)]
async fn welcome(user: String) -> String {
    format!("welcome, {user}")
}

/// Options that mean nothing, and what both doors say of each.
fn wrong_options() -> Vec<(&'static str, &'static str)> {
    let (priority, queue) = ("`priority` is a whole number from -32768 to 32767", "`queue` is a text");
    let (delay, max_time) =
        ("`delay` is a number of seconds, from 0 on", "`max_time` is a number of seconds, from 0 on");
    let expires = "`expires` is a number of seconds, from 0 on";
    let (at, id) = ("`at` is a time like `2030-01-31T12:00:00Z`", "`id` is a UUID, as a text");
    vec![
        ("[]", "the options are an object by name"),
        (r#""queue""#, "the options are an object by name"),
        (r#"{"queue": 5}"#, queue),
        (r#"{"queue": ["mail"]}"#, queue),
        (r#"{"priority": "high"}"#, priority),
        (r#"{"priority": "7"}"#, priority),
        (r#"{"priority": 1.5}"#, priority),
        (r#"{"priority": 32768}"#, priority),
        (r#"{"priority": -32769}"#, priority),
        (r#"{"priority": 1e300}"#, priority),
        (r#"{"priority": true}"#, priority),
        (r#"{"delay": "60"}"#, delay),
        (r#"{"delay": -1}"#, delay),
        (r#"{"max_time": "1h"}"#, max_time),
        (r#"{"max_time": -0.5}"#, max_time),
        (r#"{"expires": "10m"}"#, expires),
        (r#"{"expires": -0.5}"#, expires),
        (r#"{"at": 1750000000}"#, at),
        (r#"{"at": "tomorrow"}"#, at),
        (r#"{"at": "2030-13-01T00:00:00Z"}"#, at),
        (r#"{"at": "2030-01-01 at noon"}"#, at),
        (r#"{"at": "2030-01-01", "delay": 1}"#, "`at` and `delay` both say when the job is due; leave one of them out"),
        (r#"{"id": 5}"#, id),
        (r#"{"id": "first"}"#, id),
        (r#"{"id": ""}"#, id),
    ]
}
