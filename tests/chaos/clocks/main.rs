//! Clocks that differ and clocks that step, given to real processes: none of that costs a worker a job or a job a failure,
//! keeps the jobs of a killed worker waiting, or moves a time at which a job is due by a server's clock.

// The rest of both is for other tests.
#[allow(dead_code)]
#[path = "../peers/scene.rs"]
mod scene;
#[allow(dead_code)]
#[path = "../peers/tasks.rs"]
mod tasks;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use libtest_mimic::Trial;
use qtasks::{
    job::{self, Output, State, StateKind},
    prelude::*,
    store::{Budget, Find},
};
use qtasks_tests::{
    clock::Clock,
    kills::ledger::now,
    length::{by_length, in_turn},
};
use rustix::process::Signal;
use scene::{Job, Kind, PATIENCE, Peer, Scene, all_run, each_ends_at_its_first_attempt, run, statuses, told, within};
use tasks::{dozes, dozes_blocking, naps, naps_blocking, tells_when, ticks, ticks_blocking};

/// Most of the time is spent waiting, so that many can do so at once, however few processors there are.
const AT_ONCE: usize = 36;
const RIGHT: SignedDuration = SignedDuration::ZERO;
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const MISSING: &str = "clocks are shifted on Linux, where there is a C compiler";

fn main() -> ExitCode {
    let seconds = |seconds| SignedDuration::from_secs_f64(seconds);
    let skews = [("2.9_s", seconds(2.9)), ("1_h", HOUR), ("2.1_s", seconds(2.1)), ("10_s", seconds(10.0))];
    // The short form takes the largest that a lease could hide, and one that nothing could.
    let skews = &skews[..by_length(2, 4)];
    let killed_ahead = [("1_h", HOUR), ("20_s", SignedDuration::from_secs(20))];
    let mut trials = vec![on(Kind::Sqlite, "a_process_goes_by_the_clock_that_it_was_given", goes_by_its_clock)];
    let (all, servers) = (&Kind::ALL, &Kind::SERVERS);
    for &(name, skew) in skews {
        let ahead = format!("nobody_is_robbed_where_clocks_differ_and_one_is_{name}_ahead");
        trials.extend(on_each(all, &ahead, async move |scene| clocks_differ(scene, skew).await));
        let behind = format!("nobody_is_robbed_where_clocks_differ_and_one_is_{name}_behind");
        trials.extend(on_each(servers, &behind, async move |scene| clocks_differ(scene, -skew).await));
    }
    for &(name, skew) in &killed_ahead[..by_length(1, 2)] {
        let killed = format!("the_job_of_a_killed_worker_goes_on_at_once_although_its_clock_was_{name}_ahead");
        trials.extend(on_each(all, &killed, async move |scene| is_killed(scene, skew).await));
    }
    for (name, step) in [("forward", HOUR), ("back", -HOUR)] {
        let one = format!("nobody_is_robbed_when_one_clock_steps_{name}_and_a_worker_starts");
        trials.extend(on_each(all, &one, async move |scene| steps(scene, step, false).await));
        let every = format!("nobody_is_robbed_when_all_clocks_step_{name}_and_a_worker_starts");
        trials.extend(on_each(all, &every, async move |scene| steps(scene, step, true).await));
        let by_server = format!("a_clock_that_steps_{name}_moves_no_time_that_goes_by_that_of_the_server");
        trials.extend(on_each(servers, &by_server, async move |scene| waits_by_the_server(scene, step).await));
    }
    trials.extend(on_each(all, "nobody_is_robbed_when_the_machine_sleeps_for_an_hour", machine_sleeps));
    trials.extend(on_each(servers, "a_delay_goes_by_the_clock_of_the_server", delays));
    for (name, skew) in [("ahead", HOUR), ("behind", -HOUR)] {
        let paused = format!("what_a_process_pauses_whose_clock_is_{name}_is_started_nowhere_a_second_later");
        trials.extend(on_each(all, &paused, async move |scene| is_paused(scene, skew).await));
    }
    trials.push(on(Kind::Sqlite, "what_the_clock_steps_past_is_due", is_stepped_past));
    run(AT_ONCE, trials)
}

fn on_each(kinds: &[Kind], name: &str, test: impl AsyncFnOnce(Scene) + Copy + Send + 'static) -> Vec<Trial> {
    in_turn(kinds).iter().map(|kind| on(*kind, name, test)).collect()
}

fn on(kind: Kind, name: &str, test: impl AsyncFnOnce(Scene) + Send + 'static) -> Trial {
    scene::trial(kind, name, cfg!(missing = "shim").then_some(MISSING), test)
}

