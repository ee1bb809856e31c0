//! A body that runs, and the time that it may take.

use std::{future::pending, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio::{sync::oneshot, time::sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, Span};

use super::thread_body::{self, ThreadBody};
use crate::{
    environment::suspects::RunningSuspect,
    execution::{
        body::{Outcome, Running},
        stopped::Stopped,
    },
    runtime::clock_hold::BodyHold,
};

/// How long an aborted body may take to be dropped before it is left alone.
const DROPPING: Duration = Duration::from_secs(1);

/// Runs `body` in the caller's own task, for as long as `max_time` allows.
pub(crate) async fn within(max_time: Option<Duration>, body: Running, hold: Option<Arc<BodyHold>>) -> Outcome {
    let (begun, time_up) = time_limit(max_time);
    let outcome = async {
        match body {
            Running::Async(body) => begin(body, begun).await,
            Running::Blocking(body) => thread_body::start(body, begun, hold).outcome().await,
        }
    };
    tokio::select! {
        biased;
        outcome = outcome => outcome,
        limit = time_up => Err(Stopped::TimeUp(limit)),
    }
}

/// Where a body sends that it has begun, if its time is limited.
pub(super) type Begun = Option<oneshot::Sender<()>>;

/// Where the body sends that it has begun, and a future that ends when its time is up. The time runs from the begin of the
/// body, not while it waits for a thread.
pub(super) fn time_limit(max_time: Option<Duration>) -> (Begun, BoxFuture<'static, Duration>) {
    let Some(max_time) = max_time else { return (None, Box::pin(pending())) };
    let (begun, begins) = oneshot::channel();
    let time_up = async move {
        if begins.await.is_err() {
            return pending().await;
        }
        sleep(max_time).await;
        max_time
    };
    (Some(begun), Box::pin(time_up))
}

async fn begin<T>(body: impl Future<Output = T>, begun: Begun) -> T {
    if let Some(begun) = begun {
        // The attempt may be over by now.
        let _ = begun.send(());
    }
    body.await
}

/// A body that runs, on a task or a thread of its own: so one that never returns cannot keep its attempt from being settled.
/// To drop it stops a body on the runtime, and leaves one on a thread to end by itself.
pub(super) enum Body {
    OnRuntime(AbortOnDropHandle<Outcome>),
    OnThread(ThreadBody),
}

impl Body {
    /// Starts the body in the current span; `suspect` is dropped when the body has ended, however long that takes.
    pub(super) fn start(
        body: Running,
        begun: Begun,
        suspect: Option<RunningSuspect>,
        hold: Option<Arc<BodyHold>>,
    ) -> Self {
        match (in_current_span(body), suspect) {
            (Running::Async(body), None) => on_runtime(begin(body, begun)),
            (Running::Async(body), Some(suspect)) => on_runtime(async move {
                let _suspect = suspect;
                begin(body, begun).await
            }),
            (Running::Blocking(body), None) => Self::OnThread(thread_body::start(body, begun, hold)),
            (Running::Blocking(body), Some(suspect)) => {
                let body = move || {
                    let _suspect = suspect;
                    body()
                };
                Self::OnThread(thread_body::start(Box::new(body), begun, hold))
            }
        }
    }

    pub(super) async fn outcome(&mut self) -> Outcome {
        match self {
            Self::OnRuntime(body) => match body.await {
                Ok(outcome) => outcome,
                Err(error) => match error.try_into_panic() {
                    Ok(payload) => Err(Stopped::panic(payload)),
                    // Only a runtime that is shutting down ends a task that was not aborted.
                    Err(_) => Err(Stopped::Released),
                },
            },
            Self::OnThread(body) => body.outcome().await,
        }
    }

    /// Stops the body, so that its drop code runs; gives whether it has stopped. A body on a thread cannot be stopped, and is
    /// left to end by itself.
    pub(super) async fn stop(self) -> bool {
        match self {
            Self::OnRuntime(body) => {
                body.abort();
                tokio::time::timeout(DROPPING, body).await.is_ok()
            }
            Self::OnThread(body) => body.abandon(),
        }
    }
}

fn on_runtime(body: impl Future<Output = Outcome> + Send + 'static) -> Body {
    Body::OnRuntime(AbortOnDropHandle::new(tokio::spawn(body)))
}

/// The same body, polled in the current span. A body on a thread is called in that span anyhow.
fn in_current_span(body: Running) -> Running {
    let span = Span::current();
    match body {
        Running::Async(body) if !span.is_disabled() => Running::Async(Box::pin(body.instrument(span))),
        other => other,
    }
}
