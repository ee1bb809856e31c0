//! A worker process.

use std::{
    io,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::SystemTime,
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use super::{
    check,
    ledger::{self, now},
};

/// A worker process, which is killed at the latest when this is dropped.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    ledger: PathBuf,
    /// From when until when it stood still.
    pub freezes: Vec<(u64, u64)>,
    killed: Option<u64>,
    /// When it was told to stop.
    stopped: Option<u64>,
}

impl Worker {
    /// Has `command` work on the store at `url`, run so many jobs at a time, and write its ledger there.
    ///
    /// # Errors
    ///
    /// When the program is not there.
    pub fn start(mut command: Command, url: &str, concurrency: usize, ledger: PathBuf) -> anyhow::Result<Self> {
        command.args(["--work-on", url, "--jobs", &concurrency.to_string(), "--ledger"]).arg(&ledger);
        // The pipe tells the child when we are gone.
        let child = command.stdin(Stdio::piped()).spawn().context("a worker is not there; build all with `--bins`")?;
        Ok(Self { child, ledger, freezes: Vec::new(), killed: None, stopped: None })
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn send(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Tells it to stop.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub fn stop(&mut self) -> io::Result<()> {
        self.stopped = Some(now());
        self.send(Signal::TERM)
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    ///
    /// When it had ended by itself.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.killed = Some(now());
        self.child.kill()?;
        let status = self.child.wait()?;
        anyhow::ensure!(status.signal().is_some(), "a worker ended by itself, with {status}");
        Ok(())
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    ///
    /// When the operating system does not know.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Whether it has come so far that it listens to signals.
    pub fn listens(&self) -> bool {
        self.ledger.exists()
    }

    /// When it wrote its ledger last, if it did.
    ///
    /// # Errors
    ///
    /// When the operating system does not know.
    pub fn wrote(&self) -> io::Result<Option<SystemTime>> {
        if self.listens() { self.ledger.metadata()?.modified().map(Some) } else { Ok(None) }
    }

    /// What it did.
    ///
    /// # Errors
    ///
    /// When its ledger cannot be read.
    pub fn process(&self) -> io::Result<check::Process> {
        let entries = ledger::read(&self.ledger)?;
        Ok(check::Process { entries, freezes: self.freezes.clone(), killed: self.killed, stopped: self.stopped })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
