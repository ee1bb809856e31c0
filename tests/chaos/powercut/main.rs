//! Power cuts. The calls of a program under load are recorded, a moment is chosen by chance, the files are rebuilt as
//! they may stand on the disk then, and a store opened on them must hold all that was acknowledged before.
//!
//! A copy of the files would prove nothing: it shows what was written, synced or not.

mod disk;
mod trace;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, ExitCode},
    sync::Arc,
    thread,
};

use fastrand::Rng;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use qtasks::{
    JobId,
    job::{Reply, State},
    sqlite::rusqlite::Connection,
    store::{self, Budget, Find, Store},
};
use qtasks_tests::length::by_length;
use trace::Trace;

fn main() -> ExitCode {
    let trials = vec![
        trial("all_that_was_acknowledged_survives_a_power_cut", || {
            let survey = survey("", by_length(60, 240));
            assert_eq!(survey.broken(), Vec::<String>::new());
            assert_eq!(survey.lost(), Vec::<String>::new());
        }),
        trial("fewer_syncs_lose_the_last_commits_and_nothing_else", || {
            let survey = survey("?synchronous=normal", by_length(30, 80));
            assert_eq!(survey.broken(), Vec::<String>::new());
        }),
        trial("without_syncs_a_power_cut_is_felt", || {
            let survey = survey("?synchronous=off", by_length(40, 80));
            assert!(!survey.lost().is_empty(), "a test that finds nothing here would find nothing anywhere");
            assert!(!survey.broken().is_empty(), "nor this one");
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A test that is ignored where programs cannot be traced, unless all tests are required.
fn trial(name: &str, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || match trace::possible() {
        Err(why) if std::env::var_os("QTASKS_REQUIRE_SERVERS").is_some_and(|set| set == "1") => Err(Failed::from(why)),
        Err(why) => Ok(Completion::ignored_with(why)),
        Ok(()) => {
            test();
            Ok(Completion::Completed)
        }
    })
}

/// What was found after each power cut.
struct Survey(Vec<Finding>);

/// What was found after one.
#[derive(Debug, Default)]
struct Finding {
    seed: u64,
    /// What was acknowledged and is not there.
    lost: Vec<String>,
    /// What cannot be, whatever is lost.
    broken: Vec<String>,
}

impl Survey {
    fn lost(&self) -> Vec<String> {
        self.0.iter().flat_map(|one| one.lost.iter().map(|what| format!("seed {}: {what}", one.seed))).collect()
    }

    fn broken(&self) -> Vec<String> {
        self.0.iter().flat_map(|one| one.broken.iter().map(|what| format!("seed {}: {what}", one.seed))).collect()
    }
}

/// Records one run, and cuts the power at so many moments of it.
fn survey(parameters: &str, cuts: u64) -> Survey {
    let folder = tempfile::tempdir().unwrap();
    let (database, lines) = (folder.path().join("jobs.db"), folder.path().join("acks"));
    let mut program = Command::new(env!("CARGO_BIN_EXE_loaded"));
    program.arg(&database).arg(parameters).arg(&lines);
    let trace = Arc::new(trace::record(&mut program, &database, &lines));
    let all = Acknowledged::until(&trace, trace.end);
    assert!(all.done.len() > 50, "the run came to its end");
    let threads = thread::available_parallelism().map_or(2, usize::from) as u64;
    let parts: Vec<_> = (0..threads)
        .map(|part| {
            let trace = trace.clone();
            thread::spawn(move || {
                (part..cuts).step_by(threads as usize).map(|seed| cut(&trace, seed)).collect::<Vec<_>>()
            })
        })
        .collect();
    let findings: Vec<_> = parts.into_iter().flat_map(|part| part.join().unwrap()).collect();
    let survey = Survey(findings);
    let count = |what: fn(&Finding) -> bool| survey.0.iter().filter(|one| what(one)).count();
    eprintln!(
        "{parameters:20} {cuts} power cuts in {} calls: {} lost something, {} broke something",
        trace.end,
        count(|one| !one.lost.is_empty()),
        count(|one| !one.broken.is_empty()),
    );
    survey
}

/// Cuts the power at a moment, opens what is left, and looks.
fn cut(trace: &Trace, seed: u64) -> Finding {
    let mut rng = Rng::with_seed(seed);
    let moment = rng.usize(..trace.end);
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("jobs.db");
    for (end, bytes) in trace.disk.after(moment, &mut rng) {
        fs::write(format!("{}{end}", database.display()), bytes).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut finding = Finding { seed, ..Finding::default() };
    let url = format!("sqlite:{}", database.display());
    match runtime.block_on(store::open(&url)) {
        Err(error) => finding.broken.push(format!("cannot be opened: {error}")),
        Ok(store) => {
            let looked = runtime.block_on(look(&*store, &Acknowledged::until(trace, moment), &mut finding));
            finding.broken.extend(looked.err().map(|error| format!("cannot be read: {error}")));
        }
    }
    let checked = check_integrity(&database).unwrap_or_else(|error| error.to_string());
    if checked != "ok" {
        finding.broken.push(checked);
    }
    if !finding.broken.is_empty() {
        finding.lost.push("the database is broken".to_owned());
    }
    finding
}

fn check_integrity(database: &Path) -> qtasks::sqlite::rusqlite::Result<String> {
    Connection::open(database)?.query_row("PRAGMA integrity_check", [], |row| row.get(0))
}

/// What the program was told before a moment.
#[derive(Default)]
struct Acknowledged {
    /// Jobs, one enqueued when the one before was acknowledged; those that came later at the end.
    enqueued: Vec<(JobId, bool)>,
    steps: BTreeMap<JobId, BTreeMap<u64, u64>>,
    done: Vec<JobId>,
}

impl Acknowledged {
    fn until(trace: &Trace, moment: disk::Moment) -> Self {
        let mut told = Self::default();
        for (written, line) in &trace.lines {
            let before = *written <= moment;
            let words: Vec<&str> = line.split(' ').collect();
            let [what, job, number, value] = words[..] else { panic!("{line}") };
            let job = job.parse().unwrap();
            match what {
                "enqueued" => told.enqueued.push((job, before)),
                "step" if before => {
                    told.steps.entry(job).or_default().insert(number.parse().unwrap(), value.parse().unwrap());
                }
                "done" if before => told.done.push(job),
                _ => {}
            }
        }
        told
    }
}

/// Compares the store with what the program was told.
async fn look(store: &dyn Store, told: &Acknowledged, finding: &mut Finding) -> qtasks::Result<()> {
    let mut missing = None;
    for (number, (id, acknowledged)) in told.enqueued.iter().enumerate() {
        let Some(job) = store.job(*id).await? else {
            missing.get_or_insert(number);
            if *acknowledged {
                finding.lost.push(format!("job {number} was acknowledged"));
            }
            continue;
        };
        if let Some(missing) = missing {
            finding.broken.push(format!("job {number} is there, and {missing}, enqueued before it, is not"));
        }
        let steps = store.steps(*id, 0, 1000).await?;
        if steps.len() as u64 != job.counts.steps {
            finding.broken.push(format!("job {number} has {} steps and says {}", steps.len(), job.counts.steps));
        }
        for (place, step) in (0..).zip(&steps) {
            let reply = Reply::Value(qtasks::json::Json::encode(&(number as u64 * 1000 + place)).unwrap());
            if (step.seq, &step.reply) != (place, &reply) {
                finding.broken.push(format!("step {place} of job {number} is {step:?}"));
            }
        }
        let seen = told.steps.get(id).and_then(|seen| seen.keys().next_back());
        if seen.is_some_and(|seen| *seen >= job.counts.steps) {
            finding.lost.push(format!("step {} of job {number} was seen", seen.unwrap()));
        }
        if told.done.contains(id) && !matches!(job.standing.state, State::Done { .. }) {
            finding.lost.push(format!("job {number} was done"));
        }
    }
    let listed = store.find(Find::default().oldest_first(), None, Budget::jobs(1000)).await?.jobs.len();
    if listed > told.enqueued.len() {
        finding.broken.push(format!("{listed} jobs are there"));
    }
    Ok(())
}
