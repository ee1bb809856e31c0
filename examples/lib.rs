//! The examples of qtasks: one file or folder each, run with `cargo run --example NAME`.
//!
//! Each opens a store of its own. `QTASKS_URL` names another one for `yield_task`, `sync_generator`, `save_ids`,
//! `notifications`, `stream` and `server_sent_events`; the others need the store that they name.
//!
//! | example | what it shows |
//! | --- | --- |
//! | `yield_task` | an async task that yields, and an async handler |
//! | `sync_generator` | the same without async: a `fn` task and a `fn` handler |
//! | `save_ids` | a handler that writes to a database, which it takes as `State` |
//! | `save_ids_once` | the same in the transaction that records the value: exactly once |
//! | `save_ids_on_postgres` | the same on Postgres |
//! | `notifications` | fires on its schedule, every two seconds: a task that reads a file, may fail, and logs what it handles |
//! | `stream` | one process works, another watches the values as they come |
//! | `server_sent_events` | a web service with axum, whose pages see the values as they come, across lost connections |
//! | `index_files` | a whole program: hashes every file of a folder, and goes on after a crash |
//! | `log_store` | a store of your own, in a log file, held to the rules of every store |

use std::env;

/// The URL of the store that `QTASKS_URL` names; `usual` where it is not set.
pub fn store_url(usual: &str) -> String {
    env::var("QTASKS_URL").unwrap_or_else(|_| usual.to_owned())
}
