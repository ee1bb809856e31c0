//! Calls of one kind that are under way at the same time share one statement, and with it one commit.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use super::{error::Fault, shared::Shared};
use crate::{
    error::{Error, Result},
    store::Written,
};

/// A call that can share a statement with others of its kind.
pub(super) trait BatchedCall: Sized + Send + Sync + 'static {
    type Answer: Send + 'static;
    /// What the store could not do when a call fails, for its error.
    const DOING: &'static str;

    /// How many rows the call is about.
    fn weight(&self) -> usize;

    /// Carries out all calls or none. Gives one answer for each.
    fn carry_out<'a>(calls: &'a [Self], shared: &'a Shared) -> BoxFuture<'a, Result<Vec<Self::Answer>, Fault>>;
}

/// When the calls of a statement are about this many rows, further calls wait for the next statement.
const FULL: usize = 2_000;

/// Gathers calls of one kind into statements.
pub(super) struct Batcher<C: BatchedCall>(mpsc::UnboundedSender<Pending<C>>);

struct Pending<C: BatchedCall> {
    call: C,
    answer: oneshot::Sender<Result<C::Answer, Fault>>,
}

impl<C: BatchedCall> Batcher<C> {
    pub(super) fn start(runtime: &Handle, shared: &Arc<Shared>) -> Self {
        let (calls, waiting) = mpsc::unbounded_channel();
        runtime.spawn(serve(waiting, Arc::clone(shared)));
        Self(calls)
    }

    /// Carries out `call`, also if the caller stops waiting for it.
    pub(super) async fn ask(&self, call: C) -> Result<C::Answer> {
        let (answer, answered) = oneshot::channel();
        // If the store was closed, this fails, and no answer comes.
        _ = self.0.send(Pending { call, answer });
        match answered.await {
            Ok(came) => came.map_err(|fault| fault.of_write(C::DOING)),
            Err(_) => Err(Error::store(C::DOING, "the store was closed")),
        }
    }
}

async fn serve<C: BatchedCall>(mut waiting: mpsc::UnboundedReceiver<Pending<C>>, shared: Arc<Shared>) {
    while let Some(first) = waiting.recv().await {
        let mut weight = first.call.weight();
        let (mut calls, mut answers) = (vec![first.call], vec![first.answer]);
        while weight < FULL
            && let Ok(next) = waiting.try_recv()
        {
            weight += next.call.weight();
            calls.push(next.call);
            answers.push(next.answer);
        }
        let came = carry_out(&calls, &shared).await;
        if let Some(Err(silent @ Fault::Silent(_))) = came.last() {
            // Calls that have waited for the server meanwhile fail too, so that they do not wait for it each in turn.
            while let Ok(next) = waiting.try_recv() {
                _ = next.answer.send(Err(silent.clone()));
            }
        }
        for (answer, came) in answers.into_iter().zip(came) {
            // The caller may be gone.
            _ = answer.send(came);
        }
    }
}

/// Carries out the calls together. If the server refuses that, each call is carried out by itself, so that one that is wrong
/// does not fail others that it shares a statement with by chance.
async fn carry_out<C: BatchedCall>(calls: &[C], shared: &Shared) -> Vec<Result<C::Answer, Fault>> {
    match C::carry_out(calls, shared).await {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(Fault::Misuse(_) | Fault::Contract(_) | Fault::Refused(_)) if calls.len() > 1 => {
            let mut each = Vec::with_capacity(calls.len());
            for call in calls {
                let alone = C::carry_out(std::slice::from_ref(call), shared).await;
                each.push(alone.map(|answers| answers.into_iter().next().expect("a call has one answer")));
            }
            each
        }
        Err(fault) => calls.iter().map(|_| Err(fault.clone())).collect(),
    }
}

/// Deals the answers out to the calls, of which each has a number of them.
pub(super) fn dealt_out(written: Vec<Written>, counts: impl Iterator<Item = usize>) -> Vec<Vec<Written>> {
    let mut written = written.into_iter();
    counts.map(|count| written.by_ref().take(count).collect()).collect()
}
