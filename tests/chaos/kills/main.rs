//! Kills the workers of a store again and again, and finds out whether anything was lost or done twice.
//!
//! ```sh
//! cargo run --release -p qtasks-tests --bin kills -- --kills 1000 --values 1000000 --seconds 400
//! ```
//!
//! The last line says what came of it. The program fails when a job or a value was lost, a handler was called for a step
//! that was recorded, a result differs from that of a run without kills, or a subscriber missed or repeated a value.
//! With `--store redis` the jobs are kept on a Redis server that it starts, with `--store postgres` on one of Postgres, and
//! with `--store` and a URL there: in a store that nobody else uses meanwhile.

// What only the workers use.
#![allow(dead_code)]

mod kinds;
mod place;
mod saves_on_postgres;
mod saves_on_sqlite;
mod storm;
mod tasks;
mod ticks;
mod watch;

use std::{
    fmt,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use fastrand::Rng;
use jiff::SignedDuration;
use kinds::Kind;
use place::Place;
use qtasks::prelude::*;
use qtasks_tests::{
    clock::Clock,
    kills::check::{self, Findings, check},
};
use storm::{Kills, Program, Storm};
use tasks::plain;
use ticks::Ticks;
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};
use watch::{Watch, await_plain, follow};

/// When no value has come for so long, and no worker was killed, the rest of them is lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kills workers, and finds out whether anything was lost or done twice.
#[derive(Parser)]
struct Args {
    /// How many signals to send: SIGKILL mostly, SIGSTOP and SIGTERM now and then.
    #[arg(long, default_value_t = 25)]
    kills: usize,
    /// How many values to handle at least.
    #[arg(long, default_value_t = 10_000)]
    values: u64,
    /// How many values a job has at most; a fiftieth of all when it is not given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    longest: Option<u64>,
    /// The time over which the kills are spread.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How many worker processes there are at a time.
    #[arg(long, default_value_t = 4)]
    workers: usize,
    /// How many jobs there are at a time. Each worker can run all of them, so that none waits behind others.
    #[arg(long, default_value_t = 32)]
    jobs: usize,
    /// Have handlers insert rows in the transactions of their steps, and count the rows in the end.
    #[arg(long)]
    transactional: bool,
    /// Where the jobs are kept: `sqlite`, a file; `redis` or `postgres`, a server of its own that syncs every write; or a
    /// URL.
    #[arg(long, default_value = "sqlite")]
    store: String,
    /// Fail when a job of a killed worker goes on later than after so many seconds, or no killed worker had one.
    #[arg(long)]
    within: Option<u64>,
    /// Have the clocks of workers be by so many seconds behind, right and by so many ahead, one after the other. On Linux.
    #[arg(long, default_value_t = 0)]
    skew: i32,
    /// Have the workers fire a schedule each second, and look for ticks that were lost.
    #[arg(long)]
    fires: bool,
    /// What chance begins with.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// How the program ends when all is well but for the time.
const TOO_LATE: u8 = 3;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let folder = tempfile::tempdir()?;
    let place = Place::find(&args.store, folder.path());
    let (mut rng, begun) = (Rng::with_seed(args.seed), Instant::now());
    let app = QueueTasks::open(&place.url).await?;
    let (program, kinds) = place.cast(args.transactional)?;
    let program = Program { name: program, clocks: clocks(args.skew), fires: args.fires };
    let mut storm = Storm::begin(folder.path(), &place.url, program, args.workers, args.jobs, rng.fork())?;

    let (watch, over) = (Arc::<Watch>::default(), Arc::<AtomicBool>::default());
    let longest = args.longest.unwrap_or((args.values / 50).clamp(2, 1_500));
    let work =
        Work { app: app.clone(), kinds, watch: watch.clone(), over: over.clone(), rng, at_once: args.jobs, longest };
    let mut work = tokio::spawn(work.run(args.values));
    storm.rage(args.kills, Duration::from_secs_f64(args.seconds / args.kills.max(1) as f64)).await?;
    over.store(true, Relaxed);
    let jobs = loop {
        let before = watch.seen.load(Relaxed);
        match timeout(PATIENCE, &mut work).await {
            Ok(jobs) => break jobs??,
            Err(_) => anyhow::ensure!(before < watch.seen.load(Relaxed), "{before} values came, and then none"),
        }
    };
    let kills = std::mem::take(&mut storm.kills);
    let processes = storm.end().await?;

