//! The examples of qtasks: one file each, run with `cargo run --example NAME`.
//!
//! | example | what it shows |
//! | --- | --- |
//! | `yield_task` | an async task that yields, and an async handler |
//! | `sync_generator` | the same without async: a `fn` task and a `fn` handler |
//! | `save_ids` | a handler that writes to a database, which it takes as `State` |
//! | `save_ids_once` | the same in the transaction that records the value: exactly once |
//! | `save_ids_on_postgres` | the same on Postgres |
//! | `notifications` | a task that reads a file, may fail, and logs what it handles |
//! | `stream` | one process works, another watches the values as they come |
//! | `index_files` | a whole program: hashes every file of a folder, and goes on after a crash |
