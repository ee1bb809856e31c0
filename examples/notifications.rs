//! A task goes through the employees in a CSV file; its handler logs each notification, where a real one would send it.
//!
//! ```sh
//! cargo run --example notifications
//! ```

use std::io::{IsTerminal, stdout};

use qtasks::prelude::*;
use qtasks_examples::store_url;
use serde::Deserialize;

#[derive(Deserialize)]
struct Employee {
    email: String,
}

fn get_employees() -> csv::Result<impl Iterator<Item = csv::Result<Employee>>> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/employees.csv");
    Ok(csv::Reader::from_path(file)?.into_deserialize())
}

async fn log_notification(msg: String) -> String {
    tracing::info!("Отправлено: {msg}");
    msg
}

// A `Result` lets the body use `?`; the result of the job is the list.
#[qtask(generate_handler = log_notification)]
fn send_notifications() -> csv::Result<Vec<String>> {
    for employee in get_employees()? {
        yield_!(format!("Отправлено уведомление: {}", employee?.email));
    }
    Ok(())
}

#[tokio::main]
async fn main() -> qtasks::Result<()> {
    tracing_subscriber::fmt().with_ansi(stdout().is_terminal()).init();
    let app = QueueTasks::open(&store_url("memory:")).await?;
    let worker = app.worker().start().await?;

    let job = app.enqueue(send_notifications()).await?;
    println!("{:#?}", job.result().await?);

    worker.shutdown().await
}
