//! Enqueueing in a transaction of the application.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction, params};

use super::{
    after,
    calls::{
        keys::{self, Claimed},
        read,
    },
    encoding,
    error::Fault,
    files,
    insert::{Inserts, intern},
    schema, sql,
    url::of_bytes,
};
use crate::{
    error::{Error, Result},
    model::job::{JobId, NewJob},
    store::{Home, UserTransaction, same_call::is_of_call},
};

impl UserTransaction for &Transaction<'_> {
    type Answer<T> = Result<T>;

    fn enqueue<T>(self, home: &Home, job: Result<NewJob>, then: impl FnOnce(JobId) -> T + Send + 'static) -> Result<T> {
        let (job, path) = (job?, path(self)?);
        check_home(home, &path)?;
        enqueue_in(self, &path, &job).map(then)
    }
}

impl UserTransaction for &super::Transaction<'_> {
    type Answer<T> = Result<T>;

    fn enqueue<T>(self, home: &Home, job: Result<NewJob>, then: impl FnOnce(JobId) -> T + Send + 'static) -> Result<T> {
        UserTransaction::enqueue(&**self, home, job, then)
    }
}

const DOING: &str = "enqueue a job in the application's transaction";

/// The file that a connection has open; empty where its database is in memory.
fn path(connection: &Connection) -> Result<PathBuf> {
    if let Some(path) = connection.path() {
        return Ok(path.into());
    }
    // The driver gives no path that is not text.
    let sql = "SELECT CAST(file AS BLOB) FROM pragma_database_list WHERE name = 'main'";
    let path = connection.query_row(sql, [], |row| row.get(0));
    let path = path.map_err(|error| Fault::from(error).of_write(DOING, Path::new("")))?;
    of_bytes(path).ok_or_else(|| Error::store(DOING, "the path of its database is no text"))
}

/// Checks that a transaction on the file at `path` is one on the application's store.
fn check_home(home: &Home, path: &Path) -> Result<()> {
    if matches!(home, Home::File(ours) if files::are_same(ours, path)) {
        return Ok(());
    }
    let transaction = match path.to_str() {
        Some("") => "a database in memory".to_owned(),
        _ => format!("`{}`", path.display()),
    };
    Err(Error::OtherStore { transaction, store: home.to_string() })
}

/// Enqueues a job in a transaction of the application's own connection to the same file: the job exists exactly if that
/// transaction commits, and workers of any process are notified then.
///
/// A job whose id is there already stays as it is, if it is of the same call.
///
/// # Errors
///
/// When the file has no tables of qtasks, or not those of this version. They are there once the file has been opened
/// [as a store](super::Sqlite::open). When the id is that of another job. [`Error::StoreChanged`] when this program has the
/// store open, and its files were removed or replaced since.
fn enqueue_in(transaction: &Transaction<'_>, path: &Path, job: &NewJob) -> Result<JobId> {
    let failed = |fault: Fault| fault.of_write(DOING, path);
    files::check_at(path).map_err(failed)?;
    let in_sql = |error: rusqlite::Error| failed(error.into());
    let found = schema::format(transaction).map_err(in_sql)?;
    let shown = || path.display().to_string();
    match found {
        schema::FORMAT if job.keyed().is_some() || job.call.after.is_some() => {
            enqueue_apart(transaction, job).map_err(in_sql)?
        }
        schema::FORMAT if insert(transaction, job).map_err(in_sql)? => Ok(job.call.id),
        schema::FORMAT => match read::job(transaction, job.call.id).map_err(in_sql)? {
            Some(found) => {
                is_of_call(job.call.id, (&found.call.task, &found.call.args), (&job.call.task, &job.call.args))
                    .map(|()| job.call.id)
            }
            None => Ok(job.call.id),
        },
        newer if newer > schema::FORMAT => {
            Err(Error::NewerStore { store: shown(), found: newer, known: schema::FORMAT })
        }
        0 => Err(Error::ForeignStore {
            store: shown(),
            why: "it has no tables of qtasks; open it once as the store, and use the same file here".to_owned(),
        }),
        _ => Err(Error::ForeignStore {
            store: shown(),
            why: "its tables are those of an older qtasks; open it once as the store".to_owned(),
        }),
    }
}