/// Without this all else would show nothing.
async fn goes_by_its_clock(scene: Scene) {
    let clock = Clock::ahead(HOUR);
    let mut peer = scene.peer_by(&clock, "default");
    for shift in [HOUR, -HOUR, SignedDuration::from_millis(-2_100), RIGHT] {
        clock.step_to(shift);
        let told = Timestamp::from_millisecond(peer.tell("time").parse().unwrap()).unwrap();
        let ahead = told.duration_since(Timestamp::now());
        assert!((ahead - shift).abs() < SignedDuration::from_secs(1), "{ahead:#} and not {shift:#}");
    }
}

/// Jobs of every kind that run for longer than two leases, in the short form than one.
async fn long_jobs(scene: &Scene, queues: &[&str]) -> Vec<Job> {
    let (mut jobs, ticking) = (Vec::new(), by_length(20, 28));
    for queue in queues {
        let name = |task: &str| format!("{task} in the queue `{queue}`");
        jobs.push(scene.enqueue(&name("naps"), naps(ticking * 250).queue(*queue)).await);
        jobs.push(scene.enqueue(&name("naps_blocking"), naps_blocking(ticking * 250).queue(*queue)).await);
        jobs.push(scene.enqueue(&name("ticks"), ticks(ticking, 250).queue(*queue)).await);
        jobs.push(scene.enqueue(&name("ticks_blocking"), ticks_blocking(ticking, 250).queue(*queue)).await);
    }
    jobs
}

/// One serves a queue of its own, the other one too, and both serve a third. Others look on, at other moments.
async fn clocks_differ(scene: Scene, skew: SignedDuration) {
    let clock = Clock::ahead(skew);
    let _peers = [scene.peer("right,both"), scene.peer_by(&clock, "wrong,both")];
    let jobs = long_jobs(&scene, &["right", "wrong", "both"]).await;
    all_run(&jobs).await;
    let _onlookers = [scene.peer("elsewhere"), scene.peer_by(&clock, "elsewhere")];
    each_ends_at_its_first_attempt(&jobs).await;
}

async fn is_killed(scene: Scene, skew: SignedDuration) {
    let clock = Clock::ahead(skew);
    let victim = scene.peer_by(&clock, "default");
    let job = scene.enqueue("ticks", ticks(10_000, 100)).await;
    job.has_made(3).await;
    let _survivor = scene.peer("default");
    victim.kill();
    job.goes_on_elsewhere().await;
}

async fn steps(scene: Scene, step: SignedDuration, all_step: bool) {
    let (one, other) = (Clock::ahead(RIGHT), Clock::ahead(RIGHT));
    let _peers = [scene.peer_by(&one, "one,all"), scene.peer_by(&other, "other,all")];
    let jobs = long_jobs(&scene, &["one", "other", "all"]).await;
    all_run(&jobs).await;
    one.step_to(step);
    if all_step {
        other.step_to(step);
    }
    let _newcomer = scene.peer_by(&one, "elsewhere,all");
    each_ends_at_its_first_attempt(&jobs).await;
}

