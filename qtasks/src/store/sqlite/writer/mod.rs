//! The one thread that writes: it takes all commands that wait, applies them in one transaction, and answers once they
//! are durable. So a hundred callers share one wait for the disk.

pub(super) mod queue;
pub(super) mod tables;
pub(super) mod waiters;
pub(super) mod wal;

use std::{
    collections::HashSet,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use self::{
    queue::{Closing, Command, Queue, Turn},
    tables::{News, Tables},
    waiters::{Question, Told},
    wal::Checkpoint,
};
use super::{
    error::{Fault, is_busy},
    files::{Files, Identity, identity_at},
    notify::{Look, watch},
    presence::Workers,
    schema,
    url::Place,
};
use crate::{
    error::{Error, Result},
    model::job::WorkerId,
    store::Bell,
};

/// What others have of the writer. It ends, once it has done what it was given, when this is dropped; and to others the
/// workers of the store are gone then.
pub(super) struct Handle {
    pub(super) queue: Arc<Queue>,
    pub(super) files: Arc<Files>,
    pub(super) workers: Arc<Workers>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.close();
        self.workers.let_go();
    }
}

/// Starts the thread, and waits until the file is open and its tables are there.
pub(super) async fn start(place: Place, bell: Arc<Bell>) -> Result<Handle> {
    const STARTING: &str = "start its writer";
    let ((ready, opened), path) = (oneshot::channel(), place.path.clone());
    let body = move || match open(place) {
        Ok(opened) => write(&opened, &bell, ready),
        Err(error) => _ = ready.send(Err(error)),
    };
    let spawned = thread::Builder::new().name("qtasks-sqlite".to_owned()).spawn(body);
    spawned.map_err(|error| Error::store(STARTING, error))?;
    opened.await.unwrap_or_else(|_| Err(Fault::Gone.into_error(STARTING, &path)))
}

/// The connection that writes, and what it is connected to.
struct Opened {
    connection: Connection,
    place: Place,
    database: Identity,
}

fn open(place: Place) -> Result<Opened> {
    let mut connection = place.connect()?;
    let database = identity_at(&place.path)?;
    turn_on_log(&connection, &place)?;
    schema::migrate(&mut connection, &place, schema::MIGRATIONS)?;
    // From here on the thread itself waits for locks, and looks around while it does.
    connection.busy_timeout(Duration::ZERO).map_err(|error| place.explain(error))?;
    Ok(Opened { connection, place: place.absolute()?, database })
}

/// Switches to the write-ahead log. SQLite does not wait here for others that do the same.
fn turn_on_log(connection: &Connection, place: &Place) -> Result<()> {
    let turned_on = patiently(Instant::now(), place.patience, is_busy, || {
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))
    });
    match turned_on.map_err(|error| place.explain(error))? {
        mode if mode == "wal" => Ok(()),
        mode => Err(Error::store(
            "turn on the write-ahead log",
            format!(
                "`{}` keeps its journal as `{mode}`; its volume may lack the shared memory that the log needs: move the \
                 file to a local one",
                place.path.display()
            ),
        )),
    }
}

fn write(opened: &Opened, bell: &Arc<Bell>, ready: oneshot::Sender<Result<Handle>>) {
    let workers = Arc::new(Workers::new(opened.place.workers()));
    let Prepared { tables, version, files } = match prepare(opened, &workers, bell) {
        Ok(prepared) => prepared,
        Err(error) => {
            _ = ready.send(Err(error));
            return;
        }
    };
    let queue = Arc::new(Queue::new(Arc::clone(&files)));
    queue.serve();
    let _closing = Closing(&queue);
    let watcher = watch(&files.place.log(), Arc::clone(&queue));
    let look = Look::new(watcher.is_some(), Instant::now());
    // Where nobody waits any more, the handle is dropped at once, and the writer ends.
    _ = ready.send(Ok(Handle { queue: Arc::clone(&queue), files: Arc::clone(&files), workers }));
    let checkpoint = Checkpoint::new(&files.place, Instant::now());
    Writer {
        tables,
        queue: &queue,
        bell,
        files: &files,
        look,
        checkpoint,
        log: 0,
        is_over: false,
        questions: Vec::new(),
        caught_up: HashSet::new(),
        version,
    }
    .run();
}

