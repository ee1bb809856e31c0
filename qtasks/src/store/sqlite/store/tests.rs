//! What only this store does, seen through its calls.

use super::*;
use crate::store::sqlite::fixture::{NOW, ask, lease, neighbour, new_job, soon, store, temp_url};
use crate::{
    model::{
        job::{Ending, JobCall, NextState, Output, Progress, Reply, Shape, StateKind, Suspect, Version},
        json::Json,
        lifecycle::Outcome,
    },
    store::{FindArg, Hold, JobCounts, Suspects},
};

fn step(seq: u64) -> Step {
    Step { seq, hash: u64::MAX - seq, reply: Reply::Value(Json::from_stored(seq.to_string())) }
}

fn record(lease: Lease, steps: Vec<Step>) -> Record {
    Record { lease, steps, memos: Vec::new(), jobs: Vec::new(), progress: None, passed: false }
}

fn settlement(job: &Job, worker: WorkerId, output: Output) -> Settlement {
    let attempt = Attempt {
        number: job.standing.attempt,
        worker,
        started: Some(NOW),
        ended: NOW,
        ending: Ending::Done,
        steps: None,
    };
    Settlement {
        hold: Hold::Lease(Lease { job: job.call.id, attempt: job.standing.attempt, worker }),
        outcome: Outcome { next: NextState::Done { output }, failures: 0, suspect: None },
        steps: None,
        attempt: Some(attempt),
        now: NOW,
    }
}

fn worker(job: &Job) -> WorkerId {
    job.standing.state.worker().expect("it runs")
}

/// An older qtasks kept all.
#[tokio::test]
async fn of_thousands_of_attempts_those_to_be_kept_are_read_and_the_next_settlement_deletes_the_others() {
    let (folder, store) = store().await;
    store.enqueue(vec![new_job()]).await.unwrap();
    let job = lease(&store, 1).await.remove(0);
    let file = neighbour(&folder);
    let plant = "WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < 5000)
                 INSERT INTO qtasks_attempts (job, number, worker, ended, ending)
                     SELECT ?1, n, ?1, 0, 'snoozed' FROM n";
    file.execute(plant, [job.call.id.to_bytes()]).unwrap();
    let numbers = async || -> Vec<u32> {
        store.attempts(job.call.id).await.unwrap().iter().map(|attempt| attempt.number).collect()
    };
    assert_eq!(numbers().await, (1..=10).chain(4911..=5000).collect::<Vec<_>>());
    let mut settled = settlement(&job, worker(&job), Output::Value(Json::from_stored("1")));
    settled.attempt.as_mut().unwrap().number = 5001;
    assert_eq!(store.settle([settled].into()).await.unwrap(), [Written::Yes]);
    assert_eq!(numbers().await, (1..=10).chain(4912..=5001).collect::<Vec<_>>());
    let rows: i64 = file.query_row("SELECT count(*) FROM qtasks_attempts", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 100);
}

#[tokio::test]
async fn all_of_a_job_is_there_after_reopening() {
    let (_folder, url) = temp_url("");
    let store = Sqlite::open(&url).await.unwrap();
    let large = Json::from_stored(format!("{{\"text\":\"{}\"}}", "x".repeat(5000)));
    store.enqueue(vec![NewJob::from(JobCall { args: large.clone(), priority: -7, ..new_job().call })]).await.unwrap();
    let job = lease(&store, 1).await.remove(0);
    assert_eq!((&job.call.args, job.call.priority), (&large, -7));
    let lease = Lease { job: job.call.id, attempt: 1, worker: worker(&job) };
    let progress = Some(Progress { done: u64::MAX, total: 3 });
    let skipped = Step { reply: Reply::Skipped("no".into()), ..step(1) };
    let record = Record { progress, ..record(lease, vec![step(0), skipped.clone()]) };
    assert_eq!(store.record([record].into()).await.unwrap(), [Written::Yes]);
    let settled = settlement(&job, worker(&job), Output::Steps(Shape::List));
    assert_eq!(store.settle([settled.clone()].into()).await.unwrap(), [Written::Yes]);
    drop(store);

    let store = Sqlite::open(&url).await.unwrap();
    let found = store.job(job.call.id).await.unwrap().unwrap();
    let counts = Counts { steps: 2, skipped: 1, memos: 0, progress };
    assert_eq!(found, Job { standing: settled.outcome.standing(1), counts, ended: Some(NOW), ..job });
    assert_eq!(store.steps(found.call.id, 0, 9).await.unwrap(), [step(0), skipped]);
    assert_eq!(store.last_step(found.call.id).await.unwrap(), Some(step(0)));
    let attempt = Attempt { steps: Some(2), ..settled.attempt.unwrap() };
    assert_eq!(store.attempts(found.call.id).await.unwrap(), [attempt]);
}

