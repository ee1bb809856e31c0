//! The handler writes each value to a table of the application's own, and the result is the list of what was written.
//!
//! ```sh
//! cargo run --example save_ids              # in a temporary file
//! cargo run --example save_ids -- users.db  # in a file of yours
//! ```

use std::sync::Mutex;

use qtasks::prelude::*;
use qtasks_examples::store_url;
use rusqlite::Connection;

/// The application's own connection; jobs and users may share one file.
struct Database(Mutex<Connection>);

impl Database {
    fn open(path: &str) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.execute_batch("CREATE TABLE IF NOT EXISTS users (value TEXT PRIMARY KEY)")?;
        Ok(Self(Mutex::new(connection)))
    }

    fn insert(&self, value: &str) -> rusqlite::Result<()> {
        let connection = self.0.lock().expect("no holder of the lock panics");
        // If the process dies between this insert and the record of the step, the value is handled once more.
        connection.execute("INSERT INTO users (value) VALUES (?1) ON CONFLICT DO NOTHING", [value])?;
        Ok(())
    }
}

async fn save_to_db(value: String, db: State<Database>) -> rusqlite::Result<String> {
    // This may block: the handler of a `fn` task runs on that task's thread, not on those of the async runtime.
    db.insert(&value)?;
    println!("saved: {value}");
    Ok(value)
}

#[qtask(generate_handler = save_to_db)]
fn ids() -> Vec<String> {
    for id in 0..5 {
        yield_!(format!("user_{id}"));
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let temporary = || folder.path().join("users.db").display().to_string();
    let path = std::env::args().nth(1).unwrap_or_else(temporary);

    let store = store_url(&format!("sqlite:{path}"));
    let app = QueueTasks::builder().store(store).state(Database::open(&path)?).build().await?;
    let worker = app.worker().start().await?;

    let job = app.enqueue(ids()).await?;
    println!("{:?}", job.result().await?);

    worker.shutdown().await?;
    Ok(())
}
