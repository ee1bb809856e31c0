//! Which workers live, and which jobs they hold.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use redis::{Value, cmd, from_redis_value};

use super::{connection::Link, encoding, error::Fault, runtime::Engine, server, url::StoreUrl};
use crate::{
    error::{Error, Result},
    model::job::{Job, WorkerId},
    store::{Notifier, Presence, Renewed},
};

/// The connection on which leases are renewed, and the thread that reads its answers. Renewals have both to themselves, so
/// that they wait for no other call.
pub(super) struct Renewals {
    link: Arc<Link>,
    engine: Engine,
}

impl Renewals {
    /// How long one renewal waits for the server at most. A lease lasts three seconds: when the connection is half open, this
    /// leaves time for another try on a new one.
    const PATIENCE: Duration = Duration::from_millis(1500);

    /// Starts the thread. The first renewal connects.
    pub(super) fn start(url: &StoreUrl) -> Result<Self> {
        let url = url.clone().within(Self::PATIENCE);
        // This notifier has no listeners: the other connection notifies them after the server was away.
        let link = Arc::new(Link::new(url, Arc::new(Notifier::new())));
        Ok(Self { link, engine: Engine::start("qtasks-redis-renew")? })
    }

    pub(super) async fn renew(&self, worker: WorkerId, beat: u64) -> Result<Renewed> {
        let link = Arc::clone(&self.link);
        self.engine.run("renew leases", async move { renew(&link, worker, beat).await }).await
    }

    /// Has the server forget a worker, behind its last renewal: that may be under way although its caller is gone, and would
    /// bring the worker back.
    pub(super) async fn leave(&self, worker: WorkerId, notifier: Arc<Notifier>) -> Result<()> {
        let link = Arc::clone(&self.link);
        self.engine.ask("let a worker leave", async move { leave(&link, worker, &notifier).await }).await
    }
}

async fn renew(link: &Link, worker: WorkerId, beat: u64) -> Result<Renewed> {
    let failed = |fault: Fault| Error::store("renew leases", fault);
    let mut call = link.call(|scripts| &scripts.renew);
    call.arg(&worker.to_bytes()).arg(beat).arg(server::FORMAT);
    match link.ask::<Value>(&call).await.map_err(failed)? {
        Value::Int(found) => Err(Error::NewerStore { store: link.url.to_string(), found, known: server::FORMAT }),
        answer => renewed(answer, worker).map_err(failed),
    }
}

fn renewed(answer: Value, worker: WorkerId) -> Result<Renewed, Fault> {
    let (seconds, microseconds, leases): (i64, i64, Vec<Vec<u8>>) =
        from_redis_value(answer).map_err(redis::RedisError::from)?;
    let leases = leases.iter().map(|lease| encoding::read_lease(lease, worker)).collect::<Result<_, _>>()?;
    Ok(Renewed { leases, now: Some(server_time(seconds, microseconds)) })
}

/// The time by the clock of the server.
pub(super) async fn time(link: &Link) -> Result<Timestamp, Fault> {
    let (seconds, microseconds) = link.ask(&cmd("TIME")).await?;
    Ok(server_time(seconds, microseconds))
}

fn server_time(seconds: i64, microseconds: i64) -> Timestamp {
    encoding::time(seconds.saturating_mul(1000).saturating_add(microseconds / 1000))
}

async fn leave(link: &Link, worker: WorkerId, notifier: &Notifier) -> Result<(), Fault> {
    let mut call = link.call(|scripts| &scripts.leave);
    call.arg(&worker.to_bytes());
    if link.ask::<bool>(&call).await? {
        notifier.notify_lost();
    }
    Ok(())
}

pub(super) async fn workers(link: &Link) -> Result<Vec<Presence>, Fault> {
    let known: Vec<(Vec<u8>, String, bool)> = link.ask(&link.call(|scripts| &scripts.workers)).await?;
    known.iter().map(|(worker, beat, holds)| encoding::presence(worker, beat, *holds)).collect()
}

/// The most jobs that one call finds.
const FOUND_AT_ONCE: usize = 10_000;

pub(super) async fn held(link: &Link, worker: WorkerId, limit: usize) -> Result<Vec<Job>, Fault> {
    let mut call = link.call(|scripts| &scripts.held);
    call.arg(&worker.to_bytes()).arg(limit.min(FOUND_AT_ONCE));
    let answer: Vec<Value> = link.ask(&call).await?;
    let [waits, jobs @ ..] = &answer[..] else { return Err(Fault::Unreadable) };
    if *waits == Value::Int(1) {
        link.notifier.notify_work();
    }
    encoding::jobs(jobs, encoding::job)
}

pub(super) async fn forget(link: &Link, worker: WorkerId, beat: Option<u64>) -> Result<(), Fault> {
    let mut call = link.call(|scripts| &scripts.forget);
    call.arg(&worker.to_bytes()).arg(encoding::beat(beat));
    link.ask(&call).await
}
