//! Handlers in transactions. Each job has a transaction of its own.
//!
//! The row of the job is locked only at the end, for as long as it takes to append the steps and commit. So a lost lease is
//! noticed before anything of it can stay, and a handler that takes its time, or stands still with its process, does not
//! hold up the worker that takes the job over.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use deadpool_postgres::Object;
use futures::future::{join, try_join};
use tokio::runtime::Handle;
use tokio_postgres::{Client, IsolationLevel, Statement, types::Type};
use uuid::Uuid;

use super::record::{Columns, RECORD};
use crate::store::postgres::{
    encoding,
    error::Fault,
    pool::Parameter,
    shared::Shared,
    transaction::{ENDED, InTransaction, Sealed, Timer, Transaction},
    url::StoreUrl,
};
use crate::{
    model::job::{Lease, Step},
    store::{Changes, PendingStep, Record, Transacted},
};

/// After this time a transaction takes on no more handlers.
const LONG: Duration = Duration::from_millis(50);

/// A cursor `WITH HOLD` is read to its end at the commit, and reading this one is an error. So a handler cannot commit, since
/// only the store closes the cursor.
const BEGIN: &str = "
    DECLARE qtasks_guard NO SCROLL CURSOR WITH HOLD FOR
        SELECT ('a handler must not commit the transaction that it was given' || left(clock_timestamp()::text, 0))::int;
    SAVEPOINT qtasks_handler";

const UNDO: &str = "ROLLBACK TO SAVEPOINT qtasks_handler";

/// Takes back the settings that a handler may have made. From here on others may wait for the job, so the server ends the
/// transaction if the process stands still.
const END: &str = "
    CLOSE qtasks_guard;
    RESET ROLE;
    RESET statement_timeout;
    RESET lock_timeout;
    SET LOCAL enable_seqscan = off;
    SET LOCAL enable_bitmapscan = off;
    SET LOCAL enable_mergejoin = off;
    SET LOCAL jit = off;
    SET LOCAL plan_cache_mode = force_generic_plan;
    SET LOCAL idle_in_transaction_session_timeout = '3s'";

/// Reads how many steps of a job are recorded, if the lease holds.
const RECORDED: &str =
    "SELECT j.steps FROM qtasks.jobs j WHERE j.id = $1 AND j.state = 2 AND j.worker = $2 AND j.attempt = $3";

/// Reads the same, after a commit that is under way.
const RECORDED_AT_LAST: &str = "SELECT j.steps FROM qtasks.jobs j
    WHERE j.id = $1 AND j.state = 2 AND j.worker = $2 AND j.attempt = $3 FOR UPDATE";

const MEDDLED: &str = "a handler left the transaction in a state in which its step cannot be recorded";
const BROKEN: &str = "what handlers wrote cannot be committed";
const POOLED: &str = "a handler in a transaction needs a connection of its own to Postgres, and these go through a pooler \
                      (`pooler=transaction`); use a URL that leads past it";

/// Runs handlers, and records their steps.
pub(crate) async fn transact(
    shared: &Arc<Shared>,
    runtime: Handle,
    lease: Option<Lease>,
    pending_steps: &[Arc<PendingStep>],
) -> Result<Transacted, Fault> {
    let url = &shared.database.place;
    if url.pooled {
        return Err(Fault::Unsupported(POOLED));
    }
    if let Some(lease) = lease
        && pending_steps.iter().any(|pending| pending.is_taken())
        && let Some(came) = after_all(shared, &runtime, lease, pending_steps).await?
    {
        return Ok(came);
    }
    let lending = runtime.spawn({
        let shared = Arc::clone(shared);
        async move { shared.database.lend_to_handlers().await }
    });
    let mut lent = lending.await.map_err(Fault::away)??;
    let call = HandlerRun { url, timer: Timer { runtime, patience: url.patience }, lease, pending_steps };
    let came = call.carry_out(lent.connection_mut()).await;
    // If no answer came, the commit may have been made all the same.
    shared.broadcast.of(&Changes::progressed(lease.map(|lease| lease.job)));
    let came = came.map_err(|fault| fault.explained(url))?;
    lent.give_back();
    Ok(came)
}

