//! A job that kills its workers ends as dead, and no other job is charged for it: many cases by chance, on a simulated
//! clock. Each is a world of its own with one process, which is killed and started again; what the store leases and what is
//! decided of lost jobs is the real code.

use std::{collections::BTreeMap, time::Duration};

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use qtasks::{
    Retry,
    job::{Job, JobCall, JobId, Lease, NewJob, Output, Reply, Step, WorkerId},
    json::Json,
    lifecycle::{self, Verdict},
    store::{Ask, Hold, Memory, Record, Settlement, Store, Suspects, Written},
};
use qtasks_tests::jobs::new_job;

/// What a body does in the time it lives, in milliseconds.
#[derive(Clone, Copy, Debug)]
enum Body {
    /// It kills its process after so long.
    Kills(i64),
    /// It ends after so long.
    Ends(i64),
    /// It makes so many steps, each after so long, and ends.
    Steps(u64, i64),
    /// It never ends.
    Stays,
}

/// A body under way.
struct Run {
    body: Body,
    job: Job,
    lease: Lease,
    started: i64,
    steps: u64,
}

impl Run {
    /// When it does next what its body does.
    fn next(&self) -> i64 {
        match self.body {
            Body::Kills(after) | Body::Ends(after) => self.started + after,
            Body::Steps(_, after) => {
                self.started + after * i64::try_from(self.steps - self.job.counts.steps + 1).unwrap()
            }
            Body::Stays => i64::MAX,
        }
    }

    /// When its turn has lasted long enough, if it has it.
    fn passes(&self) -> i64 {
        let turn = self.job.standing.suspect.expect("a suspect has the turn").turn();
        self.started.saturating_add(turn.as_millis().try_into().unwrap_or(i64::MAX))
    }
}

struct World {
    store: Memory,
    bodies: BTreeMap<JobId, Body>,
    retry: Retry,
    slots: usize,
    now: i64,
    worker: WorkerId,
    running: BTreeMap<JobId, Run>,
    /// The suspect that has the turn.
    turn: Option<JobId>,
    kills: usize,
}

fn at(milliseconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_millis(milliseconds)
}

impl World {
    async fn new(rng: &mut Rng, limit: u32) -> Self {
        let store = Memory::new();
        let short_or_long = |rng: &mut Rng| {
            let bits = rng.u32(1..18);
            i64::from(rng.u32(1..1 << bits))
        };
        let neighbours = rng.usize(1..=12);
        let mut bodies = vec![Body::Kills(short_or_long(rng))];
        let mut staying = 0;
        for _ in 0..neighbours {
            bodies.push(match rng.u8(..3) {
                0 => Body::Ends(short_or_long(rng)),
                1 => Body::Steps(rng.u64(1..5), short_or_long(rng)),
                _ => {
                    staying += 1;
                    Body::Stays
                }
            });
        }
        rng.shuffle(&mut bodies);
        let mut jobs = Vec::new();
        for _ in &bodies {
            jobs.push(NewJob {
                call: JobCall { task: "t".into(), priority: rng.i16(-1..=1), enqueued: at(0), ..new_job().call },
                due: at(0),
                unique: None,
            });
        }
        let bodies = jobs.iter().map(|job| job.call.id).zip(bodies).collect();
        store.enqueue(jobs).await.unwrap();
        Self {
            store,
            bodies,
            retry: Retry { limit, ..Retry::DEFAULT },
            // Those that stay leave one free.
            slots: staying + rng.usize(1..=neighbours + 1),
            now: 0,
            worker: WorkerId::new(),
            running: BTreeMap::new(),
            turn: None,
            kills: 0,
        }
    }

    /// Starts what can be started.
    async fn lease(&mut self) {
        loop {
            let free = self.slots - self.running.len();
            let suspects = match self.turn {
                Some(_) => Suspects::PassOver,
                None if self.running.values().any(|run| run.job.standing.suspect.is_some()) => {
                    Suspects::OneBesideOthers
                }
                None => Suspects::OneAlone,
            };
            let ask = Ask {
                worker: self.worker,
                queues: ["default".to_owned()].into(),
                tasks: ["t"].into(),
                limit: free,
                suspects,
                now: at(self.now),
            };
            let jobs = self.store.lease(ask).await.unwrap().jobs;
            if jobs.is_empty() {
                return;
            }
            for job in jobs {
                let (id, lease) = (job.call.id, job.lease().unwrap());
                if job.standing.suspect.is_some() {
                    self.turn = Some(id);
                }
                let steps = job.counts.steps;
                self.running.insert(id, Run { body: self.bodies[&id], job, lease, started: self.now, steps });
            }
        }
    }

