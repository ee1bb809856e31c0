//! A process to be killed: enqueues jobs without end and prints the id of each, or works without end. Or one that must
//! end by itself, although a body of it never does.

#[path = "tasks.rs"]
mod tasks;

use std::io::Write as _;

use qtasks::prelude::*;

#[tokio::main]
async fn main() -> qtasks::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, url, ledger] = &args[..] else { panic!("usage: victim enqueue|work|stuck URL LEDGER") };
    let app = QueueTasks::builder().store(url).state(tasks::Ledger(ledger.into())).build().await?;
    match what.as_str() {
        "enqueue" => loop {
            let job = app.enqueue(tasks::doubles(1)).await?;
            let mut out = std::io::stdout().lock();
            writeln!(out, "{}", job.id()).and_then(|()| out.flush()).expect("somebody reads the ids");
        },
        "work" => app.worker().start().await?.until_signal().await,
        "stuck" => {
            let worker = app.worker().start().await?;
            let job = app.enqueue(tasks::never_returns()).await?;
            println!("{}", job.result().await.expect_err("it passes its max_time"));
            worker.shutdown().await
        }
        other => panic!("cannot {other}"),
    }
}
