//! Kills the workers of a SQLite file again and again, and finds out whether anything was lost or done twice.
//!
//! ```sh
//! cargo run --release -p qtasks-tests --bin kills -- --kills 1000 --values 1000000 --seconds 400
//! ```
//!
//! The last line says what came of it. The program fails when a job or a value was lost, a handler was called for a step
//! that was recorded, a result differs from that of a run without kills, or a subscriber missed or repeated a value.

mod check;
mod ledger;
mod storm;
mod tasks;
mod watch;
mod worker;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Context as _;
use check::{Findings, check};
use clap::Parser;
use fastrand::Rng;
use qtasks::prelude::*;
use storm::{Kills, Storm};
use tasks::{Kind, plain};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};
use watch::{Trouble, await_plain, follow};

/// So long may the jobs go on when the last worker was killed, before they count as lost.
const PATIENCE: Duration = Duration::from_secs(180);

/// Kills workers, and finds out whether anything was lost or done twice.
#[derive(Parser)]
struct Args {
    /// How many signals to send: SIGKILL mostly, SIGSTOP and SIGTERM now and then.
    #[arg(long, default_value_t = 25)]
    kills: usize,
    /// How many values to handle at least.
    #[arg(long, default_value_t = 10_000)]
    values: u64,
    /// The time over which the kills are spread.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How many worker processes there are at a time.
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// How many jobs each of them runs at a time.
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
    /// What chance begins with.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Be one of the workers, on this store.
    #[arg(long, hide = true, requires = "ledger")]
    work_on: Option<String>,
    #[arg(long, hide = true)]
    ledger: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    match (&args.work_on, &args.ledger) {
        (Some(url), Some(ledger)) => worker::work(url, ledger, args.concurrency).await.map(|()| ExitCode::SUCCESS),
        _ => run(args).await,
    }
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let folder = tempfile::tempdir()?;
    let url = format!("sqlite:{}", folder.path().join("jobs.db").display());
    let mut rng = Rng::with_seed(args.seed);
    let app = QueueTasks::open(&url).await?;
    let mut storm = Storm::begin(folder.path(), &url, args.workers, args.concurrency, rng.fork())?;

    let (trouble, over) = (Arc::<Trouble>::default(), Arc::<AtomicBool>::default());
    let work =
        Work { app, trouble: trouble.clone(), over: over.clone(), rng, at_once: args.workers * args.concurrency / 2 };
    let mut work = tokio::spawn(work.run(args.values));
    storm.rage(args.kills, Duration::from_secs_f64(args.seconds / args.kills.max(1) as f64)).await?;
    over.store(true, Relaxed);
    let jobs = timeout(PATIENCE, &mut work).await.context("some jobs never end")???;
    let kills = std::mem::take(&mut storm.kills);
    let processes = storm.end().await?;

    let findings = check(&jobs, &processes);
    println!("{}", report(&kills, &jobs, &findings, &trouble));
    let good = trouble.is_none()
        && findings.again_after_record.is_empty()
        && findings.unhandled.is_empty()
        && findings.misplaced.is_empty();
    if !good {
        eprintln!("{trouble:?}\n{:?}\n{:?}", findings.again_after_record, findings.unhandled);
        eprintln!("{:?}\nthe files are in {}", findings.misplaced, folder.keep().display());
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Enqueues jobs and follows them, never more than so many at once.
struct Work {
    app: QueueTasks,
    trouble: Arc<Trouble>,
    /// The kills are over, and no more jobs are needed for them.
    over: Arc<AtomicBool>,
    rng: Rng,
    at_once: usize,
}

impl Work {
    /// Goes on until there were that many values and the kills are over; gives all jobs.
    async fn run(mut self, values: u64) -> anyhow::Result<Vec<check::Job>> {
        let largest = (values / 50).clamp(2, 1_500);
        let (slots, mut following, mut enqueued) = (Arc::new(Semaphore::new(self.at_once)), JoinSet::new(), 0);
        while enqueued < values || !self.over.load(Relaxed) {
            let slot = slots.clone().acquire_owned().await?;
            let (first, trouble) = (enqueued, self.trouble.clone());
            if self.rng.u8(..8) == 0 {
                let job = self.app.enqueue(plain(first)).await?;
                enqueued += 1;
                following.spawn(async move {
                    let _slot = slot;
                    await_plain(job, first, &trouble).await
                });
            } else {
                let (kind, count) = (Kind::ALL[self.rng.usize(..4)], self.rng.u64(1..=largest));
                let job = kind.enqueue(&self.app, first, count).await?;
                enqueued += count;
                following.spawn(async move {
                    let _slot = slot;
                    follow(job, first, count, &trouble).await
                });
            }
        }
        Ok(following.join_all().await)
    }
}

fn report(kills: &Kills, jobs: &[check::Job], findings: &Findings, trouble: &Trouble) -> String {
    let Kills { killed, frozen, stopped } = kills;
    let values: usize = jobs.iter().map(|job| job.seen.len()).sum();
    format!(
        "{} kills (SIGKILL {killed}, SIGSTOP {frozen}, SIGTERM {stopped}): {} jobs, {values} values, {} lost, {} handled \
         again after the record (and {} begun before a freeze), {} handled again while in flight, {} recorded but not \
         handled, {} streams and {} results wrong; from SIGKILL to the next start {}; while another worker was frozen {}",
        kills.total(),
        jobs.len(),
        trouble.lost.load(Relaxed),
        findings.again_after_record.len(),
        findings.begun_before_freeze,
        findings.again_in_flight,
        findings.unhandled.len(),
        trouble.streams.load(Relaxed),
        trouble.results.load(Relaxed),
        percentiles(&findings.resumed),
        percentiles(&findings.resumed_in_freeze),
    )
}

fn percentiles(sorted: &[u64]) -> String {
    let at = |part: f64| match sorted.len() {
        0 => "-".to_owned(),
        count => format!("{} ms", sorted[(count as f64 * part) as usize] / 1_000_000),
    };
    format!("p50 {}, p99 {} of {}", at(0.5), at(0.99), sorted.len())
}
