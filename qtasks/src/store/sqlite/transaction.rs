//! Enqueueing in a transaction of the application.

use rusqlite::Transaction;

use super::{fault::Fault, schema, sql, tables::intern, write::insert_job};
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
