//! A body under way, within its time.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, task::JoinHandle, time::sleep};
use tracing::{Instrument as _, Span};

use super::called::{self, Called};
use crate::{
    environment::suspects,
    execution::{
        body::{Outcome, Running},
        stopped::Stopped,
    },
    runtime::clock_hold::BodyHold,
};

/// How long an aborted body may take to be dropped before it is left alone.
const DROPPING: Duration = Duration::from_secs(1);

/// What `body` comes to here and now, if it does so in time.
pub(crate) async fn within(max_time: Option<Duration>, body: Running, hold: Option<Arc<BodyHold>>) -> Outcome {
    let (begun, time_up) = time_limit(max_time);
    let outcome = async {
        match body {
            Running::Async(body) => begin(body, begun).await,
            Running::Blocking(body) => called::call(body, begun, hold).outcome().await,
        }
    };
    tokio::select! {
        biased;
        outcome = outcome => outcome,
        limit = time_up => Err(Stopped::TimeUp(limit)),
    }
}

/// Tells that a body has begun, where that matters.
type Begun = Option<oneshot::Sender<()>>;

/// Where to tell that a body has begun, and what ends when its time is up. A body that waits for its thread has not begun.
pub(super) fn time_limit(max_time: Option<Duration>) -> (Begun, impl Future<Output = Duration>) {
    let (begun, begins) = max_time.map(|_| oneshot::channel()).unzip();
    let time_up = async move {
        if let (Some(max_time), Some(begins)) = (max_time, begins)
            && begins.await.is_ok()
        {
            sleep(max_time).await;
            return max_time;
        }
        std::future::pending().await
    };
    (begun, time_up)
}

async fn begin<T>(body: impl Future<Output = T>, begun: Begun) -> T {
    if let Some(begun) = begun {
        // The attempt may be over by now.
        let _ = begun.send(());
    }
    body.await
}

/// A body under way, on a task or a thread of its own: one that never lets go cannot keep its attempt from being settled.
pub(super) enum Body {
    Polled(JoinHandle<Outcome>),
    Called(Called),
}

impl Body {
    /// Starts it in the current span; `suspect` is dropped when it has ended, however long that takes.
    pub(super) fn start(
        body: Running,
        begun: Begun,
        suspect: Option<suspects::Running>,
        hold: Option<Arc<BodyHold>>,
    ) -> Self {
        match (in_current_span(body), suspect) {
            (Running::Async(body), None) => Self::Polled(tokio::spawn(begin(body, begun))),
            (Running::Async(body), Some(suspect)) => Self::Polled(tokio::spawn(async move {
                let _suspect = suspect;
                begin(body, begun).await
            })),
            (Running::Blocking(body), None) => Self::Called(called::call(body, begun, hold)),
            (Running::Blocking(body), Some(suspect)) => {
                let body = move || {
                    let _suspect = suspect;
                    body()
                };
                Self::Called(called::call(Box::new(body), begun, hold))
            }
        }
    }

    pub(super) async fn outcome(&mut self) -> Outcome {
        match self {
            Self::Polled(body) => match body.await {
                Ok(outcome) => outcome,
                Err(error) => match error.try_into_panic() {
                    Ok(payload) => Err(Stopped::panic(payload)),
                    // Only a runtime that is shutting down ends a task that was not aborted.
                    Err(_) => Err(Stopped::Released),
                },
            },
            Self::Called(body) => body.outcome().await,
        }
    }

    /// Stops the body, so that its drop code runs; gives whether that could be done.
    pub(super) async fn stop(self) -> bool {
        match self {
            Self::Polled(body) => {
                body.abort();
                tokio::time::timeout(DROPPING, body).await.is_ok()
            }
            Self::Called(body) => body.abandon(),
        }
    }
}

/// The same body, polled in the current span. Called ones are called in it anyhow.
fn in_current_span(body: Running) -> Running {
    let span = Span::current();
    match body {
        Running::Async(body) if !span.is_disabled() => Running::Async(Box::pin(body.instrument(span))),
        other => other,
    }
}
