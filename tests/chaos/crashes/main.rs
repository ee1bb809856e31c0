//! Processes that die at every point there is, once and twice, and what comes of it.
//!
//! A case is a task, a number of values, and the points where one process after the other dies. All of them are found by
//! running: the points that an undisturbed process passes are those where the first one can die, and the points that its
//! successor passes are those where that one can. `QTASKS_CASE` runs a single case again.

mod process;
mod tasks;
mod world;

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use qtasks::{
    job::JobId,
    store::{Memory, Store, sqlite::Sqlite},
};
use qtasks_tests::{
    length::{by_length, is_long},
    light_folder,
    promises::{Expected, Verdict, check},
};
use tempfile::TempDir;

use crate::{
    process::Process,
    tasks::{KINDS, Kind},
    world::World,
};

/// A case, as it is written in `QTASKS_CASE`.
#[derive(Clone)]
struct Case {
    place: Place,
    kind: Kind,
    n: i64,
    /// Where the processes die, one after the other; the next one lives on.
    crashes: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Memory,
    Sqlite,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place {
            Place::Memory => "memory",
            Place::Sqlite => "sqlite",
        };
        write!(f, "{place}/{}/{}", self.kind.name, self.n)?;
        self.crashes.iter().try_for_each(|crash| write!(f, "/{crash}"))
    }
}

impl Case {
    fn parse(text: &str) -> Self {
        let parts: Vec<_> = text.split('/').collect();
        let [place, kind, n, crashes @ ..] = &parts[..] else { panic!("`{text}` is not place/task/values/crashes") };
        Self {
            place: if *place == "sqlite" { Place::Sqlite } else { Place::Memory },
            kind: *KINDS.iter().find(|known| known.name == *kind).expect("a task of tasks.rs"),
            n: n.parse().expect("a number of values"),
            crashes: crashes.iter().map(|crash| (*crash).to_owned()).collect(),
        }
    }

    fn and(&self, crash: &str) -> Self {
        let mut further = self.clone();
        further.crashes.push(crash.to_owned());
        further
    }
}

/// Where cases run, and what all of them come to.
struct Tried {
    cases: usize,
    /// Cases whose last crash was not reached: a run on several threads differs a little from the one before.
    not_reached: usize,
    verdict: Verdict,
    file: Option<(TempDir, Arc<dyn Store>)>,
    last: Option<JobId>,
}

impl Tried {
    fn none() -> Self {
        Self { cases: 0, not_reached: 0, verdict: Verdict::default(), file: None, last: None }
    }

