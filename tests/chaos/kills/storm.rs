//! Worker processes, and the signals that befall them.

use std::{
    io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use fastrand::Rng;
use qtasks_tests::{
    clock::Clock,
    kills::{check, ledger::now, process::Worker},
};
use rustix::process::Signal;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// A worker stands still for so many milliseconds: longer than the 3 s of a lease.
const FREEZE: std::ops::Range<u64> = 3_200..4_500;
/// A worker that is told to stop has ended after this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The workers of one store.
pub(crate) struct Storm {
    folder: PathBuf,
    url: String,
    program: Program,
    concurrency: usize,
    rng: Rng,
    working: Vec<Worker>,
    frozen: Vec<(Instant, Worker)>,
    /// Told to stop, and not seen to have ended.
    leaving: Vec<Worker>,
    gone: Vec<Worker>,
    started: usize,
    pub(crate) kills: Kills,
}

/// What the workers are.
pub(crate) struct Program {
    pub(crate) name: &'static str,
    /// The clocks that they go by in turn; the machine's, where there are none.
    pub(crate) clocks: Vec<Clock>,
    /// Whether they have a schedule of each second in their code.
    pub(crate) fires: bool,
}

/// How often each signal was sent.
#[derive(Debug, Default)]
pub(crate) struct Kills {
    pub(crate) killed: usize,
    pub(crate) frozen: usize,
    pub(crate) stopped: usize,
}

impl Kills {
    pub(crate) fn total(&self) -> usize {
        self.killed + self.frozen + self.stopped
    }
}

impl Storm {
    /// Starts `workers` of them, each a process of `program`, whose files stand in `folder`.
    pub(crate) fn begin(
        folder: &Path,
        url: &str,
        program: Program,
        workers: usize,
        concurrency: usize,
        rng: Rng,
    ) -> anyhow::Result<Self> {
        let mut storm = Self {
            folder: folder.to_owned(),
            url: url.to_owned(),
            program,
            concurrency,
            rng,
            working: Vec::new(),
            frozen: Vec::new(),
            leaving: Vec::new(),
            gone: Vec::new(),
            started: 0,
            kills: Kills::default(),
        };
        for _ in 0..workers {
            storm.start()?;
        }
        Ok(storm)
    }

    /// Sends `kills` signals, one in every `pause` or so.
    pub(crate) async fn rage(&mut self, kills: usize, pause: Duration) -> anyhow::Result<()> {
        let mut next = Instant::now();
        while self.kills.total() < kills {
            next += pause.mul_f64(self.rng.f64() * 2.0);
            self.thaw_until(next).await?;
            // Somebody is left to work.
            if self.working.len() > 1 {
                self.strike()?;
            }
        }
        let last = self.frozen.iter().map(|(until, _)| *until).max();
        self.thaw_until(last.unwrap_or(next)).await
    }

    /// Stops all workers gracefully, and gives what each of those that ever worked has done.
    pub(crate) async fn end(mut self) -> anyhow::Result<Vec<check::Process>> {
        for mut worker in std::mem::take(&mut self.working) {
            worker.stop()?;
            self.leaving.push(worker);
        }
        timeout(PATIENCE, async {
            while !self.leaving.is_empty() {
                self.see_off()?;
                sleep(Duration::from_millis(10)).await;
            }
            anyhow::Ok(())
        })
        .await
        .context("a worker that was told to stop goes on")??;
        self.gone.iter().map(|worker| Ok(worker.process()?)).collect()
    }

    fn strike(&mut self) -> anyhow::Result<()> {
        let target = self.target()?;
        let mut worker = self.working.swap_remove(target);
        match self.kills.total() % 24 {
            6 => {
                worker.send(Signal::STOP)?;
                worker.freezes.push((now(), u64::MAX));
                self.kills.frozen += 1;
                let until = Instant::now() + Duration::from_millis(self.rng.u64(FREEZE));
                self.frozen.push((until, worker));
                return Ok(());
            }
            10 | 22 => {
                worker.stop()?;
                self.kills.stopped += 1;
                self.leaving.push(worker);
            }
            _ => {
                worker.kill()?;
                self.kills.killed += 1;
                self.gone.push(worker);
            }
        }
        self.start()
    }

    /// Anybody who works; with jobs for some of them only, whoever worked last.
    fn target(&mut self) -> anyhow::Result<usize> {
        if self.concurrency >= self.working.len() {
            return Ok(self.rng.usize(..self.working.len()));
        }
        let wrote = self.working.iter().map(Worker::wrote).collect::<io::Result<Vec<_>>>()?;
        Ok((0..wrote.len()).max_by_key(|index| wrote[*index]).expect("somebody works"))
    }

    /// Waits until `end`, and meanwhile lets those go on that have stood still for long enough.
    async fn thaw_until(&mut self, end: Instant) -> anyhow::Result<()> {
        loop {
            self.see_off()?;
            let next = self.frozen.iter().map(|(until, _)| *until).min().unwrap_or(end).min(end);
            sleep_until(next).await;
            for (_, mut worker) in self.frozen.extract_if(.., |(until, _)| *until <= next) {
                let last = worker.freezes.last_mut().expect("it was frozen");
                last.1 = now();
                worker.send(Signal::CONT)?;
                self.working.push(worker);
            }
            if next == end {
                return Ok(());
            }
        }
    }

    /// Looks after those that were told to stop, and says which one did not end well.
    fn see_off(&mut self) -> anyhow::Result<()> {
        for mut worker in std::mem::take(&mut self.leaving) {
            match worker.ended()? {
                Some(status) => {
                    // One that was just being started has not learned to listen.
                    let unheard = status.signal() == Some(Signal::TERM.as_raw()) && !worker.listens();
                    anyhow::ensure!(status.success() || unheard, "a worker that was told to stop ended with {status}");
                    self.gone.push(worker);
                }
                None => self.leaving.push(worker),
            }
        }
        Ok(())
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let ledger = self.folder.join(format!("ledger-{}", self.started));
        let Program { name, clocks, fires } = &self.program;
        let mut command = Command::new(std::env::current_exe()?.with_file_name(name));
        if !clocks.is_empty() {
            clocks[self.started % clocks.len()].give(&mut command);
        }
        command.args(fires.then_some("--fires"));
        self.working.push(Worker::start(command, &self.url, self.concurrency, ledger)?);
        self.started += 1;
        Ok(())
    }
}