/// Enqueues a job that has a key, unless another one holds that, or that waits for others; gives the job of the call, or why it is refused.
fn enqueue_apart(transaction: &Transaction<'_>, job: &NewJob) -> rusqlite::Result<Result<JobId>> {
    if let Some(refused) = keys::refusal(transaction, std::slice::from_ref(job))? {
        return Ok(Err(refused));
    }
    match keys::claim(transaction, job)? {
        Claimed::New => insert(transaction, job).map(|_| Ok(job.call.id)),
        Claimed::Joined(holder) => Ok(Ok(holder)),
        Claimed::Refused(holder) => Ok(Err(Error::duplicate(job, holder))),
    }
}

/// Gives whether it was not there before.
fn insert(transaction: &Transaction<'_>, job: &NewJob) -> rusqlite::Result<bool> {
    let lane = intern(&mut *transaction.prepare_cached(sql::INSERT_LANE)?, &job.call.queue, &job.call.task)?;
    let (mut jobs, mut args, mut expiring) = (
        transaction.prepare_cached(sql::INSERT_JOB)?,
        transaction.prepare_cached(sql::INSERT_ARGS)?,
        transaction.prepare_cached(sql::INSERT_EXPIRING)?,
    );
    let inserts = Inserts { job: &mut jobs, args: &mut args, expiring: &mut expiring };
    let inserted = inserts.insert(lane, job, None)?;
    if inserted && after::hold(transaction, job)? {
        transaction.prepare_cached(sql::COUNT)?.execute(params![lane, 0, 0, 0, 0, 1])?;
        let (ended, jobs) = (encoding::millis(job.call.enqueued), job.call.id.to_bytes());
        transaction.prepare_cached(sql::INSERT_ENDS)?.execute(params![encoding::CANCELLED, ended, jobs])?;
    } else if inserted {
        transaction.prepare_cached(sql::COUNT_ONE)?.execute([lane])?;
    }
    Ok(inserted)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{
        error::chain,
        model::{
            job::{After, JobCall, NextState, StateKind},
            lifecycle::Outcome,
            unique::{Duplicate, Unique},
        },
        store::{
            Hold, Settlement, Store, Written,
            sqlite::fixture::{NOW, lease, neighbour, new_job, soon, store},
        },
    };

    fn enqueue_here(transaction: &Transaction<'_>, job: &NewJob) -> Result<()> {
        enqueue_in(transaction, &path(transaction)?, job).map(drop)
    }

    #[tokio::test]
    async fn the_job_exists_exactly_if_the_transaction_commits() {
        let (folder, store) = store().await;
        let mut connection = neighbour(&folder);
        connection.execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY)").unwrap();
        let (kept, dropped) = (new_job(), new_job());

        let transaction = connection.transaction().unwrap();
        transaction.execute("INSERT INTO orders DEFAULT VALUES", []).unwrap();
        enqueue_here(&transaction, &dropped).unwrap();
        transaction.rollback().unwrap();
        assert_eq!(store.job(dropped.call.id).await.unwrap(), None);

        let mut work = store.notifier().work();
        let transaction = connection.transaction().unwrap();
        transaction.execute("INSERT INTO orders DEFAULT VALUES", []).unwrap();
        enqueue_here(&transaction, &kept).unwrap();
        enqueue_here(&transaction, &kept).unwrap();
        transaction.commit().unwrap();
        soon(work.notification()).await;
        let leased = lease(&store, 9).await;
        assert_eq!(leased.iter().map(|job| job.call.id).collect::<Vec<_>>(), [kept.call.id]);
        assert_eq!(store.counts(NOW).await.unwrap()[0].jobs.total(), 1);
        assert_eq!(store.recount().await.unwrap(), 0);
        let orders: i64 = connection.query_row("SELECT count(*) FROM orders", [], |row| row.get(0)).unwrap();
        assert_eq!(orders, 1);
    }

    #[tokio::test]
    async fn a_key_is_taken_exactly_if_the_transaction_commits() {
        let (folder, store) = store().await;
        let mut connection = neighbour(&folder);
        let keyed = |on_duplicate| {
            let call = JobCall { key: Some("k".into()), ..new_job().call };
            let unique = Some(Box::new(Unique { on_duplicate, ..Unique::default() }));
            NewJob { unique, ..NewJob::from(call) }
        };
        let found = |transaction: &Transaction<'_>, job: &NewJob| enqueue_in(transaction, &path(transaction)?, job);
        let task = new_job().call.task;
        for commits in [false, true] {
            let (first, second) = (keyed(Duplicate::Join), keyed(Duplicate::Join));
            let transaction = connection.transaction().unwrap();
            assert_eq!(found(&transaction, &first).unwrap(), first.call.id);
            assert_eq!(found(&transaction, &second).unwrap(), first.call.id);
            let error = found(&transaction, &keyed(Duplicate::Refuse)).unwrap_err().to_string();
            assert_eq!(error, format!("job {} of `{task}` holds the key `k`", first.call.id));
            if commits {
                transaction.commit().unwrap()
            } else {
                transaction.rollback().unwrap()
            }
            let holder = store.holder(&task, "k").await.unwrap().map(|holder| holder.job);
            assert_eq!(holder, commits.then_some(first.call.id));
        }
        let mut replaces = keyed(Duplicate::Replace);
        replaces.call.priority = 7;
        let transaction = connection.transaction().unwrap();
        let id = found(&transaction, &replaces).unwrap();
        transaction.commit().unwrap();
        assert_eq!(store.job(id).await.unwrap().unwrap().call.priority, 7);
        assert_eq!(lease(&store, 9).await.len(), 1);
        assert_eq!(store.recount().await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_job_waits_for_others_exactly_if_the_transaction_commits() {
        let (folder, store) = store().await;
        let mut connection = neighbour(&folder);
        let follows = |parent| {
            let after = Some(Box::new(After { jobs: vec![parent], ..After::default() }));
            NewJob::from(JobCall { after, ..new_job().call })
        };
        let parent = new_job();
        store.enqueue(vec![parent.clone()]).await.unwrap();
        let found = |transaction: &Transaction<'_>, job: &NewJob| enqueue_in(transaction, &path(transaction)?, job);
        let (next, last) = (follows(parent.call.id), follows(JobId::new()));
        for commits in [false, true] {
            let transaction = connection.transaction().unwrap();
            found(&transaction, &next).unwrap();
            assert!(matches!(found(&transaction, &last).unwrap_err(), Error::NoParent { .. }));
            if commits {
                transaction.commit().unwrap()
            } else {
                transaction.rollback().unwrap()
            }
            assert_eq!(store.job(next.call.id).await.unwrap().is_some(), commits);
        }
        let leased = lease(&store, 9).await;
        assert_eq!(leased.len(), 1);
        let next_state = NextState::Cancelled { reason: "no".into() };
        let outcome = Outcome { next: next_state, failures: 0, suspect: None };
        let hold = Hold::Lease(leased[0].lease().unwrap());
        let ends = Settlement { hold, outcome, steps: None, attempt: None, now: NOW };
        assert_eq!(store.settle([ends].into()).await.unwrap(), [Written::Yes]);
        let is_cancelled =
            async |id| store.job(id).await.unwrap().unwrap().standing.state.kind() == StateKind::Cancelled;
        assert!(is_cancelled(next.call.id).await);
        let transaction = connection.transaction().unwrap();
        let late = follows(next.call.id);
        found(&transaction, &late).unwrap();
        transaction.commit().unwrap();
        assert!(is_cancelled(late.call.id).await);
        assert_eq!(store.recount().await.unwrap(), 0);
        assert_eq!(store.prune(Timestamp::MAX, Timestamp::MAX, 9).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn an_id_names_one_job() {
        let (folder, store) = store().await;
        let mut connection = neighbour(&folder);
        let job = new_job();
        store.enqueue(vec![job.clone()]).await.unwrap();
        let transaction = connection.transaction().unwrap();
        enqueue_here(&transaction, &NewJob::from(JobCall { priority: 9, queue: "q".into(), ..job.call.clone() }))
            .unwrap();
        let said = |job| chain(&enqueue_here(&transaction, &job).unwrap_err());
        let (id, task) = (job.call.id, job.call.task.clone());
        assert_eq!(
            said(NewJob::from(JobCall { task: "other".into(), ..job.call.clone() })),
            format!("job {id} is one of the task `{task}`, not of `other`")
        );
        assert_eq!(
            said(NewJob::from(JobCall { args: crate::model::json::Json::from_stored("[3]"), ..job.call.clone() })),
            format!(
                "job {id} of the task `{task}` is there with other arguments; an id names one call, so give this one \
                 another"
            )
        );
        transaction.commit().unwrap();
        assert_eq!(store.job(id).await.unwrap(), Some(job.into()), "it is as it was");
    }

    #[test]
    fn a_file_without_our_tables_is_refused() {
        let folder = tempfile::TempDir::new().unwrap();
        let mut connection = neighbour(&folder);
        let path = connection.path().unwrap().to_owned();
        let transaction = connection.transaction().unwrap();
        let error = enqueue_here(&transaction, &new_job()).unwrap_err();
        assert_eq!(
            chain(&error),
            format!(
                "`{path}` is not a store of qtasks: it has no tables of qtasks; open it once as the store, and use the \
                 same file here"
            )
        );
    }
}
