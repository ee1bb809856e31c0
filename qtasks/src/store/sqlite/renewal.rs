//! Renewals: they wait neither for the writer nor for a reader nor for the lock of the database, so that a worker keeps
//! its jobs however long one of these is busy.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension};

use super::{
    encoding,
    error::{Fault, is_busy},
    files::Files,
    presence::Workers,
    schema,
    sql::HELD,
};
use crate::{
    error::{Error, Result},
    model::job::{Lease, WorkerId},
    store::Notifier,
};

const RENEWING: &str = "renew leases";
const LEAVING: &str = "let a worker leave";

/// How often a worker in doubt tries to get between the transactions of others, which follow each other closely while much is
/// written.
const TRIES: u32 = 200;
/// How long a worker in doubt pauses between its tries.
const PAUSE: Duration = Duration::from_millis(1);

/// The renewals of this store's workers. They run on the thread of the worker that calls them.
pub(super) struct Renewals {
    files: Arc<Files>,
    workers: Arc<Workers>,
    /// The connection for renewals alone, opened when it is first needed.
    connection: Mutex<Option<Connection>>,
}

impl Renewals {
    pub(super) fn new(files: Arc<Files>, workers: Arc<Workers>) -> Self {
        Self { files, workers, connection: Mutex::default() }
    }

    /// Shows that `worker` lives, and gives the leases that it holds.
    pub(super) fn renew(&self, worker: WorkerId, beat: u64, notifier: &Arc<Notifier>) -> Result<Vec<Lease>> {
        // A worker that cannot write to the database any more leaves its jobs to others.
        self.files.check().map_err(|fault| self.files.explain(fault, RENEWING))?;
        let shown = self.workers.show(worker, beat, notifier);
        let in_doubt = shown.map_err(|error| Error::store(RENEWING, error))?;
        let leases = self.read(RENEWING, |connection| {
            let found = schema::format(connection)?;
            if found > schema::FORMAT {
                return Ok(Err(self.newer(found)));
            }
            leases(connection, worker).map(Ok)
        })??;
        if !in_doubt {
            return Ok(leases);
        }
        // A worker can lose only what it holds.
        let leases = if leases.is_empty() { leases } else { self.leases_behind_takers(worker)? };
        self.workers.is_sure(worker);
        Ok(leases)
    }

    fn leases_behind_takers(&self, worker: WorkerId) -> Result<Vec<Lease>> {
        for _ in 0..TRIES {
            if let Some(leases) = self.read(RENEWING, |connection| behind_takers(connection, worker))? {
                return Ok(leases);
            }
            #[expect(clippy::disallowed_methods, reason = "what another process does to the database rouses no one")]
            thread::sleep(PAUSE);
        }
        Err(Error::store(
            RENEWING,
            "another worker may be taking them over, and as long as the database is locked it cannot be known which are \
             left; that this worker lives is written down",
        ))
    }

    /// Takes back that `worker` lives; gives whether it may hold jobs.
    pub(super) fn leave(&self, worker: WorkerId) -> Result<bool> {
        let held = self.read(LEAVING, |connection| {
            connection.prepare_cached(HELD)?.query_row([worker.to_bytes()], |_| Ok(())).optional()
        });
        let may_hold = !matches!(held, Ok(None));
        self.workers.leave(worker, may_hold).map_err(|error| Error::store(LEAVING, error))?;
        Ok(may_hold)
    }

    fn newer(&self, found: i64) -> Error {
        Error::NewerStore { store: self.files.url.path.display().to_string(), found, known: schema::FORMAT }
    }

    fn read<T>(&self, doing: &'static str, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let mut kept = self.connection();
        // After an error the connection is closed: the next one may fare better.
        let read = match kept.take() {
            Some(connection) => Ok(connection),
            None => self.files.url.connect_renewer(),
        }
        .and_then(|connection| {
            let found = read(&connection)?;
            *kept = Some(connection);
            Ok(found)
        });
        let checked = self.files.check().and_then(|_| read.map_err(Fault::from));
        checked.map_err(|fault| self.files.explain(fault, doing))
    }

    fn connection(&self) -> MutexGuard<'_, Option<Connection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn leases(connection: &Connection, worker: WorkerId) -> rusqlite::Result<Vec<Lease>> {
    connection.prepare_cached(HELD)?.query_map([worker.to_bytes()], |row| encoding::lease(row, worker))?.collect()
}