#[tokio::test]
async fn a_suspect_is_one_after_reopening() {
    let (_folder, url) = temp_url("");
    let store = Sqlite::open(&url).await.unwrap();
    store.enqueue(vec![new_job()]).await.unwrap();
    let job = lease(&store, 1).await.remove(0);
    let known = Suspect { survived: Duration::from_millis(90_001), losses: 3, ..Suspect::default() };
    let outcome = Outcome { next: NextState::Waiting { due: NOW }, failures: 2, suspect: Some(known) };
    let lost = Settlement { outcome: outcome.clone(), ..settlement(&job, worker(&job), Output::Steps(Shape::List)) };
    assert_eq!(store.settle([lost].into()).await.unwrap(), [Written::Yes]);
    drop(store);
    let store = Sqlite::open(&url).await.unwrap();
    let found = store.job(job.call.id).await.unwrap().unwrap();
    assert_eq!(found, Job { standing: outcome.standing(1), ..job });
    assert!(lease(&store, 1).await.is_empty(), "it is passed over");
    let asked = Ask { suspects: Suspects::OneAlone, ..ask(1) };
    let leased = store.lease(asked).await.unwrap().jobs.remove(0);
    assert_eq!(leased.standing.suspect, Some(Suspect { leased: Some(NOW), liable: true, ..known }));
    drop(store);
    let store = Sqlite::open(&url).await.unwrap();
    assert_eq!(store.job(leased.call.id).await.unwrap().unwrap(), leased);
}

#[tokio::test]
async fn two_stores_on_one_file_wake_each_other() {
    let (_folder, url) = temp_url("");
    let (one, other) = (Sqlite::open(&url).await.unwrap(), Sqlite::open(&url).await.unwrap());
    let job = new_job();
    let (mut work, mut changes) = (other.notifier().work(), one.notifier().job(job.call.id));
    one.enqueue(vec![job]).await.unwrap();
    soon(work.notification()).await;
    assert_eq!(lease(&other, 1).await.len(), 1);
    soon(changes.notification()).await;
}

#[tokio::test]
async fn a_job_with_more_steps_than_one_transaction_deletes_is_pruned_whole() {
    let (_folder, store) = store().await;
    store.enqueue(vec![new_job(), new_job()]).await.unwrap();
    let jobs = lease(&store, 2).await;
    let lease = Lease { job: jobs[0].call.id, attempt: 1, worker: worker(&jobs[0]) };
    for steps in (0..10_000).map(step).collect::<Vec<_>>().chunks(1000) {
        assert_eq!(store.record([record(lease, steps.to_vec())].into()).await.unwrap(), [Written::Yes]);
    }
    for job in &jobs {
        let settlement = settlement(job, worker(job), Output::Steps(Shape::Count));
        assert_eq!(store.settle([settlement].into()).await.unwrap(), [Written::Yes]);
    }
    assert_eq!(store.prune(NOW, NOW, 9).await.unwrap(), 0);
    let later = NOW + jiff::SignedDuration::from_secs(1);
    assert_eq!(store.prune(later, later, 9).await.unwrap(), 2);
    assert_eq!(store.job(jobs[0].call.id).await.unwrap(), None);
    assert_eq!(store.steps(jobs[0].call.id, 0, 9).await.unwrap(), []);
    assert_eq!(store.attempts(jobs[0].call.id).await.unwrap(), []);
}

