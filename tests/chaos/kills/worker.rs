//! A process that works until it is killed, or until whoever started it is gone.

use std::{io, path::PathBuf, process::exit, thread, time::Duration};

use clap::Parser;
use qtasks::{Missed, ScheduleOptions, prelude::*};
use qtasks_tests::kills::ledger::Ledger;
use tokio::signal::unix::{SignalKind, signal};

use crate::tasks::{SECONDS, Site, each_second};

/// Works on a store until it is killed.
#[derive(Parser)]
struct Args {
    #[arg(long)]
    work_on: String,
    #[arg(long)]
    ledger: PathBuf,
    /// How many jobs it runs at a time.
    #[arg(long)]
    jobs: usize,
    /// How many milliseconds a handler takes.
    #[arg(long, default_value_t = 0)]
    pause: u64,
    /// Have a schedule of each second.
    #[arg(long)]
    fires: bool,
}

/// Works on the store that the command line names until SIGTERM says to stop.
pub(crate) async fn work_as_told() -> anyhow::Result<()> {
    let Args { work_on, ledger, jobs, pause, fires } = Args::parse();
    end_with_the_parent()?;
    // From the first moment on, so that it is never missed; before the ledger, which shows that it is heard.
    let mut told_to_stop = signal(SignalKind::terminate())?;
    let ledger = Ledger::create(&ledger)?;
    let store = qtasks::store::open(&work_on).await?;
    let site = Site { ledger, store: store.clone(), pause: Duration::from_millis(pause) };
    let mut builder = QueueTasks::builder().store_at(store).state(site);
    if fires {
        let options = ScheduleOptions::default().missed(Missed::All);
        builder = builder.schedule_with(SECONDS, each_second(), "* * * * * *", "UTC", options);
    }
    let app = builder.build().await?;
    let worker = app.worker().concurrency(jobs).start().await?;
    told_to_stop.recv().await;
    Ok(worker.shutdown().await?)
}

/// Ends this process when the parent has ended, however that came.
fn end_with_the_parent() -> io::Result<()> {
    // Also while this process stands still, and cannot look at anything.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    thread::Builder::new().name("parent".into()).spawn(|| {
        // Nothing is ever written here: the only news is the end.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        exit(1);
    })?;
    Ok(())
}