/// What the writer begins with.
struct Prepared<'c> {
    tables: Tables<'c>,
    version: i64,
    files: Arc<Files>,
}

fn prepare<'c>(opened: &'c Opened, workers: &Arc<Workers>, bell: &Arc<Bell>) -> Result<Prepared<'c>> {
    let Opened { connection, place, database } = opened;
    let explain = |error| place.explain(error);
    let mut tables = Tables::new(connection, Arc::clone(workers)).map_err(explain)?;
    let version = tables.data_version().map_err(explain)?;
    Ok(Prepared { tables, version, files: Files::of(place.clone(), *database, Arc::clone(bell))? })
}

/// So many rows may always join a transaction.
const JOINING: usize = 256;

struct Writer<'a> {
    tables: Tables<'a>,
    queue: &'a Queue,
    bell: &'a Bell,
    files: &'a Files,
    look: Look,
    checkpoint: Checkpoint,
    /// How many bytes the log had after the last commit.
    log: u64,
    /// The files have changed, and all is done that there was to do about it.
    is_over: bool,
    questions: Vec<Question>,
    /// Workers for whom nothing waits, as far as is known.
    caught_up: HashSet<WorkerId>,
    /// The data version at the last look.
    version: i64,
}

impl Writer<'_> {
    fn run(mut self) {
        loop {
            let taken = self.queue.take(self.next());
            if !taken.batch.is_empty() {
                self.carry_out(taken.batch);
            }
            for (worker, done) in taken.leaving {
                self.take_back(worker);
                // Whoever waited for it may be gone.
                _ = done.send(());
            }
            if self.checkpoint.is_due(Instant::now()) && self.check().is_ok() {
                self.checkpoint.run(self.tables.connection, Instant::now());
            }
            if taken.ended {
                return;
            }
            if taken.touched {
                self.look.soon();
            }
            if self.look.is_due(Instant::now()) {
                self.look();
            }
        }
    }

    /// When there is something to do of which no command tells.
    fn next(&self) -> Instant {
        let next = self.look.next();
        self.checkpoint.next().filter(|_| !self.is_over).map_or(next, |checkpoint| checkpoint.min(next))
    }

    /// That the files are still those that are open; gives how many bytes the log has.
    fn check(&mut self) -> Result<u64, Fault> {
        let checked = self.files.check();
        if matches!(checked, Err(Fault::Changed(_))) && !self.is_over {
            self.is_over = true;
            self.give_up();
        }
        checked
    }

    /// Leaves the old files whole, which are of no use to this store any more.
    fn give_up(&mut self) {
        self.questions.append(&mut self.queue.questions());
        // With nothing, also where jobs were leased to them in the last transaction.
        self.questions.iter_mut().for_each(Question::undone);
        self.questions.drain(..).for_each(Question::answer);
        // What the log holds goes to the file it belongs to: that file may be all that is left, and a log that stays behind
        // would be mixed into the file which stands there now. Where a program has it open with that, it is left alone.
        let unseen = self.tables.data_version().ok() != Some(self.version);
        if self.files.may_empty_log(unseen) {
            self.checkpoint.empty(self.tables.connection);
        }
    }

    /// Makes the changes in one transaction, or, where that fails, each in its own.
    fn carry_out(&mut self, mut batch: Vec<Box<dyn Command>>) {
        let mut done = self.transact(&mut batch);
        if done.as_ref().is_err_and(Fault::is_full) && self.makes_room_for(&batch) {
            done = self.transact(&mut batch);
        }
        match done {
            Ok(news) => {
                self.checkpoint.committed(weight(&batch), self.log, Instant::now());
                let work = news.work;
                self.tell(news);
                // First: whoever has enqueued something finds it leased.
                self.answer_questions(&batch, work);
                answer(batch, None);
            }
            Err(fault @ (Fault::Locked { .. } | Fault::Changed(_) | Fault::Io(_))) => answer(batch, Some(fault)),
            Err(fault) if batch.len() == 1 => answer(batch, Some(fault)),
            Err(fault) => {
                batch.iter().for_each(|command| command.undone(&fault));
                batch.into_iter().for_each(|command| self.carry_out(vec![command]));
            }
        }
    }

    /// Whether there is more room now, and the changes can be made once more.
    fn makes_room_for(&mut self, batch: &[Box<dyn Command>]) -> bool {
        batch.iter().all(|command| command.turn() != Turn::Handlers) && self.checkpoint.empty(self.tables.connection)
    }

    fn transact(&mut self, batch: &mut Vec<Box<dyn Command>>) -> Result<News, Fault> {
        let reserved = self.checkpoint.reserved(Instant::now());
        if let Some(free) = reserved.filter(|_| batch.iter().any(|command| command.is_new())) {
            return Err(Fault::Crowded { free });
        }
        self.begin(batch)?;
        batch.sort_by_key(|command| command.turn());
        let changes = batch.partition_point(|command| command.turn() == Turn::Change);
        let mut last = batch.split_off(changes);
        let apply = || self.apply(batch, &mut last, reserved.is_none());
        let applied = catch_unwind(AssertUnwindSafe(apply)).unwrap_or_else(|panic| Err(Fault::panicked(&*panic)));
        batch.append(&mut last);
        let committed = applied.and_then(|()| self.tables.commit());
        if committed.is_err() {
            self.tables.rollback();
        }
        // What is committed counts only if it can be found where others look for it; and where it cannot, that is why all
        // else went wrong.
        let done = self.check().and_then(|log| {
            self.log = log;
            committed
        });
        if done.is_err() {
            self.questions.iter_mut().for_each(Question::undone);
        }
        done
    }

    /// Begins a transaction, as soon as others let it.
    fn begin(&mut self, batch: &[Box<dyn Command>]) -> Result<(), Fault> {
        if self.is_over {
            return self.check().map(drop);
        }
        let since = batch.iter().map(|command| command.since()).min().unwrap_or_else(Instant::now);
        let for_handlers = batch.iter().any(|command| command.turn() == Turn::Handlers);
        let patience = self.files.place.patience;
        let begun = patiently(since, patience, Fault::is_busy, || {
            let begun = self.tables.begin(for_handlers);
            if begun.is_err() {
                // No lock of a file that is gone is waited for.
                self.check()?;
            }
            Ok(begun?)
        });
        begun.map_err(|fault| if fault.is_busy() { Fault::Locked { waited: patience } } else { fault })
    }

    /// Applies the changes, those that come while that is done, and what is to be applied after them.
    fn apply(
        &mut self,
        changes: &mut Vec<Box<dyn Command>>,
        last: &mut Vec<Box<dyn Command>>,
        may_join: bool,
    ) -> Result<(), Fault> {
        let tables = &mut self.tables;
        self.questions.append(&mut self.queue.questions());
        // What others have committed comes first too; the look will tell of it.
        if !self.caught_up.is_empty() && tables.data_version()? != self.version {
            self.caught_up.clear();
        }
        let caught_up = |question: &Question| self.caught_up.contains(&question.worker()) && question.room() > 0;
        let awaited = self.questions.iter().any(caught_up) || last.iter().any(is_lease);
        tables.fresh = awaited.then(Vec::new);
        let mut room = weight(changes).max(JOINING);
        let mut applied = 0;
        loop {
            changes[applied..].iter_mut().try_for_each(|command| command.apply(tables))?;
            applied = changes.len();
            if !may_join || last.iter().any(|command| command.turn() == Turn::Handlers) {
                break;
            }
            // To commit these too costs nothing more. As much at most, or a millisecond's worth, so that nobody waits
            // much longer for it.
            let joining = self.queue.join(room);
            room = room.saturating_sub(weight(&joining));
            let (leases, more): (Vec<_>, Vec<_>) = joining.into_iter().partition(is_lease);
            last.extend(leases);
            changes.extend(more);
            if applied == changes.len() {
                break;
            }
        }
        let leases = last.partition_point(is_lease);
        last[..leases].iter_mut().try_for_each(|command| command.apply(tables))?;
        if tables.fresh.as_ref().is_some_and(|fresh| !fresh.is_empty()) {
            // Whoever leases in this transaction too could start first what came last.
            let leasing: Vec<_> = last[..leases].iter().filter_map(|command| Some(command.lease()?.0)).collect();
            let may_take = |question: &&mut Question| caught_up(question) && !leasing.contains(&question.worker());
            self.questions.iter_mut().filter(may_take).try_for_each(|question| question.take(tables))?;
        }
        tables.insert_fresh()?;
        last[leases..].iter_mut().try_for_each(|command| command.apply(tables))
    }

    fn tell(&self, news: News) {
        if news.work {
            self.bell.ring_work();
        }
        self.bell.ring_jobs(news.jobs);
        self.bell.ring_ends(news.ended);
    }

    /// Answers the questions for new jobs to which some came, and takes note of who has caught up.
    fn answer_questions(&mut self, batch: &[Box<dyn Command>], work: bool) {
        self.questions.append(&mut self.queue.questions());
        if work {
            self.caught_up.clear();
        }
        // What handlers enqueue comes after the leases, which have not seen it.
        let unseen = work && batch.iter().any(|command| command.turn() == Turn::Handlers);
        for (worker, told) in batch.iter().filter_map(|command| command.lease()) {
            match told {
                Told::CaughtUp if !unseen => _ = self.caught_up.insert(worker),
                Told::CaughtUp | Told::Behind => _ = self.caught_up.remove(&worker),
            }
        }
        self.questions.extract_if(.., |question| question.has_come()).for_each(Question::answer);
    }

    /// Answers the question of a worker with nothing.
    fn take_back(&mut self, worker: WorkerId) {
        self.questions.append(&mut self.queue.questions());
        self.caught_up.remove(&worker);
        self.questions.extract_if(.., |question| question.worker() == worker).for_each(Question::answer);
    }

    /// Rings for everybody when another connection has committed something.
    fn look(&mut self) {
        if self.check().is_err() {
            return;
        }
        match self.tables.data_version() {
            Ok(version) if version == self.version => {}
            Ok(version) => {
                self.version = version;
                self.caught_up.clear();
                self.bell.ring_all();
            }
            Err(error) => tracing::debug!(%error, "could not look for changes of other processes"),
        }
    }
}