/// How many rows these tables have.
fn rows<const N: usize>(file: &rusqlite::Connection, tables: [&str; N]) -> [i64; N] {
    tables.map(|table| file.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap())
}

#[tokio::test]
async fn jobs_that_are_done_at_once_need_one_more_row_together() {
    let (folder, store) = store().await;
    store.enqueue((0..20).map(|_| new_job()).collect()).await.unwrap();
    let jobs = lease(&store, 20).await;
    let settlements = jobs.iter().map(|job| settlement(job, worker(job), Output::Steps(Shape::Nothing)));
    _ = store.settle(settlements.collect()).await.unwrap();
    let file = neighbour(&folder);
    let tables = ["qtasks_jobs", "qtasks_attempts", "qtasks_ends"];
    assert_eq!(rows(&file, tables), [20, 0, 1]);
    for job in &jobs {
        assert_eq!(store.attempts(job.call.id).await.unwrap().len(), 1);
    }
    // A part, and what is not old enough is listed again.
    let later = NOW + jiff::SignedDuration::from_secs(1);
    for (before, limit, pruned, remaining) in [(NOW, 9, 0, 20), (later, 7, 7, 13), (later, 20, 13, 0)] {
        assert_eq!(store.prune(before, before, limit).await.unwrap(), pruned);
        assert_eq!(rows(&file, tables), [remaining, 0, remaining.min(1)]);
    }
}

#[tokio::test]
async fn jobs_with_more_steps_than_are_deleted_at_once_are_all_pruned() {
    let (_folder, store) = store().await;
    store.enqueue((0..3).map(|_| new_job()).collect()).await.unwrap();
    let jobs = lease(&store, 3).await;
    for job in &jobs {
        let lease = Lease { job: job.call.id, attempt: 1, worker: worker(job) };
        let steps = (0..1500).map(step).collect();
        assert_eq!(store.record([record(lease, steps)].into()).await.unwrap(), [Written::Yes]);
    }
    let settlements = jobs.iter().map(|job| settlement(job, worker(job), Output::Steps(Shape::Count)));
    _ = store.settle(settlements.collect()).await.unwrap();
    assert_eq!(store.prune(Timestamp::MAX, Timestamp::MAX, 2).await.unwrap(), 2);
    assert_eq!(store.prune(Timestamp::MAX, Timestamp::MAX, 9).await.unwrap(), 1);
}

#[tokio::test]
async fn a_dropped_call_is_carried_out() {
    let (_folder, url) = temp_url("");
    let store = Sqlite::open(&url).await.unwrap();
    let job = new_job();
    let id = job.call.id;
    {
        let mut call = store.enqueue(vec![job]);
        _ = futures::poll!(&mut call);
    }
    drop(store);
    let store = Sqlite::open(&url).await.unwrap();
    // The first store's writer may still be at it.
    let mut work = store.notifier().work();
    while store.job(id).await.unwrap().is_none() {
        soon(work.notification()).await;
    }
}

async fn counts(store: &Sqlite) -> Vec<(String, JobCounts)> {
    let counts = store.counts(NOW).await.unwrap();
    let mut counts: Vec<_> = counts.into_iter().map(|lane| (lane.lane.queue, lane.jobs)).collect();
    counts.sort_by(|one, other| one.0.cmp(&other.0));
    counts
}

