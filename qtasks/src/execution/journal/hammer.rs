//! A body thread, a recorder thread and a small buffer, as fast as they can: no wait hangs, and nothing is lost.
//!
//! The short form ends after some values. `QTASKS_HAMMER_SECONDS=600` makes it go on for so long:
//! `QTASKS_HAMMER_SECONDS=600 cargo test --release -p qtasks --lib hammer -- --nocapture`.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc as std_mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use tokio::sync::mpsc;

use super::{
    Batch, FlushRequest, Journal, MemoEntry,
    buffer::{Ahead, EntryCount},
};
use crate::{
    execution::stopped::Stopped,
    model::{
        job::{JobId, Lease, Reply, WorkerId},
        json::Json,
    },
};

/// The values of one attempt.
const VALUES: u64 = 10_000;
/// The attempts of the short form.
const ATTEMPTS: u64 = 20;
/// An attempt that has not ended after this time hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// An attempt with random limits, of which some are fenced or have a lease that comes and goes.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    seed: u64,
    ahead: Ahead,
    in_transactions: bool,
    is_fenced: bool,
    lease_comes_and_goes: bool,
}

impl Attempt {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        Self {
            seed,
            ahead: Ahead { values: rng.u64(1..9), bytes: rng.usize(1..64) },
            in_transactions: rng.u8(..4) == 0,
            is_fenced: rng.u8(..4) == 0,
            lease_comes_and_goes: rng.u8(..4) == 0,
        }
    }

    /// Runs the attempt to its end; gives how many steps are durable then.
    fn run(self) -> u64 {
        let (requests, requested) = mpsc::unbounded_channel();
        let lease = Lease { job: JobId::default(), attempt: 1, worker: WorkerId::default() };
        let (lease_holds, over) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let holds = lease_holds.clone();
        let holds = Arc::new(move || holds.load(Relaxed));
        let wait = Duration::from_secs(60);
        let journal = Journal::ahead_by(self.ahead, lease, holds, EntryCount::default(), wait, requests);
        let recorder = thread::spawn(move || self.record(requested));
        let (beside, ends) = (journal.clone(), over.clone());
        let trouble = thread::spawn(move || self.trouble(&beside, &lease_holds, &ends));
        let ended = pollster::block_on(self.body(&journal));
        over.store(true, Relaxed);
        trouble.join().unwrap();
        match ended {
            Ok(()) => assert_eq!(journal.steps(), VALUES, "{self:?}"),
            Err(Stopped::Fenced) => assert!(self.is_fenced, "{self:?}"),
            Err(other) => panic!("{self:?}: {other}"),
        }
        let steps = journal.steps();
        journal.fence();
        drop(journal);
        let recorded = recorder.join().unwrap();
        assert!(recorded >= steps, "{self:?}: {steps} are said to be durable, and {recorded} were recorded");
        steps
    }

    async fn body(self, journal: &Journal) -> Result<(), Stopped> {
        let mut rng = Rng::with_seed(self.seed);
        for number in 0..VALUES {
            if !journal.is_open() {
                journal.wait_for_room().await?;
            }
            match rng.u8(..64) {
                0 => journal.flush().await?,
                1 => {
                    let value = Json::from_stored("1");
                    journal.handlers_done().await?;
                    journal.push_memo(MemoEntry { step: None, name: String::new(), nth: number, value, job: None });
                }
                _ => {}
            }
            if self.in_transactions {
                journal.push_pending(0, 1, Box::new(()));
            } else {
                journal.push(0, Reply::Value(Json::from_stored("1")));
            }
        }
        journal.flush().await
    }

    /// Writes all that the journal has, whose numbers must go on without a gap; gives how many steps there were.
    fn record(self, mut requests: mpsc::UnboundedReceiver<FlushRequest>) -> u64 {
        let (mut rng, mut written) = (Rng::with_seed(self.seed), EntryCount::default());
        while let Some(FlushRequest { journal, .. }) = requests.blocking_recv() {
            let Batch { steps, mut pending, memos, .. } = journal.take();
            let numbers = steps.iter().map(|step| step.seq).chain(pending.iter().map(|step| step.seq));
            assert!(numbers.eq((written.steps..).take(steps.len() + pending.len())), "{self:?}");
            assert!(memos.iter().map(|memo| memo.number).eq((written.memos..).take(memos.len())), "{self:?}");
            let entries = EntryCount { steps: steps.len() as u64, memos: memos.len() as u64 };
            if entries != EntryCount::default() {
                journal.wrote(entries);
                written = EntryCount { steps: written.steps + entries.steps, memos: written.memos + entries.memos };
            }
            if !pending.is_empty() {
                written.steps += rng.u64(1..=pending.len() as u64);
                pending.retain(|step| step.seq >= written.steps);
                journal.handled(written.steps, pending);
            }
        }
        written.steps
    }

    fn trouble(self, journal: &Journal, lease_holds: &AtomicBool, over: &AtomicBool) {
        let mut rng = Rng::with_seed(self.seed);
        let fence_at = rng.u64(..VALUES);
        while !over.load(Relaxed) {
            if self.is_fenced && journal.steps() >= fence_at {
                return journal.fence();
            }
            if self.lease_comes_and_goes {
                lease_holds.store(false, Relaxed);
                thread::yield_now();
                lease_holds.store(true, Relaxed);
                journal.renewed();
            }
            thread::yield_now();
        }
    }
}

#[test]
fn bodies_and_recorders_do_not_hang() {
    let seconds = env::var("QTASKS_HAMMER_SECONDS").ok().map(|text| text.parse().expect("a number of seconds"));
    let (begun, mut attempts, mut steps) = (Instant::now(), 0, 0);
    while seconds.map_or(attempts < ATTEMPTS, |seconds| begun.elapsed() < Duration::from_secs(seconds)) {
        let attempt = Attempt::new(attempts);
        let (ended, end) = std_mpsc::channel();
        thread::spawn(move || ended.send(attempt.run()));
        steps += end.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{attempt:?} hangs or panicked: {error}"));
        attempts += 1;
    }
    println!("{attempts} attempts with {steps} durable steps in {:.1?}, and none of them hung", begun.elapsed());
}