    /// Runs a case; gives the points that the process passed which came after the last crash.
    fn run(&mut self, case: &Case, undisturbed: Option<&Expected>) -> (Vec<String>, Expected) {
        let found = catch_unwind(AssertUnwindSafe(|| self.try_case(case, undisturbed)));
        let (points, expected, verdict) = found.unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().map_or("it panicked", String::as_str);
            panic!("{said}\n{}", again(case));
        });
        assert!(verdict.violations.is_empty(), "{verdict}\n{}", again(case));
        self.cases += 1;
        self.verdict.add(verdict);
        (points, expected)
    }

    fn try_case(&mut self, case: &Case, undisturbed: Option<&Expected>) -> (Vec<String>, Expected, Verdict) {
        let (store, after) = match case.place {
            Place::Memory => (Arc::new(Memory::new()) as Arc<dyn Store>, None),
            Place::Sqlite => (self.file(), self.last),
        };
        let world = World::new(store, case.place == Place::Memory, case.kind, after);
        for crash in &case.crashes {
            let passed = Process::new(&world, Some(crash.clone())).run(case.kind, case.n);
            if passed.last() != Some(crash) {
                self.not_reached += 1;
            }
        }
        let passed = Process::new(&world, None).run(case.kind, case.n);
        let fates = world.fates();
        self.last = fates.keys().last().copied().or(self.last);
        let expected = undisturbed.cloned().unwrap_or_else(|| {
            let fate = fates.values().next().expect("there is one job");
            Expected {
                state: fate.state.clone(),
                result: fate.result.clone(),
                steps: fate.steps.iter().map(|step| step.1.clone()).collect(),
                failures: case.kind.failures,
                ahead: case.kind.ahead,
            }
        });
        let expectations: BTreeMap<_, _> = fates.keys().map(|job| (*job, expected.clone())).collect();
        let verdict = check(&world.ledger.events(), &fates, &expectations);
        if !verdict.violations.is_empty() {
            eprintln!("{:#?}", world.ledger);
        }
        (passed, expected, verdict)
    }

    fn file(&mut self) -> Arc<dyn Store> {
        let open = || {
            let folder = light_folder();
            let url = format!("sqlite:{}?synchronous=off", folder.path().join("jobs.db").display());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let store = Arc::new(runtime.block_on(Sqlite::open(&url)).unwrap());
            (folder, store as Arc<dyn Store>)
        };
        self.file.get_or_insert_with(open).1.clone()
    }

    /// Every crash of a task with `n` values, and with `twice`, every pair of crashes.
    fn crash_everywhere(&mut self, place: Place, kind: Kind, n: i64, twice: bool) {
        let whole = Case { place, kind, n, crashes: Vec::new() };
        let (points, undisturbed) = self.run(&whole, None);
        assert_eq!((undisturbed.state.as_str(), undisturbed.steps.len() as i64), ("done", n), "{whole}");
        for first in points {
            let once = whole.and(&first);
            let (further, _) = self.run(&once, Some(&undisturbed));
            for second in further.into_iter().filter(|_| twice) {
                self.run(&once.and(&second), Some(&undisturbed));
            }
        }
    }

    /// Holds that no fewer cases were run, and that no more than one in `few` went without its last crash.
    fn tell(&self, what: &str, at_least: usize, few: usize) {
        let Self { cases, not_reached, verdict, .. } = self;
        println!("{what}: {cases} cases, {not_reached} of them without their last crash; {verdict}");
        if std::env::var_os("QTASKS_CASE").is_none() {
            assert!(*cases >= at_least, "{what}: only {cases} cases were run, of at least {at_least}");
            assert!(*not_reached <= cases / few, "{what}: {not_reached} of {cases} crashes were not reached");
        }
    }
}

fn again(case: &Case) -> String {
    format!("run it again: QTASKS_CASE='{case}' cargo test -p qtasks-tests --test crashes -- --nocapture")
}

/// Runs the one case that is asked for in place of all; gives whether one is.
fn one_is_asked_for() -> bool {
    let Some(text) = std::env::var_os("QTASKS_CASE") else { return false };
    let case = Case::parse(text.to_str().unwrap());
    let mut tried = Tried::none();
    let (_, undisturbed) = tried.run(&Case { crashes: Vec::new(), ..case.clone() }, None);
    tried.run(&case, Some(&undisturbed));
    tried.tell(&case.to_string(), 2, 1);
    true
}

#[test]
fn tasks_on_the_runtime_survive_every_crash_and_every_pair_of_crashes() {
    if one_is_asked_for() {
        return;
    }
    tasks_in_memory_survive(|kind| kind.is_async).tell(
        "async bodies, in memory",
        by_length(300, 7_000),
        by_length(100, 1_000),
    );
}

#[test]
fn tasks_on_threads_survive_every_crash_and_every_pair_of_crashes() {
    tasks_in_memory_survive(|kind| !kind.is_async).tell("fn bodies, in memory", by_length(200, 4_000), 10);
}

/// Every crash, and every pair of crashes of two values. Of fewer values a pair differs from those for one kind at most. In the
/// short form one kind has no value and pairs, and one value without; the others have two values without.
fn tasks_in_memory_survive(which: impl Fn(&Kind) -> bool) -> Tried {
    let mut tried = Tried::none();
    for (i, kind) in KINDS.into_iter().filter(which).enumerate() {
        let counts = by_length(if i == 0 { 0..=1 } else { 2..=2 }, 0..=3);
        for n in counts {
            tried.crash_everywhere(Place::Memory, kind, n, is_long() && n == 2 || i == 0 && n < by_length(1, 2));
        }
    }
    tried
}

#[test]
fn tasks_on_a_file_survive_every_crash_and_some_pairs_of_crashes() {
    let mut tried = Tried::none();
    for kind in KINDS.into_iter().step_by(by_length(3, 1)) {
        tried.crash_everywhere(Place::Sqlite, kind, by_length(1, 3), false);
    }
    tried.crash_everywhere(Place::Sqlite, KINDS[0], by_length(0, 2), true);
    tried.tell("on SQLite", by_length(150, 900), 10);
}