/// The result of a call that was made before, unless it has left handlers to run.
async fn after_all(
    shared: &Arc<Shared>,
    runtime: &Handle,
    lease: Lease,
    pending_steps: &[Arc<PendingStep>],
) -> Result<Option<Transacted>, Fault> {
    let reading = runtime.spawn({
        let shared = Arc::clone(shared);
        async move {
            let holder = Holder::of(lease);
            shared.database.query(RECORDED_AT_LAST, &holder.parameters()).await
        }
    });
    let rows = reading.await.map_err(Fault::away)??;
    let Some(row) = rows.first() else { return Ok(Some(Transacted::Fenced)) };
    let recorded = encoding::get::<i64>(row, 0)?.cast_unsigned();
    Ok(match pending_steps.iter().find(|pending| pending.seq >= recorded) {
        Some(pending) if pending.is_taken() => Some(Transacted::Spent(recorded)),
        Some(_) => None,
        None => Some(Transacted::Upto(recorded)),
    })
}

/// The lease of the job, as parameters of statements.
struct Holder {
    job: Uuid,
    worker: Uuid,
    attempt: i64,
}

impl Holder {
    fn of(lease: Lease) -> Self {
        Self {
            job: encoding::job_id(lease.job),
            worker: encoding::worker_id(lease.worker),
            attempt: lease.attempt.into(),
        }
    }

    fn parameters(&self) -> [Parameter<'_>; 3] {
        [(&self.job, Type::UUID), (&self.worker, Type::UUID), (&self.attempt, Type::INT8)]
    }
}

/// One call that runs handlers.
struct HandlerRun<'a> {
    url: &'a StoreUrl,
    timer: Timer,
    lease: Option<Lease>,
    pending_steps: &'a [Arc<PendingStep>],
}

/// The statements of the store within the transaction of handlers.
struct Statements {
    recorded: Statement,
    record: Statement,
}

