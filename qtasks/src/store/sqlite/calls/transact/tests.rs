//! What handlers write is there with their steps, or not at all.

use std::sync::Mutex;

use super::*;
use crate::{
    error::chain,
    model::{
        job::{Job, JobCall, NewJob, WorkerId},
        json::Json,
    },
    store::{
        Budget, Record, Store, Written,
        sqlite::{
            Sqlite,
            calls::enqueue::enqueue,
            fixture::{NOW, lease, neighbour, new_job, soon, temp_url},
            presence::Workers,
            transaction::Transaction,
        },
    },
};

/// A store with a table of the application's own, and what its handlers did.
struct Scene {
    folder: tempfile::TempDir,
    store: Sqlite,
    ran: Arc<Mutex<Vec<u64>>>,
}

impl Scene {
    async fn new() -> Self {
        let (folder, url) = temp_url("");
        let store = Sqlite::open(&url).await.unwrap();
        neighbour(&folder)
            .execute_batch(
                "CREATE TABLE kinds (id INTEGER PRIMARY KEY);
                     CREATE TABLE rows (value INTEGER UNIQUE, kind REFERENCES kinds DEFERRABLE INITIALLY DEFERRED)",
            )
            .unwrap();
        Self { folder, store, ran: Arc::default() }
    }

    async fn running(&self) -> Lease {
        self.store.enqueue(vec![new_job()]).await.unwrap();
        let job = lease(&self.store, 1).await.remove(0);
        let worker = job.standing.state.worker().expect("it runs");
        Lease { job: job.call.id, attempt: job.standing.attempt, worker }
    }

