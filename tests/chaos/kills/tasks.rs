//! The tasks whose workers are killed, whatever their store: both checkpoints, `async fn` and `fn`, handlers of either
//! kind, and one that does not yield. They enter into the ledger whatever they do.

use std::{io, sync::Arc, thread, time::Duration};

use qtasks::{prelude::*, store::Store};
use qtasks_tests::kills::ledger::{Entry, Ledger, What, now};
use tokio::{
    runtime::Handle,
    task::{block_in_place, spawn_blocking},
};

/// What a handler replies to `value`, whenever and wherever it is called.
pub(crate) fn reply(value: u64) -> u64 {
    value * 2 + 1
}

#[qtask(generate_handler = handle, echo = true, checkpoint = "each", retry = 1_000_000)]
pub(crate) async fn async_each(ctx: TaskContext, site: State<Site>, first: u64, count: u64) -> Vec<u64> {
    site.started(&ctx).await;
    for value in first..first + count {
        yield_!(value);
    }
    site.note(&ctx, What::Finished);
}

#[qtask(generate_handler = handle_in_place, echo = true, retry = 1_000_000)]
pub(crate) async fn async_within(ctx: TaskContext, site: State<Site>, first: u64, count: u64) -> Vec<u64> {
    site.started(&ctx).await;
    for value in first..first + count {
        yield_!(value);
    }
    site.note(&ctx, What::Finished);
}

#[qtask(generate_handler = handle_blocking, echo = true, checkpoint = "each", retry = 1_000_000)]
pub(crate) fn blocking_each(ctx: TaskContext, site: State<Site>, first: u64, count: u64) -> Vec<u64> {
    Handle::current().block_on(site.started(&ctx));
    for value in first..first + count {
        yield_!(value);
    }
    site.note(&ctx, What::Finished);
}

#[qtask(generate_handler = handle, echo = true, retry = 1_000_000)]
pub(crate) fn blocking_within(ctx: TaskContext, site: State<Site>, first: u64, count: u64) -> Vec<u64> {
    Handle::current().block_on(site.started(&ctx));
    for value in first..first + count {
        yield_!(value);
    }
    site.note(&ctx, What::Finished);
}

/// Does not yield, and fails at every third attempt.
#[qtask(echo = true, retry = 1_000_000, backoff = "1ms..50ms")]
pub(crate) async fn plain(ctx: TaskContext, site: State<Site>, value: u64) -> Result<u64, String> {
    // A body that does not yield runs to its end once it has begun, whatever others do meanwhile.
    let begun = site.begun(&ctx, value);
    site.started(&ctx).await;
    let reply = carry_out(begun, value, &site, &ctx).await;
    tokio::time::sleep(Duration::from_millis(value % 50)).await;
    site.note(&ctx, What::Finished);
    if ctx.attempt() % 3 == 1 { Err("on purpose".to_owned()) } else { Ok(reply) }
}

/// The schedule of each second.
pub(crate) const SECONDS: &str = "seconds";

/// What that enqueues.
#[qtask(retry = 1_000_000)]
pub(crate) async fn each_second() {}

async fn handle(value: u64, site: State<Site>, ctx: TaskContext) -> u64 {
    carry_out(site.begun(&ctx, value), value, &site, &ctx).await
}

async fn carry_out(begun: Entry, value: u64, site: &State<Site>, ctx: &TaskContext) -> u64 {
    // Waiting for the disk blocks, so it is kept off the threads that run async code.
    let entered = spawn_blocking({
        let site = site.clone();
        move || site.ledger.enter(begun)
    });
    entered.await.map_err(io::Error::other).flatten().expect(WRITABLE);
    if !site.pause.is_zero() {
        tokio::time::sleep(site.pause).await;
    }
    site.ended(ctx);
    reply(value)
}

fn handle_blocking(value: u64, site: State<Site>, ctx: TaskContext) -> u64 {
    site.ledger.enter(site.begun(&ctx, value)).expect(WRITABLE);
    thread::sleep(site.pause);
    site.ended(&ctx);
    reply(value)
}

/// For an `async fn` task, whose handler runs in line on the runtime.
fn handle_in_place(value: u64, site: State<Site>, ctx: TaskContext) -> u64 {
    block_in_place(|| handle_blocking(value, site, ctx))
}

const WRITABLE: &str = "a ledger can be written";
/// After this time a store that was away is asked again.
pub(crate) const AWAY: Duration = Duration::from_millis(50);

/// What the tasks of one process share.
pub(crate) struct Site {
    pub(crate) ledger: Ledger,
    pub(crate) store: Arc<dyn Store>,
    /// How long a handler takes, besides what it enters.
    pub(crate) pause: Duration,
}

impl Site {
    pub(crate) async fn started(&self, ctx: &TaskContext) {
        let job = loop {
            match self.store.job(ctx.job_id()).await {
                Err(error) if error.is_store_trouble() => tokio::time::sleep(AWAY).await,
                job => break job.expect("a store can be read"),
            }
        };
        // A server that lost what it acknowledged may not know the job any more.
        self.note(ctx, What::Started { steps: job.map_or(0, |job| job.counts.steps) });
    }

    fn begun(&self, ctx: &TaskContext, value: u64) -> Entry {
        entry(ctx, What::Begun { seq: seq(ctx), value })
    }

    pub(crate) fn ended(&self, ctx: &TaskContext) {
        self.note(ctx, What::Ended { seq: seq(ctx) });
    }

    pub(crate) fn note(&self, ctx: &TaskContext, what: What) {
        self.ledger.note(entry(ctx, what)).expect(WRITABLE);
    }
}

fn entry(ctx: &TaskContext, what: What) -> Entry {
    Entry { job: ctx.job_id(), attempt: ctx.attempt(), at: now(), what }
}

/// The number of the step that is being made.
pub(crate) fn seq(ctx: &TaskContext) -> u64 {
    let key = ctx.idempotency_key();
    key.rsplit(':').next().and_then(|seq| seq.parse().ok()).expect("a key is the job and the number of the step")
}
