//! Runs in which the calls of the store come to grief in every way there is, and what comes of it.
//!
//! A seed decides all of a run. `QTASKS_SEED=memory/17` runs one again, `QTASKS_SEEDS=100000` so many of them.

mod member;
mod scene;
mod tasks;

use std::{
    collections::HashMap,
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use qtasks::{
    job::JobId,
    store::{self, Memory, Store},
};
use qtasks_tests::{
    length::by_length,
    promises::{Event, Verdict},
    servers,
};
use tempfile::TempDir;

use crate::scene::Run;

/// How long a run may take by the wall clock; most take some milliseconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the jobs of runs are kept.
enum Place {
    /// Each run in a memory of its own.
    Memory,
    /// One after the other in one store, with something to keep until that is dropped.
    Lasting { store: Arc<dyn Store>, last: Option<JobId>, _folder: Option<TempDir> },
}

impl Place {
    fn named(name: &str) -> Self {
        let (url, folder) = match name {
            "memory" => return Self::Memory,
            "sqlite" => {
                let folder = TempDir::new().unwrap();
                (format!("sqlite:{}?synchronous=off", folder.path().join("jobs.db").display()), Some(folder))
            }
            "redis" => (servers::redis::url(), None),
            "postgres" => (servers::postgres::url(), None),
            _ => panic!("there are memory, sqlite, redis and postgres"),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = runtime.block_on(store::open(&url)).unwrap();
        Self::Lasting { store, last: None, _folder: folder }
    }

    fn run(&mut self, seed: u64) -> Run {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        match self {
            Self::Memory => runtime.block_on(scene::run(seed, Arc::new(Memory::new()), false, None)),
            Self::Lasting { store, last, .. } => {
                let run = runtime.block_on(scene::run(seed, store.clone(), true, *last));
                *last = run.last.or(*last);
                run
            }
        }
    }
}

enum News {
    Begun(u64),
    Ended(u64, Result<(Verdict, usize), String>),
}

/// Runs so many seeds on two threads, and fails with the first that does.
fn run_all(place: &'static str, seeds: u64) {
    let (tell, news) = mpsc::channel();
    let next = Arc::new(AtomicU64::new(0));
    for _ in 0..2 {
        let (tell, next) = (tell.clone(), next.clone());
        thread::spawn(move || {
            let mut kept_at = Place::named(place);
            loop {
                let seed = next.fetch_add(1, SeqCst);
                if seed >= seeds || tell.send(News::Begun(seed)).is_err() {
                    return;
                }
                let run = catch_unwind(AssertUnwindSafe(|| kept_at.run(seed)));
                let came_to = match run {
                    Ok(run) if run.verdict.violations.is_empty() => Ok((run.verdict, run.faults)),
                    Ok(run) => Err(run.verdict.to_string()),
                    Err(panic) => {
                        Err(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "it panicked".to_owned()))
                    }
                };
                if tell.send(News::Ended(seed, came_to)).is_err() {
                    return;
                }
            }
        });
    }
    drop(tell);
    let (mut under_way, mut runs, mut faults, mut all) = (HashMap::new(), 0, 0, Verdict::default());
    loop {
        match news.recv_timeout(PATIENCE) {
            Ok(News::Begun(seed)) => _ = under_way.insert(seed, ()),
            Ok(News::Ended(seed, Ok((verdict, more)))) => {
                under_way.remove(&seed);
                runs += 1;
                faults += more;
                all.add(verdict);
            }
            Ok(News::Ended(seed, Err(said))) => panic!("{said}\n{}", again(place, seed)),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let stuck: Vec<_> = under_way.keys().map(|seed| again(place, *seed)).collect();
                panic!("no run has ended for {PATIENCE:?}\n{}", stuck.join("\n"));
            }
        }
    }
    println!("{place}: {runs} runs with {faults} faults; {all}");
    assert_eq!(runs, seeds);
    assert!(faults as u64 >= seeds * 5 && all.jobs as u64 >= seeds, "hardly anything was tried");
}

fn again(place: &str, seed: u64) -> String {
    format!(
        "run it again: QTASKS_SEED='{place}/{seed}' cargo test -p qtasks-tests --test faults one_seed -- --nocapture"
    )
}

/// How many seeds to run: the `short` or the `long` form, or as many as are asked for; none when a single one is.
fn seeds(short: u64, long: u64) -> u64 {
    if env::var_os("QTASKS_SEED").is_some() {
        return 0;
    }
    env::var("QTASKS_SEEDS").map_or_else(|_| by_length(short, long), |seeds| seeds.parse().expect("a number of seeds"))
}

#[test]
fn promises_hold_whatever_goes_wrong_in_memory() {
    run_all("memory", seeds(300, 2_000));
}

#[test]
fn promises_hold_whatever_goes_wrong_on_a_file() {
    run_all("sqlite", seeds(30, 100).div_ceil(10));
}

#[test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
fn promises_hold_whatever_goes_wrong_on_a_server() {
    run_all("redis", seeds(30, 100).div_ceil(10));
}

#[test]
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
fn promises_hold_whatever_goes_wrong_on_postgres() {
    run_all("postgres", seeds(30, 100).div_ceil(10));
}

/// Jobs and workers by the order in which they appear, in place of ids that are new in each run.
fn without_ids(events: &[Event]) -> String {
    let text = serde_json::to_string(events).unwrap();
    let mut known = HashMap::new();
    let parts = text.split('"').map(|part| match part.len() == 36 && part.matches('-').count() == 4 {
        true => {
            let place = known.len();
            format!("id {}", known.entry(part).or_insert(place))
        }
        false => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("\"")
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in 0..by_length(10, 30) {
        let [one, other] = [(); 2].map(|()| without_ids(&Place::Memory.run(seed).events));
        assert!(one == other, "seed {seed}");
    }
}

#[test]
fn one_seed_as_asked_for() {
    let Ok(asked) = env::var("QTASKS_SEED") else { return };
    let (place, seed) = asked.split_once('/').expect("QTASKS_SEED is memory/17, sqlite/17, redis/17 or postgres/17");
    let Run { verdict, events, faults, .. } = Place::named(place).run(seed.parse().expect("a number"));
    for event in &events {
        println!("{}", serde_json::to_string(event).unwrap());
    }
    println!("{faults} faults; {verdict}");
    assert!(verdict.violations.is_empty());
}