impl HandlerRun<'_> {
    /// Runs the handlers and commits. If this fails, the connection is to be closed.
    async fn carry_out(&self, connection: &mut Object) -> Result<Transacted, Fault> {
        let statements = self.prepare(connection).await?;
        let client: &mut Client = connection;
        let begun = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start();
        let transaction = self.timer.in_time(async { Ok(begun.await?) }).await?;
        let (schema, timer) = (&*self.url.schema, self.timer.clone());
        let mut tx = Transaction { transaction, schema, timer, sealed: Sealed::No };
        let Some(recorded) = self.begin(&tx, &statements).await? else {
            return self.roll_back(tx, Transacted::Fenced).await;
        };
        let (steps, came) = self.run(&mut tx, recorded).await?;
        if steps.is_empty() {
            return self.roll_back(tx, came).await;
        }
        if !self.record(&tx, &statements, steps).await? {
            return self.roll_back(tx, Transacted::Fenced).await;
        }
        let committed = self.timer.in_time(async { Ok(tx.transaction.commit().await?) }).await;
        committed.map_err(|fault| blamed(fault, BROKEN))?;
        Ok(came)
    }

    async fn prepare(&self, connection: &Object) -> Result<Statements, Fault> {
        let (recorded, record) = (self.url.sql(RECORDED), self.url.sql(RECORD));
        let of_record: Vec<_> = Columns::default().parameters().into_iter().map(|(_, of_type)| of_type).collect();
        let both = try_join(
            connection.prepare_typed_cached(&recorded, &[Type::UUID, Type::UUID, Type::INT8]),
            connection.prepare_typed_cached(&record, &of_record),
        );
        let (recorded, record) = self.timer.in_time(async { Ok(both.await?) }).await?;
        Ok(Statements { recorded, record })
    }

    /// Begins the transaction. Gives how many steps are recorded, if the lease holds.
    async fn begin(&self, tx: &Transaction<'_>, statements: &Statements) -> Result<Option<u64>, Fault> {
        let first = self.pending_steps.first().map_or(0, |pending| pending.seq);
        let Some(lease) = self.lease else {
            tx.execute(BEGIN).await?;
            return Ok(Some(first));
        };
        let holder = Holder::of(lease);
        let parameters = holder.parameters().map(|(value, _)| value);
        let recorded = async { Ok::<_, Fault>(tx.query(&statements.recorded, &parameters).await?) };
        let (begun, recorded) = self.timer.in_time(async { Ok(join(tx.execute(BEGIN), recorded).await) }).await?;
        begun?;
        recorded?.first().map(|row| Ok(encoding::get::<i64>(row, 0)?.cast_unsigned())).transpose()
    }

    /// Runs handlers. Gives their steps, and how far they came.
    async fn run(&self, tx: &mut Transaction<'_>, recorded: u64) -> Result<(Vec<Step>, Transacted), Fault> {
        let (begun, mut steps, mut next) = (Instant::now(), Vec::new(), recorded);
        for pending in self.pending_steps.iter().filter(|pending| pending.seq >= recorded) {
            if pending.seq != next {
                return Err(Fault::Contract("the values to handle leave a gap in their numbers"));
            }
            // Each call runs at least one handler, however slow the begin was.
            if next > recorded && begun.elapsed() > LONG {
                break;
            }
            let Some(handler) = pending.take::<InTransaction>() else { return Ok((steps, Transacted::Spent(next))) };
            tx.sealed = Sealed::No;
            let reply = handler(tx).await;
            match std::mem::replace(&mut tx.sealed, Sealed::No) {
                Sealed::Yes => {}
                Sealed::No => tx.execute(UNDO).await.map_err(|fault| blamed(fault, ENDED))?,
                Sealed::InDoubt(fault) => return Err(fault),
            }
            let Some(reply) = reply else { return Ok((steps, Transacted::Failed(next))) };
            steps.push(Step { seq: next, hash: pending.hash, reply });
            next += 1;
        }
        Ok((steps, Transacted::Upto(next)))
    }

    /// Appends the steps. Gives whether the lease held.
    async fn record(&self, tx: &Transaction<'_>, statements: &Statements, steps: Vec<Step>) -> Result<bool, Fault> {
        let Some(lease) = self.lease else {
            return tx.execute(END).await.map(|()| true).map_err(|fault| blamed(fault, ENDED));
        };
        let record = Record { lease, steps, memos: Vec::new(), jobs: Vec::new(), progress: None, passed: false };
        let columns = Columns::new(&[(0, &record)]);
        let values: Vec<_> = columns.parameters().into_iter().map(|(value, _)| value).collect();
        let appended = async { Ok::<_, Fault>(tx.query(&statements.record, &values).await?) };
        let (ended, appended) = self.timer.in_time(async { Ok(join(tx.execute(END), appended).await) }).await?;
        ended.map_err(|fault| blamed(fault, ENDED))?;
        let appended = appended.map_err(|fault| if fault.is_for_good() { fault } else { blamed(fault, MEDDLED) });
        match appended?.first() {
            None => Ok(false),
            Some(row) if encoding::get::<bool>(row, 1)? => Ok(true),
            Some(_) => Err(Fault::Misuse(MEDDLED)),
        }
    }

    async fn roll_back(&self, tx: Transaction<'_>, came: Transacted) -> Result<Transacted, Fault> {
        self.timer.in_time(async { Ok(tx.transaction.rollback().await?) }).await?;
        Ok(came)
    }
}

/// Blames the handlers for what the server has refused.
fn blamed(fault: Fault, why: &'static str) -> Fault {
    match fault {
        Fault::Refused(trouble) => {
            tracing::warn!(%trouble, "{why}");
            Fault::Misuse(why)
        }
        other => other,
    }
}
