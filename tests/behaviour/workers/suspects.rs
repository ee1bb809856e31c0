//! Suspects: jobs that ran when their worker was lost, and may be what killed it.

use std::time::Duration;

use jiff::Timestamp;
use qtasks::{
    Clock,
    job::{Ending, Lease, NextState, Output, Suspect},
    json::Json,
    lifecycle::Outcome,
    prelude::*,
    store::{Hold, Settlement, Written},
};
use qtasks_tests::{Diary, Stage, eventually, in_time, on_every_store};

use super::{
    doubted::{comes_and_goes, holds_up},
    losing::{all_vanished, builds, leased, notes, record, step, taken_over, vanished},
};

on_every_store![
    a_job_that_is_lost_again_and_again_is_dead_in_the_end,
    a_job_that_kills_its_workers_takes_no_neighbour_with_it,
    a_job_that_gets_on_between_its_losses_is_never_dead,
    a_user_has_a_suspect_tried_again_like_any_other_job,
    suspects_run_one_at_a_time_however_many_workers_an_application_has,
    a_suspect_waits_no_longer_than_others_of_its_age,
    a_suspect_that_makes_a_step_passes_its_turn_on_at_once,
];

#[qtask]
async fn has_no_steps() -> u32 {
    TaskContext::current().attempt()
}

async fn a_job_that_is_lost_again_and_again_is_dead_in_the_end(stage: Stage) {
    let job = stage.app.enqueue(has_no_steps()).await.unwrap();
    for (state, failures) in [("waiting", 0), ("waiting", 1), ("waiting", 2), ("dead", 3)] {
        taken_over(&stage, &[vanished(&stage).await]).await;
        let status = job.status().await.unwrap();
        assert_eq!((status.state.name(), status.failures), (state, failures));
    }
    let error = job.result().await.unwrap_err().to_string();
    let said = "is dead: its worker was lost while it ran, failure 3 in a row: it may be what kills its workers";
    assert!(error.ends_with(said), "{error}");
    let attempts = job.status().await.unwrap().attempts;
    assert_eq!(attempts.iter().map(|attempt| &attempt.ending).collect::<Vec<_>>(), [&Ending::Lost; 4]);
}

async fn a_job_that_kills_its_workers_takes_no_neighbour_with_it(stage: Stage) {
    let poison = stage.app.enqueue(has_no_steps().priority(1)).await.unwrap();
    let neighbours = stage.app.enqueue_all((0..6).map(|_| has_no_steps())).await.unwrap();
    let mut kills = 0;
    while poison.status().await.unwrap().state.name() != "dead" {
        let leases = leased(&stage, 4).await;
        if leases.iter().any(|lease| lease.job == poison.id()) {
            // The worker that runs the poison dies at once, with all that it has leased.
            stage.store.leave(leases[0].worker).await.unwrap();
            taken_over(&stage, &leases).await;
            kills += 1;
            continue;
        }
        assert_eq!(leases.len(), 1, "the others are suspects too by now, and run one at a time");
        let ended = given(leases[0], NextState::Done { output: Output::Value(Json::from_stored("1")) }, None);
        assert_eq!(stage.store.settle([ended].into()).await.unwrap(), [Written::Yes]);
    }
    assert_eq!(kills, 4, "the first is no failure, and the third failure ends it");
    stage.work().await;
    for job in neighbours {
        in_time(job.result()).await.unwrap();
        assert_eq!(job.status().await.unwrap().failures, 0);
        assert!(
            stage.store.job(job.id()).await.unwrap().unwrap().standing.suspect.is_none(),
            "what has ended is no suspect"
        );
    }
}

/// The settlement of a job under its lease.
fn given(lease: Lease, next: NextState, suspect: Option<Suspect>) -> Settlement {
    Settlement {
        hold: Hold::Lease(lease),
        outcome: Outcome { next, failures: 0, suspect },
        steps: None,
        attempt: None,
        now: Timestamp::now(),
    }
}

async fn a_job_that_gets_on_between_its_losses_is_never_dead(stage: Stage) {
    let job = stage.app.enqueue(builds(8)).await.unwrap();
    let (mut sum, mut value) = (0, 0);
    for seq in 0..7 {
        let lease = vanished(&stage).await;
        let yielded = value + sum;
        let written = stage.store.record(record(lease, vec![step(seq, yielded, yielded * 10)]).into()).await.unwrap();
        assert_eq!(written, [Written::Yes]);
        (sum, value) = (sum + yielded * 10, value + 1);
        taken_over(&stage, &[lease]).await;
        assert_eq!(job.status().await.unwrap().failures, 0, "after a new step it is not to blame");
    }
    stage.work().await;
    assert_eq!(job.result().await.unwrap().len(), 8);
    assert_eq!(job.status().await.unwrap().failures, 0);
}

async fn a_user_has_a_suspect_tried_again_like_any_other_job(stage: Stage) {
    let job = stage.app.enqueue(has_no_steps()).await.unwrap();
    for _ in 0..4 {
        taken_over(&stage, &[vanished(&stage).await]).await;
    }
    job.retry().await.unwrap();
    let again = stage.store.job(job.id()).await.unwrap().unwrap();
    assert_eq!((again.standing.state.name(), again.standing.failures, again.standing.suspect), ("waiting", 0, None));
    stage.work().await;
    assert_eq!(job.result().await.unwrap(), 5);
}