/// Under a thousand jobs a second.
async fn is_paused(scene: Scene, skew: SignedDuration) {
    let clock = Clock::ahead(skew);
    let (_worker, mut other) = (scene.peer("flow"), scene.peer_by(&clock, "elsewhere"));
    let (flow, app) = (Arc::new(AtomicBool::new(true)), scene.app.clone());
    let goes_on = flow.clone();
    let enqueuing = tokio::spawn(async move {
        while goes_on.load(Relaxed) {
            app.enqueue_all((0..50).map(|_| tells_when().queue("flow"))).await.expect("they fit");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let starts = async || {
        let done = Find::default().queue("flow").state(StateKind::Done);
        let done = scene.app.find(done).budget(Budget::jobs(100_000)).await.expect("they can be read").jobs;
        let start = |job: job::Job| match job.standing.state {
            State::Done { output: Output::Value(when) } => when.decode::<u64>().expect("it is a time"),
            state => panic!("{state:?}"),
        };
        done.into_iter().map(start).collect::<Vec<_>>()
    };
    within(PATIENCE, async || (starts().await.len() > 500).then_some(())).await.expect("jobs are done");
    let paused: u64 = other.tell("pause flow").parse().expect("it is a time");
    // By then all who are late have begun.
    within(PATIENCE, async || (now() - paused > 3_000_000_000).then_some(())).await.expect("time goes on");
    flow.store(false, Relaxed);
    enqueuing.await.expect("it ends");
    let last = starts().await.into_iter().max().expect("some are done");
    // A thread that was about to start a body may be late on a machine that is busy.
    let late = last.saturating_sub(paused + 1_000_000_000);
    assert!(late < 500_000_000, "a job was started {late} ns too late");
}

/// As it looks to those who run on it: all stand still, and then it is later. One worker starts in that moment.
async fn machine_sleeps(scene: Scene) {
    let clock = Clock::ahead(RIGHT);
    let peers = [scene.peer_by(&clock, "one,both"), scene.peer_by(&clock, "other,both")];
    let jobs = long_jobs(&scene, &["one", "other", "both"]).await;
    all_run(&jobs).await;
    for peer in &peers {
        peer.signal(Signal::STOP);
    }
    // Longer than a lease.
    tokio::time::sleep(Duration::from_secs(5)).await;
    clock.step_to(HOUR);
    for peer in &peers {
        peer.signal(Signal::CONT);
    }
    let _newcomer = scene.peer_by(&clock, "elsewhere,both");
    each_ends_at_its_first_attempt(&jobs).await;
}

/// On SQLite the time of day is the machine's. A worker that is idle, and bodies that sleep, look at it again and again.
async fn is_stepped_past(scene: Scene) {
    const AN_HOUR: u64 = 3_600_000;
    let clock = Clock::ahead(RIGHT);
    let _peer = scene.peer_by(&clock, "default");
    let mut jobs = vec![
        scene.enqueue("dozes", dozes(AN_HOUR)).await,
        scene.enqueue("dozes_blocking", dozes_blocking(AN_HOUR)).await,
    ];
    for job in &jobs {
        job.has_made(1).await;
    }
    jobs.push(scene.enqueue("tells_when", tells_when().delay(Duration::from_millis(AN_HOUR))).await);
    // The bodies go on as soon as their steps are durable, and are asleep after a moment.
    tokio::time::sleep(Duration::from_millis(500)).await;
    clock.step_to(HOUR + SignedDuration::from_secs(5));
    let done = within(Duration::from_secs(3), async || {
        let all = statuses(&jobs).await;
        all.iter().all(|status| status.state.name() == "done").then_some(())
    });
    assert!(done.await.is_some(), "not within three seconds: {}", told(&jobs, &statuses(&jobs).await));
}

/// A job is due when the server says so, whatever the clocks of the producer and of the worker say.
async fn delays(scene: Scene) {
    let clocks = [("ahead", HOUR), ("right", RIGHT), ("behind", -HOUR)].map(|(name, by)| (name, Clock::ahead(by)));
    let mut peers = clocks.each_ref().map(|(name, clock)| (*name, scene.peer_by(clock, name)));
    let mut jobs = Vec::new();
    for (by, producer) in &mut peers {
        for (queue, _) in &clocks {
            let (id, begun) = enqueued(producer, queue, 1_000);
            jobs.push((scene.job(&format!("enqueued {by}, run {queue}"), id).await, begun));
        }
    }
    starts_in_time(&jobs, Duration::from_millis(500)..Duration::from_secs(8)).await;
}

/// Has a process enqueue a job with a delay; gives when that was begun: the delay counts from there on.
fn enqueued(producer: &mut Peer, queue: &str, delay: u64) -> (JobId, u64) {
    let told = producer.tell(&format!("enqueue {queue} {delay}"));
    let [id, before, _after] = told.split(' ').collect::<Vec<_>>()[..] else { panic!("{told}") };
    (id.parse().unwrap(), before.parse().unwrap())
}

/// That jobs which tell when they start do so in a certain time after they were enqueued.
async fn starts_in_time(jobs: &[(Job, u64)], bounds: std::ops::Range<Duration>) {
    let starts = within(bounds.end + Duration::from_secs(2), async || {
        let mut starts = Vec::new();
        for (job, begun) in jobs {
            let state = job.status().await.state;
            let done = state.name() == "done";
            let start = if done { Some(job.handle.result_as::<u64>().await.unwrap()) } else { None };
            starts.push((&job.name, start.map(|start| Duration::from_nanos(start.saturating_sub(*begun)))));
        }
        let all = starts.iter().all(|(_, start)| start.is_some());
        (all || now() > jobs[0].1 + bounds.end.as_nanos() as u64).then_some(starts)
    });
    let starts = starts.await.expect("it gives up by itself");
    let good = |start: &Option<Duration>| start.is_some_and(|start| bounds.contains(&start));
    assert!(starts.iter().all(|(_, start)| good(start)), "they started after {starts:?}");
}

/// A delay and a sleep of four seconds, in whose middle the clock of the worker steps.
async fn waits_by_the_server(scene: Scene, step: SignedDuration) {
    let clock = Clock::ahead(RIGHT);
    let mut peer = scene.peer_by(&clock, "default");
    let sleepers =
        [scene.enqueue("dozes", dozes(4_000)).await, scene.enqueue("dozes_blocking", dozes_blocking(4_000)).await];
    for job in &sleepers {
        job.has_made(1).await;
    }
    let (id, begun) = enqueued(&mut peer, "default", 4_000);
    let delayed = scene.job("tells_when", id).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    clock.step_to(step);
    starts_in_time(&[(delayed, begun)], Duration::from_secs(3)..Duration::from_secs(12)).await;
    each_ends_at_its_first_attempt(&sleepers).await;
    for job in sleepers {
        let slept = job.handle.result_as::<Vec<u64>>().await.unwrap()[1];
        assert!((3_000..12_000).contains(&slept), "{} slept for {slept} ms", job.name);
    }
}