/// The leases of a worker when no transaction is open that may be taking them; nothing where one is.
fn behind_takers(connection: &Connection, worker: WorkerId) -> rusqlite::Result<Option<Vec<Lease>>> {
    match connection.prepare_cached("BEGIN IMMEDIATE")?.execute([]) {
        Err(error) if is_busy(&error) => return Ok(None),
        begun => begun?,
    };
    let leases = leases(connection, worker)?;
    connection.prepare_cached("ROLLBACK")?.execute([])?;
    Ok(Some(leases))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::chain,
        model::job::{Job, WorkerId},
        store::{
            Ask, Store,
            sqlite::{
                Sqlite,
                fixture::{ask, neighbour, new_job, soon, store, temp_url},
            },
        },
    };

    async fn running(store: &Sqlite, worker: WorkerId) -> Job {
        store.enqueue(vec![new_job()]).await.unwrap();
        store.renew(worker, 1).await.unwrap();
        store.lease(Ask { worker, ..ask(1) }).await.unwrap().jobs.remove(0)
    }

    async fn beat(store: &Sqlite, worker: WorkerId) -> Option<u64> {
        store.workers().await.unwrap().into_iter().find(|presence| presence.worker == worker)?.beat
    }

    #[tokio::test]
    async fn a_database_that_stays_locked_takes_no_worker_its_jobs() {
        let (folder, url) = temp_url("?busy=3600");
        let (one, other) = (Sqlite::open(&url).await.unwrap(), Sqlite::open(&url).await.unwrap());
        let worker = WorkerId::new();
        let job = running(&one, worker).await;
        let neighbour = neighbour(&folder);
        neighbour.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut waits = one.enqueue(vec![new_job()]);
        assert!(futures::poll!(&mut waits).is_pending());
        for number in 2..5 {
            assert_eq!(one.renew(worker, number).await.unwrap().leases, [job.lease().unwrap()]);
            assert_eq!(beat(&other, worker).await, Some(number));
        }
        let new = WorkerId::new();
        assert_eq!(one.renew(new, 1).await.unwrap().leases, [], "a worker can start meanwhile");
        neighbour.execute_batch("COMMIT").unwrap();
        soon(waits).await.unwrap();
    }

    #[tokio::test]
    async fn a_renewal_waits_for_no_reader() {
        let (_folder, store) = store().await;
        let worker = WorkerId::new();
        let job = running(&store, worker).await;
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let mut reads = Vec::new();
        for _ in 0..9 {
            let gate = Arc::clone(&gate);
            let mut read = Box::pin(store.readers.read("test", move |_| Ok(_ = gate.lock().unwrap().recv())));
            assert!(futures::poll!(&mut read).is_pending());
            reads.push(read);
        }
        assert_eq!(store.renew(worker, 2).await.unwrap().leases, [job.lease().unwrap()]);
        drop(open);
        for read in reads {
            soon(read).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_worker_in_doubt_lives_while_the_database_is_locked_and_then_learns_what_it_holds() {
        let (folder, url) = temp_url("");
        let (one, other) = (Sqlite::open(&url).await.unwrap(), Sqlite::open(&url).await.unwrap());
        let worker = WorkerId::new();
        let job = running(&one, worker).await;
        let neighbour = neighbour(&folder);
        neighbour.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(other.writer.workers.judge(worker, Some(1)));
        for number in 2..4 {
            let error = one.renew(worker, number).await.unwrap_err();
            let said = "the store could not renew leases: another worker may be taking them over";
            assert!(error.is_store_trouble() && chain(&error).starts_with(said), "{error:?}");
            assert_eq!(beat(&other, worker).await, Some(number));
        }
        neighbour.execute_batch("COMMIT").unwrap();
        assert_eq!(one.renew(worker, 4).await.unwrap().leases, [job.lease().unwrap()]);
        neighbour.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert_eq!(one.renew(worker, 5).await.unwrap().leases, [job.lease().unwrap()], "it is sure again");
    }

    #[tokio::test]
    async fn a_renewal_reports_tables_that_have_become_those_of_a_newer_qtasks() {
        let (folder, store) = store().await;
        let worker = WorkerId::new();
        running(&store, worker).await;
        let newer = "UPDATE qtasks_format SET format = 99; ALTER TABLE qtasks_jobs RENAME COLUMN worker TO holder";
        neighbour(&folder).execute_batch(newer).unwrap();
        for number in 2..4 {
            let error = store.renew(worker, number).await.unwrap_err();
            assert!(matches!(error, Error::NewerStore { found: 99, known: schema::FORMAT, .. }), "{error:?}");
        }
    }
}
