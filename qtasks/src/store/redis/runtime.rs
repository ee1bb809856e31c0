//! A thread on which a store talks to its server, so that calls can come from any runtime, and are carried out although
//! their callers are gone.

use std::thread;

use futures::TryFutureExt as _;
use tokio::{runtime::Handle, sync::oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::error::Fault;
use crate::error::{Error, Result};

/// The thread of a store. It ends when this is dropped, after the calls that are under way.
pub(super) struct Engine {
    pub(super) crew: Crew,
    closing: CancellationToken,
}

/// Carries out the calls of an engine; also for parts of the store that do not own it.
#[derive(Clone)]
pub(super) struct Crew {
    runtime: Handle,
    calls: TaskTracker,
}

impl Crew {
    /// Carries out work beside the calls. The engine does not end before the work has.
    pub(super) fn carry_out(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.calls.spawn_on(work, &self.runtime);
    }
}

impl Engine {
    /// Starts the thread of this name.
    pub(super) fn start(name: &str) -> Result<Self> {
        let failed = |source| Error::store("start the thread that talks to its server", source);
        let (calls, closing) = (TaskTracker::new(), CancellationToken::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let crew = Crew { runtime: runtime.handle().clone(), calls: calls.clone() };
        let engine = Self { crew, closing: closing.clone() };
        let body = move || {
            runtime.block_on(async {
                closing.cancelled().await;
                calls.close();
                calls.wait().await;
            });
        };
        thread::Builder::new().name(name.to_owned()).spawn(body).map_err(failed)?;
        Ok(engine)
    }

    /// Carries out a call on the thread of the store.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        doing: &'static str,
        call: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T> {
        self.run(doing, call.map_err(|fault| Error::store(doing, fault))).await
    }

    /// Carries out a call that makes its own error.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        call: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let answer = self.crew.calls.spawn_on(call, &self.crew.runtime).await;
        answer.unwrap_or_else(|_| Err(Error::store(doing, Fault::Ended)))
    }

    /// Waits for the answer of a call that writes, which comes on a channel.
    pub(super) async fn answer_of_write<T>(
        &self,
        doing: &'static str,
        answer: oneshot::Receiver<Result<T, Fault>>,
    ) -> Result<T> {
        answer.await.unwrap_or(Err(Fault::Ended)).map_err(|fault| fault.of_write(doing))
    }

    /// Runs work in the background until the engine ends.
    pub(super) fn keep(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.crew.runtime.spawn(work);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}