#[tokio::test]
async fn counts_that_are_wrong_are_mended_once_however_many_do_it() {
    let (folder, url) = temp_url("");
    let (one, other) = (Sqlite::open(&url).await.unwrap(), Sqlite::open(&url).await.unwrap());
    let elsewhere = NewJob::from(JobCall { queue: "elsewhere".into(), ..new_job().call });
    one.enqueue(vec![new_job(), new_job(), new_job(), elsewhere]).await.unwrap();
    assert_eq!(lease(&one, 1).await.len(), 1);
    let right = counts(&one).await;
    assert_eq!(one.recount().await.unwrap(), 0);
    let spoil = "UPDATE qtasks_lanes SET waiting = 99, running = running - 5, dead = 7 WHERE queue = 'default'";
    neighbour(&folder).execute(spoil, []).unwrap();
    assert_eq!(counts(&one).await[0].1.running, 0, "there is no number below none");
    // What changes meanwhile is counted too.
    let (mended, mended_too, enqueued) =
        futures::join!(one.recount(), other.recount(), other.enqueue(vec![new_job(), new_job()]));
    enqueued.unwrap();
    let lanes = [mended.unwrap(), mended_too.unwrap()];
    assert!(lanes == [1, 0] || lanes == [0, 1] || lanes == [1, 1], "{lanes:?}");
    assert_eq!(one.recount().await.unwrap(), 0);
    let mut expected = right;
    expected[0].1.waiting += 2;
    assert_eq!(counts(&other).await, expected);
}

#[tokio::test]
async fn a_job_that_another_process_leased_is_counted_where_it_is() {
    let (_folder, url) = temp_url("");
    let (one, other) = (Sqlite::open(&url).await.unwrap(), Sqlite::open(&url).await.unwrap());
    let elsewhere = NewJob::from(JobCall { queue: "elsewhere".into(), ..new_job().call });
    one.enqueue(vec![elsewhere, new_job()]).await.unwrap();
    let job = lease(&one, 9).await.remove(0);
    let settlement = settlement(&job, worker(&job), Output::Steps(Shape::Nothing));
    assert_eq!(other.settle([settlement].into()).await.unwrap(), [Written::Yes]);
    let of = |waiting, done| {
        let mut counts = JobCounts::default();
        (counts.waiting, counts.done) = (waiting, done);
        counts
    };
    assert_eq!(counts(&one).await, [("default".into(), of(0, 1)), ("elsewhere".into(), of(1, 0))]);
}

/// The writer remembers where it leased a job; and in vain, if the lease was rolled back and the job moved since.
#[tokio::test]
async fn a_lane_of_a_lease_that_was_rolled_back_is_not_remembered() {
    let (folder, url) = temp_url("");
    let (one, other) = (Sqlite::open(&url).await.unwrap(), Sqlite::open(&url).await.unwrap());
    let (job, file) = (new_job(), neighbour(&folder));
    one.enqueue(vec![job.clone()]).await.unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE UPDATE ON qtasks_lanes WHEN NEW.running = 1
                  BEGIN SELECT raise(ABORT, 'no'); END";
    file.execute_batch(refuse).unwrap();
    one.lease(ask(1)).await.unwrap_err();
    file.execute_batch("DROP TRIGGER refuse").unwrap();
    assert_eq!(one.recount().await.unwrap(), 0, "what was rolled back is not counted");
    let queue = "elsewhere".to_owned();
    let placement = Placement { job: job.call.id, queue: Some(queue.clone()), priority: None, due: None };
    assert_eq!(one.place(placement).await.unwrap(), Written::Yes);
    let ask = Ask { queues: Arc::new([queue]), ..ask(1) };
    let job = other.lease(ask).await.unwrap().jobs.remove(0);
    let settlement = settlement(&job, worker(&job), Output::Steps(Shape::Nothing));
    assert_eq!(one.settle([settlement].into()).await.unwrap(), [Written::Yes]);
    assert_eq!(one.recount().await.unwrap(), 0);
}

#[tokio::test]
async fn a_change_of_notes_is_heard_of_by_other_processes() {
    let (_folder, url) = temp_url("");
    let (one, other) = (Sqlite::open(&url).await.unwrap(), Sqlite::open(&url).await.unwrap());
    let mut notes = other.notifier().notes();
    let (kind, name, version) = ("pause".to_owned(), "all".to_owned(), Version::new());
    let note = Note { kind, name, version, value: Json::from_stored("{}"), until: None };
    let change = NoteChange::Write { note: note.clone(), seen: None };
    assert_eq!(one.note(vec![change], vec![]).await.unwrap(), Written::Yes);
    soon(notes.notification()).await;
    assert_eq!(other.notes("pause").await.unwrap(), [note]);
}