/// Makes suspects of jobs that are due.
async fn suspected(stage: &Stage, count: usize) {
    let leases = all_vanished(stage, count).await;
    assert_eq!(leases.len(), count);
    taken_over(stage, &leases).await;
}

async fn suspects_run_one_at_a_time_however_many_workers_an_application_has(stage: Stage) {
    let suspects = stage.app.enqueue_all((0..20).map(|_| comes_and_goes("suspect".into()))).await.unwrap();
    suspected(&stage, 20).await;
    let others = stage.app.enqueue_all((0..20).map(|_| comes_and_goes("other".into()))).await.unwrap();
    let workers = [stage.app.worker().concurrency(3), stage.app.worker().concurrency(1)].map(|w| w.run_until_idle());
    for idle in in_time(futures::future::join_all(workers)).await {
        idle.unwrap();
    }
    for job in suspects.iter().chain(&others) {
        in_time(job.result()).await.unwrap();
        assert_eq!(job.status().await.unwrap().failures, 0);
    }
    let lines = stage.diary.lines();
    let of_suspects: Vec<_> = lines.iter().filter(|line| line.starts_with("suspect")).collect();
    assert!(of_suspects.chunks(2).all(|pair| pair == ["suspect comes", "suspect goes"]), "{of_suspects:?}");
    assert_eq!(of_suspects.len(), 40);
}

async fn a_suspect_waits_no_longer_than_others_of_its_age(stage: Stage) {
    let suspect = stage.app.enqueue(comes_and_goes("suspect".into())).await.unwrap();
    let lease = vanished(&stage).await;
    let first = stage.app.enqueue(holds_up()).await.unwrap();
    let others = stage.app.enqueue_all((0..20).map(|_| comes_and_goes("other".into()))).await.unwrap();
    let worker = stage.app.worker().concurrency(1).start().await.unwrap();
    stage.diary.until("holds up").await;
    let state = async || stage.store.job(lease.job).await.unwrap().unwrap().standing.state;
    eventually("taken over", async || state().await.name() != "running").await;
    stage.diary.note("go on");
    for job in others.iter().chain([&suspect]) {
        in_time(job.result()).await.unwrap();
    }
    in_time(first.result()).await.unwrap();
    let lines = stage.diary.lines();
    let before = lines.iter().position(|line| line == "suspect comes").unwrap();
    assert!(before < 10, "although others were leased ahead all the time: {lines:?}");
    worker.shutdown().await.unwrap();
}

/// Makes suspects of so many jobs that hold up on a store in memory with tokio's clock, and starts two workers.
async fn suspects_that_hold_up(count: usize) -> (Stage, Vec<JobHandle<()>>, Vec<qtasks::Worker>) {
    let stage = Stage::in_memory(|builder| builder.clock(Clock::tokio())).await;
    let jobs = stage.app.enqueue_all((0..count).map(|_| holds_up())).await.unwrap();
    for lease in all_vanished(&stage, count).await {
        let lost = given(lease, NextState::Waiting { due: Timestamp::now() }, Some(Suspect::default()));
        assert_eq!(stage.store.settle([lost].into()).await.unwrap(), [Written::Yes]);
    }
    let workers = [stage.app.worker().concurrency(1), stage.app.worker()].map(|worker| worker.start());
    (stage, jobs, futures::future::try_join_all(workers).await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_suspect_that_does_not_end_passes_its_turn_on_when_it_has_lived_long_enough() {
    let (stage, jobs, workers) = suspects_that_hold_up(6).await;
    stage.diary.until("holds up").await;
    // Time passes here only when nothing is left to do.
    tokio::time::sleep(Duration::from_millis(4_900)).await;
    assert_eq!(stage.diary.count("holds up"), 1);
    let suspect =
        async |job: &JobHandle<()>| stage.store.job(job.id()).await.unwrap().unwrap().standing.suspect.unwrap();
    assert!(suspect(&jobs[0]).await.liable, "it has the turn");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(stage.diary.count("holds up"), 2);
    for job in &jobs[..2] {
        assert!(!suspect(job).await.liable, "of two that run beside each other none is to blame");
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(stage.diary.count("holds up"), 6);
    stage.diary.note("go on");
    for job in jobs {
        job.result().await.unwrap();
    }
    for worker in workers {
        worker.shutdown().await.unwrap();
    }
}

#[qtask(generate_handler = notes)]
async fn makes_a_step_and_stays(diary: State<Diary>) -> Vec<i64> {
    yield_!(1);
    diary.told("go on").await;
}

async fn a_suspect_that_makes_a_step_passes_its_turn_on_at_once(stage: Stage) {
    let jobs = stage.app.enqueue_all((0..3).map(|_| makes_a_step_and_stays())).await.unwrap();
    suspected(&stage, 3).await;
    let worker = stage.app.worker().start().await.unwrap();
    eventually("all of them handle a value", async || stage.diary.count("handle 1") == 3).await;
    for job in &jobs {
        let job = async || stage.store.job(job.id()).await.unwrap().unwrap();
        eventually("its step is recorded", async || job().await.counts.steps == 1).await;
        assert_eq!(job().await.standing.suspect.map(|suspect| (suspect.losses, suspect.liable)), Some((0, false)));
    }
    stage.diary.note("go on");
    for job in jobs {
        in_time(job.result()).await.unwrap();
    }
    worker.shutdown().await.unwrap();
}
