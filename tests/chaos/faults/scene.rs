//! One run: two places for workers, a user who enqueues, watches and cancels, and a store that is not itself until it is.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use fastrand::Rng;
use futures::StreamExt as _;
use jiff::Timestamp;
use qtasks::{
    Budget, Clock, Error, Find, JobHandle, QueueTasks, Worker,
    job::{Job, JobCall, JobId},
    store::Store,
};
use qtasks_tests::{
    edge::Behind,
    ledger::{self, Ledger},
    promises::{End, Event, Verdict, check},
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::{
    member::{Member, Weather},
    tasks::{KINDS, Kind},
};

/// When the store is itself again.
const FAIR: Duration = Duration::from_secs(25);
/// How long after that everything may take to settle.
const SETTLING: Duration = Duration::from_secs(30 * 60);

/// What a run needs. Clones share it.
#[derive(Clone)]
struct Scene {
    store: Arc<dyn Store>,
    weather: Arc<Weather>,
    ledger: Ledger,
    clock: Clock,
    /// The last job of earlier runs on the same store.
    after: Option<JobId>,
}

/// What a run came to.
pub(crate) struct Run {
    pub(crate) verdict: Verdict,
    pub(crate) events: Vec<Event>,
    pub(crate) faults: usize,
    pub(crate) last: Option<JobId>,
}

/// Runs `seed` on `store`, on the current runtime, whose clock is paused.
pub(crate) async fn run(seed: u64, store: Arc<dyn Store>, takes_time: bool, after: Option<JobId>) -> Run {
    fastrand::seed(seed);
    let mut rng = Rng::with_seed(seed);
    let ledger = Ledger::default();
    let bad = [0, 20, 60, 150, 300][rng.usize(..5)];
    let weather = Weather::new(seed, bad, takes_time, &ledger);
    let clock = Clock::Tokio { start: Timestamp::UNIX_EPOCH, origin: Instant::now() };
    let scene = Scene { store, weather, ledger, clock, after };
    scene.play(&mut rng).await
}

impl Scene {
    async fn play(&self, rng: &mut Rng) -> Run {
        let place = |rng: Rng| {
            let over = watch::Sender::new(false);
            (over.clone(), tokio::spawn(self.clone().keep_a_worker(over, rng)))
        };
        let places = [place(rng.fork()), place(rng.fork())];
        let user = tokio::spawn(self.clone().use_it(rng.fork()));
        let sky = tokio::spawn(self.clone().change_the_weather(rng.fork()));
        sky.await.unwrap();
        let (watchers, disturbers) = user.await.unwrap();
        for disturber in disturbers {
            disturber.await.unwrap();
        }
        let settled = timeout(SETTLING, self.all_ended()).await.is_ok();
        for (over, place) in places {
            over.send_replace(true);
            place.await.unwrap();
        }
        for watcher in watchers.into_iter().filter(|watcher| settled || watcher.is_finished()) {
            watcher.await.unwrap();
        }
        self.judge().await
    }

    async fn change_the_weather(self, mut rng: Rng) {
        let start = Instant::now();
        if rng.bool() {
            sleep(Duration::from_millis(rng.u64(..12_000))).await;
            self.weather.away(true);
            sleep(Duration::from_millis(rng.u64(..8_000))).await;
            self.weather.away(false);
        }
        tokio::time::sleep_until(start + FAIR).await;
        self.weather.clear();
    }

    /// The store, for those who look from outside: nothing goes wrong for them.
    fn look(&self) -> Behind<Member> {
        Behind::new(Member::sheltered(&self.weather), self.store.clone(), &self.ledger)
    }

    async fn app(&self, member: &Member) -> QueueTasks {
        let store = Behind::new(member.clone(), self.store.clone(), &self.ledger);
        let builder = QueueTasks::builder().store_at(Arc::new(store)).state(member.clone());
        builder.clock(self.clock).build().await.unwrap()
    }

    /// Starts a worker, again and again: it is stopped, or killed, or it hangs and is killed for that.
    async fn keep_a_worker(self, over: watch::Sender<bool>, mut rng: Rng) {
        while !*over.borrow() {
            let member = Member::exposed(&self.weather, &mut rng);
            let app = self.app(&member).await;
            let starting = app.worker().concurrency(rng.usize(1..4)).grace(Duration::from_secs(1)).start();
            let worker = match timeout(Duration::from_secs(10), starting).await {
                Ok(Ok(worker)) => worker,
                _ => {
                    member.kill();
                    sleep(Duration::from_millis(500)).await;
                    continue;
                }
            };
            self.let_work(&member, worker, over.subscribe(), &mut rng).await;
            sleep(Duration::from_millis(rng.u64(..500))).await;
        }
    }

    async fn let_work(&self, member: &Member, worker: Worker, mut over: watch::Receiver<bool>, rng: &mut Rng) {
        let id = worker.id();
        let long = Duration::from_millis(rng.u64(500..20_000));
        let kill = rng.u8(..3) == 0;
        let stop = tokio::select! {
            biased;
            _ = over.wait_for(|over| *over) => true,
            () = hung_for_long(member) => false,
            // In fair weather nobody is disturbed any more.
            () = sleep(long), if !self.weather.is_fair() => !kill,
        };
        if stop {
            self.ledger.note(Event::StopBegun { worker: id });
            if let Ok(stopped) = timeout(Duration::from_secs(120), worker.shutdown()).await {
                // A lease that was lost on its way can only run out.
                let holds = if member.lost_leases() { Vec::new() } else { self.held_by(id).await };
                self.ledger.note(Event::StopEnded { worker: id, well: stopped.is_ok(), holds });
                member.kill();
                return;
            }
        }
        member.kill();
        self.ledger.note(Event::Killed { worker: id });
    }

    /// Enqueues some jobs, and has them watched and disturbed; gives those who watch, and those who disturb.
    async fn use_it(self, mut rng: Rng) -> (Vec<JoinHandle<()>>, Vec<JoinHandle<()>>) {
        let (mut watchers, mut disturbers) = (Vec::new(), Vec::new());
        for _ in 0..rng.usize(2..6) {
            sleep(Duration::from_millis(rng.u64(..3_000))).await;
            let kind = KINDS[rng.usize(..KINDS.len())];
            let n = rng.i64(0..7);
            let Some(job) = self.enqueue(kind, n, &mut rng).await else { continue };
            let exposed = self.app(&Member::exposed(&self.weather, &mut rng)).await;
            watchers.push(tokio::spawn(self.clone().watch(self.outside().await, kind, job, 0)));
            watchers.push(tokio::spawn(self.clone().watch(self.outside().await, kind, job, rng.u64(..8))));
            watchers.push(tokio::spawn(self.clone().watch(exposed, kind, job, 0)));
            watchers.push(tokio::spawn(self.clone().wait_for_result(job, rng.fork())));
            if rng.u8(..3) == 0 {
                disturbers.push(tokio::spawn(self.clone().call_off(job, rng.fork())));
            }
        }
        (watchers, disturbers)
    }

    /// An application that nothing goes wrong for.
    async fn outside(&self) -> QueueTasks {
        self.app(&Member::sheltered(&self.weather)).await
    }

    /// Enqueues a job, and does so again while that fails: each time it is another.
    async fn enqueue(&self, kind: Kind, n: i64, rng: &mut Rng) -> Option<JobId> {
        for _ in 0..4 {
            let app = self.app(&Member::exposed(&self.weather, rng)).await;
            let args = json!({ "n": n });
            let enqueuing = app.enqueue_json(kind.name, &args);
            if let Ok(Ok(job)) = timeout(Duration::from_secs(10), enqueuing).await {
                self.ledger.note(Event::Enqueued { job: job.id() });
                return Some(job.id());
            }
            sleep(Duration::from_millis(300)).await;
        }
        None
    }

    /// Watches a job from number `from` to its end; where the store cannot be read, goes on with another stream.
    async fn watch(self, app: QueueTasks, kind: Kind, job: JobId, from: u64) {
        let mut next = from;
        loop {
            let Ok(Ok(mut values)) = timeout(Duration::from_secs(60), (kind.watch)(app.clone(), job, next)).await
            else {
                sleep(Duration::from_millis(500)).await;
                continue;
            };
            let stream = self.ledger.opened(job, next);
            loop {
                let Ok(item) = timeout(Duration::from_secs(60), values.next()).await else {
                    self.ledger.note(Event::Closed { stream, end: End::Dropped });
                    break;
                };
                let trouble = matches!(&item, Some(Err(error)) if error.is_store_trouble());
                let further = match &item {
                    Some(Ok(_)) => true,
                    Some(Err(error)) => error.is_skipped(),
                    None => false,
                };
                self.ledger.heard(stream, item);
                match (further, trouble) {
                    (true, _) => next += 1,
                    (false, true) => break,
                    (false, false) => return,
                }
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn wait_for_result(self, job: JobId, mut rng: Rng) {
        let app = self.app(&Member::exposed(&self.weather, &mut rng)).await;
        loop {
            let result = timeout(Duration::from_secs(60), async { app.any_job(job).await?.result().await }).await;
            match result {
                Ok(Ok(result)) => return self.ledger.note(Event::Result { job, result }),
                Ok(Err(error)) if !error.is_store_trouble() => return,
                _ => sleep(Duration::from_millis(300)).await,
            }
        }
    }

    /// Calls a job off, and sometimes has it tried again.
    async fn call_off(self, job: JobId, mut rng: Rng) {
        sleep(Duration::from_millis(rng.u64(..10_000))).await;
        let handle = self.handle(job, &mut rng).await;
        match timeout(Duration::from_secs(20), handle.cancel()).await {
            Ok(Ok(())) => self.ledger.note(Event::Cancelled { job }),
            Ok(Err(Error::WrongState { state, .. })) => {
                self.ledger.note(Event::CancelRefused { job, state: state.to_owned() });
            }
            _ => {}
        }
        if rng.bool() {
            sleep(Duration::from_millis(rng.u64(..5_000))).await;
            // Before it is made: whether it was carried out, an error does not say.
            self.ledger.note(Event::Retried { job });
            let _ = timeout(Duration::from_secs(20), self.handle(job, &mut rng).await.retry()).await;
        }
    }

    async fn handle(&self, job: JobId, rng: &mut Rng) -> JobHandle<Value> {
        let member = Member::exposed(&self.weather, rng);
        loop {
            match timeout(Duration::from_secs(5), self.app(&member).await.any_job(job)).await {
                Ok(Ok(handle)) => return handle,
                _ => sleep(Duration::from_millis(200)).await,
            }
        }
    }

    async fn jobs(&self) -> Vec<Job> {
        self.look().find(Find::default().oldest_first(), self.after, Budget::jobs(1_000)).await.unwrap().jobs
    }

    async fn held_by(&self, worker: qtasks::job::WorkerId) -> Vec<JobId> {
        let held = self.jobs().await.into_iter().filter(|job| job.standing.state.worker() == Some(worker));
        held.map(|job| job.call.id).collect()
    }

    async fn all_ended(&self) {
        while !self.weather.is_calm() || !self.jobs().await.iter().all(|job| job.standing.state.is_ended()) {
            sleep(Duration::from_millis(500)).await;
        }
    }

    async fn judge(&self) -> Run {
        let (mut fates, mut expected) = (BTreeMap::new(), BTreeMap::new());
        let events = self.ledger.events();
        let outside = self.outside().await;
        for Job { call, standing, .. } in self.jobs().await {
            let JobCall { id, task, args, .. } = call;
            let n = args.decode::<Value>().unwrap()["n"].as_i64().unwrap();
            let result = match standing.state.is_ended() {
                true => outside.any_job(id).await.unwrap().result().await.ok(),
                false => None,
            };
            let retries = events.iter().filter(|event| **event == Event::Retried { job: id }).count();
            fates.insert(id, ledger::fate(&self.look(), id, result).await.unwrap().unwrap());
            expected.insert(id, Kind::named(&task).expected(n, retries));
        }
        let verdict = check(&events, &fates, &expected);
        let faults = self.weather.faults.load(std::sync::atomic::Ordering::SeqCst);
        Run { verdict, events, faults, last: fates.keys().last().copied() }
    }
}

async fn hung_for_long(member: &Member) {
    member.hung().await;
    sleep(Duration::from_secs(5)).await;
}
