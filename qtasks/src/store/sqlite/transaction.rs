//! Enqueueing in a transaction of the application.

use rusqlite::Transaction;

use super::{enqueue::insert_job, fault::Fault, schema, sql, tables::intern};
use crate::{
    error::{Error, Result},
    job::{JobId, NewJob},
    store::UserTransaction,
};

impl UserTransaction for &Transaction<'_> {
    type Answer<T> = Result<T>;

    fn enqueue<T>(self, job: Result<NewJob>, then: impl FnOnce(JobId) -> T) -> Result<T> {
        let job = job?;
        enqueue_in(self, &job)?;
        Ok(then(job.id))
    }
}

impl UserTransaction for &super::Transaction<'_> {
    type Answer<T> = Result<T>;

    fn enqueue<T>(self, job: Result<NewJob>, then: impl FnOnce(JobId) -> T) -> Result<T> {
        UserTransaction::enqueue(&**self, job, then)
    }
}

const DOING: &str = "enqueue a job in the application's transaction";

/// Enqueues a job in a transaction of the application's own connection to the same file: the job exists exactly if that
/// transaction commits, and workers of any process hear of it then.
///
/// A job whose id is there already is left as it is.
///
/// # Errors
///
/// When the file has no tables of qtasks, or not those of this version. They are there once the file has been opened
/// [as a store](super::Sqlite::open).
fn enqueue_in(transaction: &Transaction<'_>, job: &NewJob) -> Result<()> {
    let found = schema::format(transaction).map_err(failed)?;
    let place = || transaction.path().unwrap_or_default().to_owned();
    match found {
        schema::FORMAT => insert(transaction, job).map_err(failed),
        newer if newer > schema::FORMAT => {
            Err(Error::NewerStore { place: place(), found: newer, known: schema::FORMAT })
        }
        0 => Err(Error::ForeignStore {
            place: place(),
            why: "it has no tables of qtasks; open it once as the store, and use the same file here".to_owned(),
        }),
        _ => Err(Error::ForeignStore {
            place: place(),
            why: "its tables are those of an older qtasks; open it once as the store".to_owned(),
        }),
    }
}

fn insert(transaction: &Transaction<'_>, job: &NewJob) -> rusqlite::Result<()> {
    let lane = intern(&mut *transaction.prepare_cached(sql::INSERT_LANE)?, &job.queue, &job.task)?;
    let (mut jobs, mut args) =
        (transaction.prepare_cached(sql::INSERT_JOB)?, transaction.prepare_cached(sql::INSERT_ARGS)?);
    insert_job(&mut jobs, &mut args, lane, job)
}

fn failed(error: rusqlite::Error) -> Error {
    Fault::from(error).into_error(DOING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::chain,
        store::{
            Store,
            sqlite::fixture::{lease, neighbour, new_job, soon, store},
        },
    };

    #[tokio::test]
    async fn the_job_exists_exactly_if_the_transaction_commits() {
        let (folder, store) = store().await;
        let mut connection = neighbour(&folder);
        connection.execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY)").unwrap();
        let (kept, dropped) = (new_job(), new_job());

        let transaction = connection.transaction().unwrap();
        transaction.execute("INSERT INTO orders DEFAULT VALUES", []).unwrap();
        enqueue_in(&transaction, &dropped).unwrap();
        transaction.rollback().unwrap();
        assert_eq!(store.job(dropped.id).await.unwrap(), None);

        let mut work = store.bell().work();
        let transaction = connection.transaction().unwrap();
        transaction.execute("INSERT INTO orders DEFAULT VALUES", []).unwrap();
        enqueue_in(&transaction, &kept).unwrap();
        enqueue_in(&transaction, &kept).unwrap();
        transaction.commit().unwrap();
        soon(work.rung()).await;
        let leased = lease(&store, 9).await;
        assert_eq!(leased.iter().map(|job| job.id).collect::<Vec<_>>(), [kept.id]);
        let orders: i64 = connection.query_row("SELECT count(*) FROM orders", [], |row| row.get(0)).unwrap();
        assert_eq!(orders, 1);
    }

    #[test]
    fn a_file_without_our_tables_is_refused() {
        let folder = tempfile::TempDir::new().unwrap();
        let mut connection = neighbour(&folder);
        let path = connection.path().unwrap().to_owned();
        let transaction = connection.transaction().unwrap();
        let error = enqueue_in(&transaction, &new_job()).unwrap_err();
        assert_eq!(
            chain(&error),
            format!(
                "`{path}` is not a store of qtasks: it has no tables of qtasks; open it once as the store, and use the \
                 same file here"
            )
        );
    }
}
