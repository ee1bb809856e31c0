//! An attempt, or a job that is lost, within what the application puts around its attempts.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{Either, select},
};
use tokio::{sync, time::sleep};

use super::{settling::Leased, shared::WorkerShared};
use crate::{
    around::{Ended, Innermost},
    execution::{state::States, stopped::Stopped},
    model::{
        job::Job,
        lifecycle::{Outcome, Verdict},
    },
    runtime::guard::drop_guarded,
    telemetry,
};

/// How long what stands around an attempt may go on when the attempt had to stop.
const LEFT: Duration = Duration::from_secs(1);

/// What came of an attempt within what stands around it.
pub(super) enum Came<T> {
    /// The attempt ran to its end, and came to this; or to the verdict instead, if there is one.
    Ran(T, Option<Verdict>),
    /// The attempt did not run, or not to its end, and this is what it comes to.
    Instead(Verdict),
    /// The worker stops, or has lost the lease, before the attempt ran.
    CutShort,
}

/// Runs an attempt at `job` within all that stands around it; `lost` ends when the lease is lost, and `end` says how an attempt
/// has ended.
pub(super) async fn within<T: Send, F: Future<Output = T> + Send>(
    Leased { shared, job, stop: stopping, .. }: &Leased<'_>,
    lost: impl Future<Output = ()>,
    attempt: impl FnOnce(States) -> F + Send,
    end: impl Fn(&T) -> Ended + Send + Sync,
) -> Came<T> {
    let (came, running, end) = (Mutex::new(None), sync::Mutex::new(()), &end);
    let (slot, runs) = (&came, &running);
    let innermost: Innermost<'_> = Box::new(move |states| {
        async move {
            let _running = runs.lock().await;
            let came = attempt(states).await;
            let ended = end(&came);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(came);
            ended
        }
        .boxed()
    });
    let around = Box::pin(shared.app.around.attempt(job, shared.app.states.clone(), innermost));
    let stop = async {
        select(std::pin::pin!(lost), std::pin::pin!(shared.grace_is_over_since(stopping))).await;
        // The attempt stops by itself.
        drop(runs.lock().await);
        sleep(LEFT).await;
    };
    let ended = match select(AssertUnwindSafe(around).catch_unwind(), std::pin::pin!(stop)).await {
        Either::Left((ended, _)) => Some(ended),
        Either::Right(((), around)) => {
            drop_guarded(around);
            None
        }
    };
    match (ended, came.into_inner().unwrap_or_else(PoisonError::into_inner)) {
        (Some(Ok(ended)), Some(came)) => Came::Ran(came, ended.decided()),
        (Some(Ok(ended)), None) => Came::Instead(ended.decided().unwrap_or_else(none_of_its_own)),
        (Some(Err(payload)), Some(came)) => Came::Ran(came, Stopped::panic(payload).verdict()),
        (Some(Err(payload)), None) => Stopped::panic(payload).verdict().map_or(Came::CutShort, Came::Instead),
        (None, Some(came)) => Came::Ran(came, None),
        (None, None) => Came::CutShort,
    }
}

/// What an attempt comes to that was not run, where what stands around it gave the end of another one.
fn none_of_its_own() -> Verdict {
    let error = "what stands around the attempt has neither run it nor said how it ends".to_owned();
    Verdict::Failed { error, wait: None, again: true }
}

/// Tells all that stands around attempts of a lost job that has ended with this outcome. A worker that stops waits for that as it
/// does for bodies.
pub(super) fn tell_ended(shared: &Arc<WorkerShared>, job: &Job, outcome: &Outcome) {
    if shared.app.around.is_empty() || !outcome.next.is_ended() {
        return;
    }
    let job = Job { standing: outcome.clone().standing(job.standing.attempt), ..job.clone() };
    let of_worker = shared.clone();
    shared.attempts.spawn(async move {
        let told = AssertUnwindSafe(of_worker.app.around.ended(&job)).catch_unwind();
        tokio::select! {
            told = told => {
                if let Err(payload) = told {
                    telemetry::around_panicked(&job, &Stopped::panic(payload).to_string());
                }
            }
            () = of_worker.grace_is_over() => {}
        }
    });
}