    /// Goes on to what happens next; gives whether anything does.
    async fn go_on(&mut self) -> bool {
        let next = self.running.values().map(|run| (run.next(), run.job.call.id)).min();
        let passing = self.turn.map(|id| (self.running[&id].passes(), id));
        match (next, passing) {
            (Some(next), Some(passing)) if passing.0 < next.0 => self.pass(passing).await,
            (None, Some(passing)) => self.pass(passing).await,
            (Some((time, id)), _) if time < i64::MAX => {
                self.now = time;
                match self.running[&id].body {
                    Body::Kills(_) => self.kill().await,
                    Body::Steps(count, _) if self.running[&id].steps < count => self.step(id).await,
                    Body::Ends(_) | Body::Steps(..) | Body::Stays => self.end(id).await,
                }
            }
            _ => return false,
        }
        true
    }

    async fn pass(&mut self, (time, id): (i64, JobId)) {
        self.now = time;
        let lease = self.running[&id].lease;
        self.record(Record { passed: true, ..record(lease, vec![]) }).await;
        self.turn = None;
    }

    async fn step(&mut self, id: JobId) {
        let run = self.running.get_mut(&id).unwrap();
        let step = Step { seq: run.steps, hash: 0, reply: Reply::Value(Json::from_stored("1")) };
        run.steps += 1;
        let lease = run.lease;
        self.record(record(lease, vec![step])).await;
        self.turn.take_if(|turn| *turn == id);
    }

    async fn record(&self, record: Record) {
        assert_eq!(self.store.record([record].into()).await.unwrap(), [Written::Yes]);
    }

    async fn end(&mut self, id: JobId) {
        let Run { job, lease, .. } = self.running.remove(&id).unwrap();
        let output = Output::Value(Json::from_stored("1"));
        let (outcome, _) =
            lifecycle::settle(&job.standing, Verdict::Done(output), false, &self.retry, 0.0, at(self.now));
        self.settle(Hold::Lease(lease), outcome).await;
        self.turn.take_if(|turn| *turn == id);
    }

    /// The process is killed; all that it held is found to be lost some time later, and the next process starts.
    async fn kill(&mut self) {
        self.kills += 1;
        self.now += 3_000;
        self.running.clear();
        self.turn = None;
        for job in self.store.held(self.worker, usize::MAX).await.unwrap() {
            let outcome = lifecycle::lost(&job.standing, Some(&self.retry), at(self.now));
            let is_poison = matches!(self.bodies[&job.call.id], Body::Kills(_));
            assert!(is_poison || outcome.failures == 0, "{:?} was charged: {job:#?}", self.bodies[&job.call.id]);
            let hold = Hold::Silent { lease: job.lease().unwrap(), beat: None };
            self.settle(hold, outcome).await;
        }
        self.worker = WorkerId::new();
    }

    async fn settle(&self, hold: Hold, outcome: lifecycle::Outcome) {
        let settlement = Settlement { hold, outcome, steps: None, attempt: None, now: at(self.now) };
        assert_eq!(self.store.settle([settlement].into()).await.unwrap(), [Written::Yes]);
    }

    async fn job(&self, id: JobId) -> Job {
        self.store.job(id).await.unwrap().unwrap()
    }
}

fn record(lease: Lease, steps: Vec<Step>) -> Record {
    Record { lease, steps, memos: Vec::new(), jobs: Vec::new(), progress: None, passed: false }
}

async fn ends_well(seed: u64, limit: u32) {
    let mut world = World::new(&mut Rng::with_seed(seed), limit).await;
    world.lease().await;
    while world.go_on().await {
        assert!(world.kills < 60, "it goes on killing: {:?}", world.bodies);
        world.lease().await;
    }
    for (id, body) in &world.bodies {
        let job = world.job(*id).await;
        let state = match body {
            Body::Kills(_) => "dead",
            Body::Ends(_) | Body::Steps(..) => "done",
            Body::Stays => "running",
        };
        assert_eq!(job.standing.state.name(), state, "{body:?} among {:?}, after {} kills", world.bodies, world.kills);
    }
}

#[tokio::test]
async fn a_job_that_kills_its_workers_ends_as_dead_and_no_other_is_charged_for_it() {
    for seed in 0..1_000 {
        for limit in [1, 3] {
            ends_well(seed, limit).await;
        }
    }
}

#[test]
fn a_turn_is_long_enough_for_a_job_that_has_survived_as_long() {
    let suspect = qtasks::job::Suspect { survived: Duration::from_secs(40), losses: 1, ..Default::default() };
    assert!(suspect.turn() > suspect.survived);
}