fn is_lease(command: &impl Deref<Target = dyn Command>) -> bool {
    command.turn() == Turn::Lease
}

fn weight(batch: &[Box<dyn Command>]) -> usize {
    batch.iter().map(|command| command.weight()).sum()
}

fn answer(batch: Vec<Box<dyn Command>>, fault: Option<Fault>) {
    for command in batch {
        command.answer(fault.clone());
    }
}

/// Tries again while somebody else holds a lock, until `patience` has passed `since` then.
fn patiently<T, E>(
    since: Instant,
    patience: Duration,
    is_busy: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let mut pause = Duration::from_micros(100);
    loop {
        match attempt() {
            Err(error) if is_busy(&error) && since.elapsed() < patience => {
                #[expect(clippy::disallowed_methods, reason = "the end of another process's lock rouses no one")]
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(5));
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        sync::{
            atomic::{AtomicUsize, Ordering::Relaxed},
            mpsc,
        },
    };

    use futures::future::join_all;

    use super::{queue::Write, *};
    use crate::{
        error::chain,
        model::{
            job::{Job, Lease, Reply, State},
            json::Json,
        },
        store::{
            PendingStep, Store, Transacted,
            sqlite::{
                InTransaction, Sqlite,
                fixture::{lease, neighbour, new_job, place, soon, store},
            },
        },
    };

    /// Holds the writer until it is told to go on.
    struct Gate {
        reached: mpsc::Sender<()>,
        open: mpsc::Receiver<()>,
    }

    impl Write for Gate {
        type Outcome = ();
        const DOING: &'static str = "wait";

        fn apply(&self, _tables: &mut Tables<'_>) -> Result<(), Fault> {
            self.reached.send(()).unwrap();
            // Once open it stays so.
            _ = self.open.recv();
            Ok(())
        }
    }

    /// A change that is some SQL.
    struct Sql(String);

    impl Write for Sql {
        type Outcome = ();
        const DOING: &'static str = "run some SQL";

        fn apply(&self, tables: &mut Tables<'_>) -> Result<(), Fault> {
            Ok(tables.connection.execute_batch(&self.0)?)
        }
    }

    struct Panic;

    impl Write for Panic {
        type Outcome = ();
        const DOING: &'static str = "panic";

        fn apply(&self, _tables: &mut Tables<'_>) -> Result<(), Fault> {
            panic!("on purpose")
        }
    }

    /// Makes the changes while the writer is held, so that they reach it together.
    async fn together<T>(store: &Sqlite, changes: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
        let ((reached, has_reached), (opening, open)) = (mpsc::channel(), mpsc::channel());
        let mut gate = Box::pin(store.writer.queue.ask(Gate { reached, open }));
        _ = futures::poll!(&mut gate);
        has_reached.recv().unwrap();
        let mut changes: Vec<_> = changes.into_iter().map(Box::pin).collect();
        for change in &mut changes {
            assert!(futures::poll!(change).is_pending());
        }
        drop(opening);
        gate.await.unwrap();
        join_all(changes).await
    }

    /// How many transactions the log holds, by <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.
    fn commits(log: &Path) -> usize {
        let log = fs::read(log).unwrap();
        let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
        let frames = log[32..].chunks_exact(24 + page).take_while(|frame| frame[8..16] == log[16..24]);
        frames.filter(|frame| frame[4..8] != [0; 4]).count()
    }

    #[tokio::test]
    async fn commands_that_wait_together_share_a_transaction() {
        let (_folder, store) = store().await;
        store.enqueue(vec![new_job()]).await.unwrap();
        let before = commits(&store.writer.files.place.log());
        let answers = together(&store, (0..100).map(|_| store.enqueue(vec![new_job()]))).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(commits(&store.writer.files.place.log()) - before, 1);
        assert_eq!(lease(&store, 200).await.len(), 101);
    }

    #[tokio::test]
    async fn a_lease_waits_for_what_is_enqueued_in_its_transaction() {
        let (_folder, store) = store().await;
        let leases = AtomicUsize::new(0);
        let change = async |enqueues| match enqueues {
            true => store.enqueue(vec![new_job()]).await.unwrap(),
            false => _ = leases.fetch_add(lease(&store, 9).await.len(), Relaxed),
        };
        together(&store, [false, true, true].map(change)).await;
        assert_eq!(leases.load(Relaxed), 2);
    }

    #[tokio::test]
    async fn handlers_share_a_transaction_and_survive_a_neighbour_that_fails() {
        let (_folder, store) = store().await;
        store.enqueue((0..20).map(|_| new_job()).collect()).await.unwrap();
        let jobs = lease(&store, 20).await;
        let before = commits(&store.writer.files.place.log());
        let ran = Arc::new(AtomicUsize::new(0));
        let transact = async |job: &Job| {
            let ran = Arc::clone(&ran);
            let run: InTransaction = Box::new(move |_| {
                ran.fetch_add(1, Relaxed);
                Some(Reply::Value(Json::from_stored("1")))
            });
            let State::Running { worker } = job.state else { panic!("{job:?} does not run") };
            let lease = Lease { job: job.id, attempt: job.attempt, worker };
            store.transact(Some(lease), vec![Arc::new(PendingStep::new(0, 0, 0, Box::new(run)))]).await
        };
        let came = together(&store, jobs[..10].iter().map(transact)).await;
        assert_eq!(commits(&store.writer.files.place.log()) - before, 1);
        // Enqueued behind them.
        let change = async |number: usize| match number {
            10 => _ = store.writer.queue.ask(Panic).await.unwrap_err(),
            _ => assert_eq!(transact(&jobs[10 + number]).await.unwrap(), Transacted::Upto(1)),
        };
        together(&store, (0..10).chain([10]).map(change)).await;
        assert!(came.into_iter().all(|came| came.unwrap() == Transacted::Upto(1)));
        assert_eq!(ran.load(Relaxed), 20);
    }

    #[tokio::test]
    async fn a_change_that_fails_does_not_hurt_its_neighbours() {
        let (_folder, store) = store().await;
        let change = async |number| match number {
            3 => chain(&store.writer.queue.ask(Sql("INSERT INTO nowhere VALUES (1)".into())).await.unwrap_err()),
            5 => chain(&store.writer.queue.ask(Panic).await.unwrap_err()),
            _ => store.enqueue(vec![new_job()]).await.map(|()| "enqueued".to_owned()).unwrap(),
        };
        let said = together(&store, (0..8).map(change)).await;
        let enqueued = said.iter().filter(|said| *said == "enqueued").count();
        assert_eq!((enqueued, lease(&store, 20).await.len()), (6, 6));
        let path = store.writer.files.place.path.display();
        let no_table = format!("the store could not run some SQL: `{path}`: no such table: nowhere");
        assert!(said[3].starts_with(&no_table), "{}", said[3]);
        assert_eq!(said[5], format!("the store could not panic: `{path}`: the store panicked: on purpose"));
    }

    #[tokio::test]
    async fn a_locked_database_is_waited_out() {
        let (folder, store) = store().await;
        let other = neighbour(&folder);
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut enqueueing = store.enqueue(vec![new_job()]);
        assert!(futures::poll!(&mut enqueueing).is_pending());
        assert_eq!(store.jobs(Default::default(), None, 9).await.unwrap(), [], "reading goes on meanwhile");
        other.execute_batch("COMMIT").unwrap();
        soon(enqueueing).await.unwrap();
    }

    #[tokio::test]
    async fn a_database_that_stays_locked_is_reported_and_used_again_later() {
        let (folder, url) = place("?busy=0");
        let store = Sqlite::open(&url).await.unwrap();
        let other = neighbour(&folder);
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        for answer in together_locked(&store, 3).await {
            let error = answer.unwrap_err();
            assert!(error.is_store_trouble());
            let path = store.writer.files.place.path.display();
            assert_eq!(
                chain(&error),
                format!(
                    "the store could not enqueue jobs: `{path}`: the database is locked by another process, or by another \
                     connection of this one; waited 0ns for it; `?busy=SECONDS` lets it wait longer; a program that makes \
                     this call while a write transaction of its own is open waits for itself: let it end first, or \
                     enqueue in it (`enqueue_in`, `statement`)"
                )
            );
        }
        other.execute_batch("COMMIT").unwrap();
        store.enqueue(vec![new_job()]).await.unwrap();
        assert_eq!(lease(&store, 9).await.len(), 1);
    }

    async fn together_locked(store: &Sqlite, count: usize) -> Vec<Result<()>> {
        join_all((0..count).map(|_| store.enqueue(vec![new_job()]))).await
    }

    #[tokio::test]
    async fn a_full_disk_is_reported_and_the_store_used_again_later() {
        let (_folder, store) = store().await;
        store.writer.queue.ask(Sql("PRAGMA max_page_count = 1".into())).await.unwrap();
        let many = || (0..1000).map(|_| new_job()).collect::<Vec<_>>();
        let error = store.enqueue(many()).await.unwrap_err();
        let path = store.writer.files.place.path.display();
        assert_eq!(
            chain(&error),
            format!(
                "the store could not enqueue jobs: `{path}`: database or disk is full: no room is left on its volume; \
                 make room, and work goes on"
            )
        );
        assert_eq!(lease(&store, 1).await, []);
        store.writer.queue.ask(Sql("PRAGMA max_page_count = 100000".into())).await.unwrap();
        store.enqueue(many()).await.unwrap();
        assert_eq!(lease(&store, 2000).await.len(), 1000);
    }
}