    let findings = check(&jobs, &processes);
    let rows = if args.transactional { Some(Rows::of(&place, &jobs)?) } else { None };
    let line = report(&kills, &jobs, &findings, &watch);
    let ticks = if args.fires { Some(Ticks::of(&app).await?) } else { None };
    let more = [rows.as_ref().map(Rows::to_string), ticks.as_ref().map(Ticks::to_string)];
    let more: String = more.into_iter().flatten().collect();
    println!("{line}{more} in {:.0} s", begun.elapsed().as_secs_f64());
    let good = watch.is_good()
        && watch.troubles.load(Relaxed) == 0
        && rows.is_none_or(|rows| rows.are_exact())
        && ticks.is_none_or(|ticks| ticks.are_all_there())
        && findings.again_after_record.is_empty()
        && findings.robbed.is_empty()
        && findings.unhandled.is_empty()
        && findings.misplaced.is_empty();
    let in_time = args.are_in_time(&findings.resumed);
    if !good || !in_time {
        eprintln!("{watch:?}\n{:?}\n{:?}", findings.again_after_record, findings.unhandled);
        eprintln!("{:?}\n{:?}", findings.robbed, findings.misplaced);
        eprintln!("the files are in {}", folder.keep().display());
    }
    Ok(match (good, in_time) {
        (true, true) => ExitCode::SUCCESS,
        (true, false) => ExitCode::from(TOO_LATE),
        (false, _) => ExitCode::FAILURE,
    })
}

impl Args {
    /// Whether jobs of killed workers went on in time, after so many nanoseconds each.
    fn are_in_time(&self, resumed: &[u64]) -> bool {
        let Some(within) = self.within else { return true };
        let within = u64::try_from(Duration::from_secs(within).as_nanos()).unwrap_or(u64::MAX);
        !resumed.is_empty() && resumed.iter().all(|wait| *wait < within)
    }
}

/// The clocks that workers go by in turn; none where all go by the machine's.
fn clocks(skew: i32) -> Vec<Clock> {
    if skew == 0 {
        return Vec::new();
    }
    [-1, 0, 1].map(|sign| Clock::ahead(SignedDuration::from_secs(i64::from(sign * skew)))).into()
}

/// What transactional handlers left in their table, beside the values that they handled.
struct Rows {
    rows: u64,
    distinct: u64,
    values: u64,
}

impl Rows {
    fn of(place: &Place, jobs: &[check::Job]) -> anyhow::Result<Self> {
        let (rows, distinct) = place.rows()?;
        Ok(Self { rows, distinct, values: jobs.iter().map(|job| job.seen.len() as u64).sum() })
    }

    fn are_exact(&self) -> bool {
        self.rows == self.values && self.distinct == self.rows
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "; {} rows for {} values, {} of them twice", self.rows, self.values, self.rows - self.distinct)
    }
}

/// Enqueues jobs and follows them, never more than so many at once.
struct Work {
    app: QueueTasks,
    kinds: &'static [Kind],
    watch: Arc<Watch>,
    /// The kills are over, and no more jobs are needed for them.
    over: Arc<AtomicBool>,
    rng: Rng,
    at_once: usize,
    /// How many values a job has at most.
    longest: u64,
}

impl Work {
    /// Goes on until there were that many values and the kills are over; gives all jobs.
    async fn run(mut self, values: u64) -> anyhow::Result<Vec<check::Job>> {
        let (slots, mut following, mut enqueued) = (Arc::new(Semaphore::new(self.at_once)), JoinSet::new(), 0);
        while enqueued < values || !self.over.load(Relaxed) {
            let slot = slots.clone().acquire_owned().await?;
            let (first, watch) = (enqueued, self.watch.clone());
            if self.rng.u8(..8) == 0 && self.kinds.len() > 1 {
                let job = self.app.enqueue(plain(first)).await?;
                enqueued += 1;
                following.spawn(async move {
                    let _slot = slot;
                    await_plain(job, first, &watch).await
                });
            } else {
                let (kind, count) = (self.kinds[self.rng.usize(..self.kinds.len())], self.rng.u64(1..=self.longest));
                let job = kind.enqueue(&self.app, first, count).await?;
                enqueued += count;
                following.spawn(async move {
                    let _slot = slot;
                    follow(job, first, count, &watch).await
                });
            }
        }
        Ok(following.join_all().await)
    }
}

fn report(kills: &Kills, jobs: &[check::Job], findings: &Findings, watch: &Watch) -> String {
    let Kills { killed, frozen, stopped } = kills;
    let values: usize = jobs.iter().map(|job| job.seen.len()).sum();
    format!(
        "{} kills (SIGKILL {killed}, SIGSTOP {frozen}, SIGTERM {stopped}): {} jobs, {values} values, {} lost, {} handled \
         again after the record (and {} begun before a freeze), {} handled again while in flight, {} recorded but not \
         handled, {} taken from workers that lived, {} streams and {} results wrong; from SIGKILL to the next start {}; \
         while another worker was frozen {}",
        kills.total(),
        jobs.len(),
        watch.lost.load(Relaxed),
        findings.again_after_record.len(),
        findings.begun_before_freeze,
        findings.again_in_flight,
        findings.unhandled.len(),
        findings.robbed.len(),
        watch.streams.load(Relaxed),
        watch.results.load(Relaxed),
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