    fn work(
        &self,
        seq: u64,
        handler: impl FnOnce(&Transaction<'_>) -> Option<Reply> + Send + 'static,
    ) -> Arc<PendingStep> {
        let ran = Arc::clone(&self.ran);
        let run: InTransaction = Box::new(move |tx| {
            ran.lock().unwrap().push(seq);
            handler(tx)
        });
        Arc::new(PendingStep::new(seq, seq, 0, Box::new(run)))
    }

    /// A handler that inserts its number and replies.
    fn inserts(&self, seq: u64, reply: Option<Reply>) -> Arc<PendingStep> {
        self.work(seq, move |tx| {
            tx.execute("INSERT INTO rows (value) VALUES (?1)", [seq.cast_signed()]).unwrap();
            reply
        })
    }

    fn all_insert(&self, seqs: std::ops::Range<u64>) -> Vec<Arc<PendingStep>> {
        seqs.map(|seq| self.inserts(seq, Some(value(seq)))).collect()
    }

    async fn transact(&self, lease: Lease, works: &[Arc<PendingStep>]) -> Result<Transacted> {
        // However slow the machine is, the transaction is not cut short.
        let (lease, works, long) = (Some(lease), works.to_vec(), Duration::MAX);
        self.store.writer.queue.ask(Transact { lease, works, long, to_blame: RefCell::default() }).await
    }

    fn ran(&self) -> Vec<u64> {
        std::mem::take(&mut *self.ran.lock().unwrap())
    }

    fn rows(&self) -> Vec<i64> {
        let database = neighbour(&self.folder);
        let mut rows = database.prepare("SELECT value FROM rows ORDER BY rowid").unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    async fn steps(&self, lease: Lease) -> Vec<Reply> {
        let steps = self.store.steps(lease.job, 0, 10_000).await.unwrap();
        steps.into_iter().map(|step| step.reply).collect()
    }

    async fn job(&self, lease: Lease) -> Job {
        self.store.job(lease.job).await.unwrap().unwrap()
    }
}

fn value(seq: u64) -> Reply {
    Reply::Value(Json::from_stored(seq.to_string()))
}

fn skipped() -> Reply {
    Reply::Skipped("no".into())
}

#[tokio::test]
async fn rows_and_steps_are_written_together() {
    let scene = Scene::new().await;
    let lease = scene.running().await;
    for (range, count) in [(0..3, 3), (3..103, 103), (103..105, 105)] {
        assert_eq!(scene.transact(lease, &scene.all_insert(range)).await.unwrap(), Transacted::Upto(count));
        assert_eq!(scene.rows(), (0..count.cast_signed()).collect::<Vec<_>>());
        assert_eq!(scene.steps(lease).await, (0..count).map(value).collect::<Vec<_>>());
        assert_eq!(scene.job(lease).await.counts.steps, count);
    }
    assert_eq!(scene.ran(), (0..105).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_handler_that_fails_or_skips_undoes_only_what_it_wrote() {
    let scene = Scene::new().await;
    let lease = scene.running().await;
    let works = [
        scene.inserts(0, Some(value(0))),
        scene.inserts(1, Some(skipped())),
        scene.inserts(2, Some(value(2))),
        scene.inserts(3, None),
        scene.inserts(4, Some(value(4))),
    ];
    assert_eq!(scene.transact(lease, &works).await.unwrap(), Transacted::Failed(3));
    assert_eq!(scene.ran(), [0, 1, 2, 3], "none runs after one that failed");
    assert_eq!(scene.rows(), [0, 2]);
    assert_eq!(scene.steps(lease).await, [value(0), skipped(), value(2)]);
    let job = scene.job(lease).await;
    assert_eq!((job.counts.steps, job.counts.skipped), (3, 1));
}

#[tokio::test]
async fn a_call_whose_answer_was_lost_runs_nothing_twice() {
    let scene = Scene::new().await;
    let lease = scene.running().await;
    let works = scene.all_insert(0..3);
    for _ in 0..2 {
        assert_eq!(scene.transact(lease, &works).await.unwrap(), Transacted::Upto(3));
    }
    // Others may be new in it.
    let more = [works, scene.all_insert(3..4)].concat();
    assert_eq!(scene.transact(lease, &more).await.unwrap(), Transacted::Upto(4));
    assert_eq!((scene.ran(), scene.rows()), (vec![0, 1, 2, 3], vec![0, 1, 2, 3]));
}

#[tokio::test]
async fn without_the_lease_no_handler_runs() {
    let scene = Scene::new().await;
    let lease = scene.running().await;
    for other in [Lease { attempt: 2, ..lease }, Lease { worker: WorkerId::new(), ..lease }] {
        assert_eq!(scene.transact(other, &scene.all_insert(0..1)).await.unwrap(), Transacted::Fenced);
    }
    assert_eq!((scene.ran(), scene.rows()), (vec![], vec![]));
}

#[tokio::test]
async fn values_that_leave_a_gap_are_refused_and_none_is_handled() {
    let scene = Scene::new().await;
    let lease = scene.running().await;
    let error = scene.transact(lease, &scene.all_insert(1..2)).await.unwrap_err();
    assert!(!error.is_store_trouble(), "{error:?}");
    assert!(scene.ran().is_empty());
}

#[tokio::test]
async fn steps_and_handlers_of_one_job_go_on_from_each_other() {
    let scene = Scene::new().await;
    let lease = scene.running().await;
    assert_eq!(scene.transact(lease, &scene.all_insert(0..2)).await.unwrap(), Transacted::Upto(2));
    let step = Step { seq: 2, hash: 2, reply: value(2) };
    let record =
        Record { lease, steps: vec![step], memos: Vec::new(), jobs: Vec::new(), progress: None, passed: false };
    assert_eq!(scene.store.record([record].into()).await.unwrap(), [Written::Yes]);
    assert_eq!(scene.transact(lease, &scene.all_insert(3..4)).await.unwrap(), Transacted::Upto(4));
    assert_eq!(scene.steps(lease).await, (0..4).map(value).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_could_not_be_committed_is_not_run_again() {
    let scene = Scene::new().await;
    let lease = scene.running().await;
    let full = scene.work(1, |tx| {
        let pages: i64 = tx.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        tx.pragma_update(None, "max_page_count", pages).unwrap();
        // The step has no room.
        Some(Reply::Value(Json::from_stored(format!("\"{}\"", "x".repeat(100_000)))))
    });
    let works = [scene.inserts(0, Some(value(0))), full];
    let error = scene.transact(lease, &works).await.unwrap_err();
    assert!(error.is_store_trouble() && chain(&error).contains("disk is full"), "{error:?}");
    assert_eq!(scene.transact(lease, &works).await.unwrap(), Transacted::Spent(0));
    assert_eq!((scene.ran(), scene.rows()), (vec![0, 1], vec![]));
    // The next attempt makes new ones.
    let more = scene.work(0, |tx| tx.pragma_update(None, "max_page_count", 100_000).ok().map(|()| value(0)));
    assert_eq!(scene.transact(lease, &[more]).await.unwrap(), Transacted::Upto(1));
}

#[tokio::test]
async fn a_handler_that_ends_the_transaction_gets_an_error_and_hurts_no_other_job() {
    for ends in [
        "COMMIT",
        "ROLLBACK",
        "COMMIT; BEGIN",
        "INSERT OR ROLLBACK INTO rows (value) VALUES (0)",
        "RELEASE qtasks_handler",
    ] {
        let scene = Scene::new().await;
        let (lease, other) = (scene.running().await, scene.running().await);
        assert_eq!(scene.transact(other, &scene.all_insert(0..1)).await.unwrap(), Transacted::Upto(1));
        let rogue = [
            scene.work(0, |tx| tx.execute("INSERT INTO rows (value) VALUES (10)", []).ok().map(|_| value(0))),
            scene.work(1, move |tx| {
                _ = tx.execute_batch(ends);
                Some(value(1))
            }),
            scene.inserts(2, Some(value(2))),
        ];
        let next = scene.all_insert(1..2);
        let (refused, going_on) = tokio::join!(scene.transact(lease, &rogue), scene.transact(other, &next));
        assert_eq!(refused.unwrap_err().to_string(), ENDED, "{ends}");
        let going_on = going_on.unwrap();
        assert!(matches!(going_on, Transacted::Upto(2) | Transacted::Spent(1)), "{ends}: {going_on:?}");
        if going_on == Transacted::Spent(1) {
            assert_eq!(scene.transact(other, &scene.all_insert(1..2)).await.unwrap(), Transacted::Upto(2));
        }
        // The rows of a value are there exactly if its step is.
        let (steps, rows) = (scene.job(lease).await.counts.steps, scene.rows());
        assert_eq!(rows.iter().filter(|row| **row == 10).count() as u64, steps, "{ends}");
        assert_eq!(rows.into_iter().filter(|row| *row < 10).collect::<Vec<_>>(), [0, 1], "{ends}");
        assert_eq!(scene.job(other).await.counts.steps, 2);
    }
}

#[tokio::test]
async fn a_constraint_that_is_checked_at_the_commit_is_an_error_of_the_handlers() {
    let scene = Scene::new().await;
    let lease = scene.running().await;
    let strays = |seq| scene.work(seq, |tx| tx.execute("INSERT INTO rows VALUES (7, 7)", []).ok().map(|_| value(7)));
    let (refused, enqueued) =
        tokio::join!(scene.store.transact(Some(lease), vec![strays(0)]), scene.store.enqueue(vec![new_job()]));
    assert_eq!(refused.unwrap_err().to_string(), BROKEN);
    enqueued.unwrap();
    assert_eq!((scene.rows(), scene.job(lease).await.counts.steps), (vec![], 0));
}

#[tokio::test]
async fn a_transaction_takes_on_no_more_handlers_after_a_slow_one() {
    let scene = Scene::new().await;
    let lease = scene.running().await;
    let works = [0, 1].map(|seq| scene.work(seq, move |_| Some(value(seq))));
    let transact = || {
        let (works, to_blame) = (works.to_vec(), RefCell::default());
        scene.store.writer.queue.ask(Transact { lease: Some(lease), works, long: Duration::ZERO, to_blame })
    };
    assert_eq!(transact().await.unwrap(), Transacted::Upto(1));
    assert_eq!(transact().await.unwrap(), Transacted::Upto(2));
    assert_eq!(scene.ran(), [0, 1]);
}

#[tokio::test]
async fn without_a_lease_handlers_run_and_leave_no_steps() {
    let scene = Scene::new().await;
    let transacted = scene.store.transact(None, scene.all_insert(0..2)).await.unwrap();
    assert_eq!((transacted, scene.rows()), (Transacted::Upto(2), vec![0, 1]));
    let transacted = scene.store.transact(None, vec![scene.inserts(2, None)]).await.unwrap();
    assert_eq!((transacted, scene.rows()), (Transacted::Failed(2), vec![0, 1]));
}

#[tokio::test]
async fn a_lane_of_a_savepoint_that_was_undone_is_not_remembered() {
    let scene = Scene::new().await;
    let lease = scene.running().await;
    let elsewhere = || NewJob::from(JobCall { queue: "elsewhere".into(), ..new_job().call });
    let enqueues = |seq, reply| {
        let (job, home) = (elsewhere(), scene.store.home());
        scene.work(seq, move |tx| {
            crate::store::UserTransaction::enqueue(tx, &home, Ok(job), drop).unwrap();
            reply
        })
    };
    assert_eq!(scene.transact(lease, &[enqueues(0, None)]).await.unwrap(), Transacted::Failed(0));
    // Takes the number that the undone one had.
    scene.store.enqueue(vec![NewJob::from(JobCall { queue: "third".into(), ..new_job().call })]).await.unwrap();
    let mut work = scene.store.notifier().work();
    assert_eq!(scene.transact(lease, &[enqueues(0, Some(value(0)))]).await.unwrap(), Transacted::Upto(1));
    soon(work.notification()).await;
    scene.store.enqueue(vec![elsewhere()]).await.unwrap();
    let filter = crate::store::Find::default().queue("elsewhere");
    assert_eq!(scene.store.find(filter.oldest_first(), None, Budget::jobs(9)).await.unwrap().jobs.len(), 2);
}

/// What a handler enqueues is counted with its own writes; what comes before it in the transaction is so even if the handler commits.
#[tokio::test]
async fn jobs_are_counted_whatever_a_handler_does() {
    let scene = Scene::new().await;
    let enqueues = |seq, reply| {
        let home = scene.store.home();
        scene.work(seq, move |tx| {
            crate::store::UserTransaction::enqueue(tx, &home, Ok(new_job()), drop).unwrap();
            reply
        })
    };
    let works = vec![enqueues(0, Some(value(0))), enqueues(1, Some(skipped())), enqueues(2, None)];
    assert_eq!(scene.store.transact(None, works).await.unwrap(), Transacted::Failed(2));
    assert_eq!(scene.store.counts(NOW).await.unwrap()[0].jobs.waiting, 1);
    for ends in ["COMMIT", "ROLLBACK"] {
        let connection = neighbour(&scene.folder);
        let workers = Arc::new(Workers::new(scene.folder.path().join("workers")));
        let mut tables = Tables::new(&connection, workers).unwrap();
        tables.begin(true).unwrap();
        enqueue(&mut tables, &[new_job(), new_job()]).unwrap();
        let rogue = scene.work(0, move |tx| tx.execute_batch(ends).ok().map(|()| value(0)));
        let rogue = Transact { lease: None, works: vec![rogue], long: LONG, to_blame: RefCell::default() };
        rogue.apply(&mut tables).unwrap_err();
        tables.rollback();
        let jobs = scene.store.counts(NOW).await.unwrap()[0].jobs.waiting;
        assert_eq!((jobs, scene.store.recount().await.unwrap()), (3, 0), "{ends}");
    }
}
