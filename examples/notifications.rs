//! On a schedule, a task goes through the employees in a CSV file; its handler logs each notification, where a real one would
//! send it. Here it runs every two seconds, and the program ends after two ticks. Any number of such programs on one store
//! enqueue one job a tick.
//!
//! ```sh
//! cargo run --example notifications
//! ```

use std::{
    io::{IsTerminal, stdout},
    time::Duration,
};

use qtasks::{JobId, jiff::Timestamp, prelude::*};
use qtasks_examples::store_url;
use serde::Deserialize;
use tokio::time::sleep;

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

// A `Result` lets the body use `?`; the result of a job is the list. A company says
// `schedule = "0 9 * * MON-FRI", timezone = "Europe/Moscow"`.
#[qtask(generate_handler = log_notification, schedule = "every 2s")]
fn send_notifications() -> csv::Result<Vec<String>> {
    for employee in get_employees()? {
        yield_!(format!("Отправлено уведомление: {}", employee?.email));
    }
    Ok(())
}

/// The first tick after a time, and its job, once it has fired.
async fn fired_after(app: &QueueTasks, time: Timestamp) -> qtasks::Result<(Timestamp, JobId)> {
    loop {
        let schedule = app.find_schedule("send_notifications").await?;
        match schedule.and_then(|schedule| schedule.last()) {
            Some((tick, job)) if tick > time => return Ok((tick, job)),
            _ => sleep(Duration::from_millis(100)).await,
        }
    }
}

#[tokio::main]
async fn main() -> qtasks::Result<()> {
    tracing_subscriber::fmt().with_ansi(stdout().is_terminal()).init();
    let app = QueueTasks::open(&store_url("memory:")).await?;
    let worker = app.worker().start().await?;

    let mut time = Timestamp::now();
    for _ in 0..2 {
        let (tick, job) = fired_after(&app, time).await?;
        let sent = app.job::<send_notifications>(job).await?.result().await?;
        println!("{sent:#?}");
        time = tick;
    }

    worker.shutdown().await
}
