//! A process that works until it is killed, or until whoever started it is gone.

use std::{io, path::Path, process::exit, thread, time::Duration};

use qtasks::prelude::*;
use qtasks_tests::kills::ledger::Ledger;
use tokio::signal::unix::{SignalKind, signal};

use crate::tasks::Site;

/// Works on the store at `url` until SIGTERM says to stop. Its handlers take so long.
pub(crate) async fn work(url: &str, ledger: &Path, concurrency: usize, pause: Duration) -> anyhow::Result<()> {
    end_with_the_parent()?;
    // From the first moment on, so that it is never missed; before the ledger, which shows that it is heard.
    let mut told_to_stop = signal(SignalKind::terminate())?;
    let ledger = Ledger::create(ledger)?;
    let store = qtasks::store::open(url).await?;
    let site = Site { ledger, store: store.clone(), pause };
    let app = QueueTasks::builder().store_at(store).state(site).build().await?;
    let worker = app.worker().concurrency(concurrency).start().await?;
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