#[tokio::test]
async fn a_job_with_large_arguments_is_found_by_them() {
    let (_folder, store) = store().await;
    let args = Json::from_stored(format!("{{\"user\":7,\"text\":\"{}\"}}", "x".repeat(5000)));
    let large = NewJob::from(JobCall { args, ..new_job().call });
    store.enqueue(vec![new_job(), large.clone(), new_job()]).await.unwrap();
    let find = |value: &str| Find {
        args: vec![FindArg { path: vec!["user".into()], values: vec![value.into()] }],
        ..Find::default()
    };
    let page = store.find(find("7"), None, Budget::PAGE).await.unwrap();
    assert_eq!((page.jobs, page.looked, page.next), (vec![large.into()], 3, None));
    assert_eq!(store.find(find("8"), None, Budget::PAGE).await.unwrap().jobs, []);
}

/// More than are looked at in one go.
#[tokio::test]
async fn a_search_goes_through_thousands_of_jobs() {
    let (_folder, store) = store().await;
    let jobs: Vec<_> = (0..10_000).map(|_| new_job()).collect();
    let last = jobs[0].call.id;
    store.enqueue(jobs).await.unwrap();
    let moved = Placement { job: last, queue: None, priority: Some(1), due: Some(Timestamp::MAX) };
    assert_eq!(store.place(moved).await.unwrap(), Written::Yes);
    let find = Find { ended_after: Some(NOW), ..Find::default() };
    let page = store.find(find, None, Budget::PAGE).await.unwrap();
    assert_eq!((page.jobs.len(), page.looked, page.next), (0, 10_000, None));
    let page = store.find(Find::default(), None, Budget::jobs(9_999)).await.unwrap();
    assert_eq!((page.jobs.len(), page.looked), (9_999, 9_999));
    let page = store.find(Find::default(), page.next, Budget::PAGE).await.unwrap();
    assert_eq!((page.jobs[0].call.id, page.jobs.len(), page.next), (last, 1, None));
}

#[tokio::test]
async fn dead_jobs_are_listed_until_they_are_tried_again_or_pruned() {
    let (folder, store) = store().await;
    store.enqueue((0..3).map(|_| new_job()).collect()).await.unwrap();
    let jobs = lease(&store, 3).await;
    let outcome = |next| Outcome { next, failures: 0, suspect: None };
    let die = |job| Settlement {
        outcome: outcome(NextState::Dead { error: "no".into() }),
        ..settlement(job, worker(job), Output::Steps(Shape::List))
    };
    _ = store.settle(jobs.iter().map(die).collect()).await.unwrap();
    let file = neighbour(&folder);
    assert_eq!(rows(&file, ["qtasks_dead"]), [3]);
    for next in [NextState::Dead { error: "still".into() }, NextState::Waiting { due: NOW }] {
        let hold = Hold::Seen { job: jobs[0].call.id, state: StateKind::Dead, attempt: 1 };
        let again = Settlement { hold, outcome: outcome(next), attempt: None, ..die(&jobs[0]) };
        assert_eq!(store.settle([again].into()).await.unwrap(), [Written::Yes]);
    }
    assert_eq!(rows(&file, ["qtasks_dead"]), [2]);
    assert_eq!(store.prune(Timestamp::MAX, Timestamp::MAX, 9).await.unwrap(), 2);
    assert_eq!(rows(&file, ["qtasks_dead"]), [0]);
}

#[tokio::test]
async fn what_is_rolled_back_is_not_counted() {
    let (folder, store) = store().await;
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON qtasks_jobs WHEN NEW.rank = 9
                  BEGIN SELECT raise(ABORT, 'no'); END";
    neighbour(&folder).execute_batch(refuse).unwrap();
    let refused = NewJob::from(JobCall { priority: -9, ..new_job().call });
    store.enqueue(vec![new_job(), refused]).await.unwrap_err();
    store.enqueue(vec![new_job()]).await.unwrap();
    assert_eq!((counts(&store).await[0].1.waiting, store.recount().await.unwrap()), (1, 0));
}
