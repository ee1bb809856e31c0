//! What a running task gets from its application: the time, chance, its last step, and to enqueue jobs.

use std::{any::Any, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;

use super::{
    enqueuing::{enqueue, may_enqueue},
    handle::JobHandle,
};
use crate::{
    environment::App,
    error::{Error, Result},
    execution::{
        context::{Host, TaskContext},
        journal::memo::{Durability, Made},
        stopped::Stopped,
    },
    model::job::{JobId, Step},
    task::{Task, call::CallOptions, prepared::Prepared},
    telemetry::{
        numbers::{Event, note},
        trace::linked,
    },
    worker::retrying::persist,
};

impl Host for App {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn random(&self) -> u64 {
        fastrand::u64(..)
    }

    fn sleep_until(&self, time: Timestamp) -> BoxFuture<'static, ()> {
        let clock = self.clock.clone();
        async move { clock.sleep_until(time).await }.boxed()
    }

    fn last_step(&self, job: JobId) -> BoxFuture<'_, Result<Option<Step>>> {
        persist(&self.outage, "read the last step", move || self.store.last_step(job)).boxed()
    }
}

type HandleOf<C> = JobHandle<<<C as CallOptions>::Task as Task>::Output>;

impl TaskContext {
    /// Enqueues a call, once. A body that runs again gets the same job, and so does a handler that is called again for the same
    /// value. When this returns, the job is durable.
    ///
    /// ```
    /// use qtasks::prelude::*;
    ///
    /// #[qtask]
    /// async fn resize(picture: String) {
    ///     println!("{picture} is resized");
    /// }
    ///
    /// #[qtask(echo = true)]
    /// async fn album(ctx: TaskContext, pictures: Vec<String>) -> qtasks::Result<Vec<JobId>> {
    ///     for picture in pictures {
    ///         let job = ctx.enqueue(resize(picture)).await?;
    ///         yield_!(job.id());
    ///     }
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> qtasks::Result<()> {
    /// let app = QueueTasks::open("memory:").await?;
    /// let worker = app.worker().start().await?;
    /// let job = app.enqueue(album(vec!["one.png".into(), "two.png".into()])).await?;
    /// for id in job.result().await? {
    ///     app.job::<resize>(id).await?.result().await?;
    /// }
    /// worker.shutdown().await
    /// # }
    /// ```
    ///
    /// The store writes the job and the memo of it in one commit, and only while the lease holds: an attempt that was fenced off
    /// enqueues nothing. A call that has a [key](CallOptions::unique_key) or comes [after](CallOptions::after) other jobs may be
    /// refused, or be that of another job: so the id is recorded first, the job is enqueued in a commit of its own, and what came of it
    /// is recorded last. A body that runs again makes no second job then either.
    ///
    /// # Errors
    ///
    /// [`Error::OverLimit`](crate::Error::OverLimit) and [`Error::Encode`](crate::Error::Encode) when the arguments do not
    /// fit; [`Error::OtherTask`](crate::Error::OtherTask) and [`Error::OtherArguments`](crate::Error::OtherArguments) when
    /// the [`id`](CallOptions::id) of the call is that of another job; [`Error::Duplicate`](crate::Error::Duplicate) and
    /// [`Error::NoParent`](crate::Error::NoParent) when the store refuses it; [`Error::Rejected`](crate::Error::Rejected) when an
    /// [`Around`](crate::Around) refuses the call;
    /// [`Error::AttemptEnded`](crate::Error::AttemptEnded) after the end of the attempt, when nothing is enqueued.
    ///
    /// # Cancel safety
    ///
    /// The job may be enqueued although the future was dropped.
    pub async fn enqueue<C: CallOptions>(&self, call: C) -> Result<HandleOf<C>> {
        match self.enqueue_once(call).await {
            Ok(enqueued) => enqueued,
            Err(stopped) => self.try_leave(stopped).await,
        }
    }

    /// [`enqueue`](Self::enqueue) for `fn` tasks.
    ///
    /// # Errors
    ///
    /// Those of [`enqueue`](Self::enqueue).
    ///
    /// # Panics
    ///
    /// As [`once_blocking`](Self::once_blocking).
    pub fn enqueue_blocking<C: CallOptions>(&self, call: C) -> Result<HandleOf<C>> {
        self.try_block_on(self.enqueue_once(call))
    }

    async fn enqueue_once<C: CallOptions>(&self, call: C) -> Result<Result<HandleOf<C>>, Stopped> {
        let app = self.app();
        if !self.is_recorded() {
            self.check_may_wait()?;
            self.check_goes_on()?;
            return Ok(match app.prepare(call) {
                Ok(job) => enqueue_here(app, job).await,
                Err(error) => Err(error),
            });
        }
        let job = match app.prepare(call) {
            Ok(job) => Prepared { trace: linked(job.trace), ..job },
            Err(error) => return Ok(Err(error)),
        };
        if job.unique.is_some() || job.after.is_some() {
            return self.enqueue_apart::<C>(app, job).await;
        }
        let make = async {
            may_enqueue(&*app.store, &job).await?;
            // Here, since a body that runs again makes no job.
            note(&Event::Enqueued(job.lane()));
            Ok(Made { value: job.id, job: Some(job.job()) })
        };
        let enqueued = self.make_once("@enqueue", Durability::Awaited, make).await?;
        Ok(enqueued.map(|id| JobHandle::of_call(id, id, app)))
    }

    /// Another job may be that of the call, or it may be refused, so the record is not written together with the job, as otherwise: the id that the job is to
    /// have is recorded first, and the job that was found last. So a body that runs again makes no second one.
    async fn enqueue_apart<C: CallOptions>(
        &self,
        app: Arc<App>,
        job: Prepared,
    ) -> Result<Result<HandleOf<C>>, Stopped> {
        let own = self.make_once("@id", Durability::Awaited, async { Ok::<_, Error>(job.id.into()) }).await?;
        let own = match own {
            Ok(own) => own,
            Err(error) => return Ok(Err(error)),
        };
        let make = async {
            let job = Prepared { id: own, ..job };
            let joined = enqueue(&*app.store, std::slice::from_ref(&job)).await?;
            Ok(job.found(&joined).into())
        };
        let found = self.make_once("@enqueue", Durability::Awaited, make).await?;
        Ok(found.map(|id| JobHandle::of_call(id, own, app)))
    }

    fn app(&self) -> Arc<App> {
        let host: Arc<dyn Any + Send + Sync> = self.host();
        host.downcast().expect("what surrounds a task is the application")
    }
}

/// Enqueues a job for a task that runs here and now. Once this has begun, the end of the attempt does not cut it short.
async fn enqueue_here<C>(app: Arc<App>, job: Prepared) -> Result<JobHandle<C>> {
    let joined = enqueue(&*app.store, std::slice::from_ref(&job)).await?;
    Ok(JobHandle::of_call(job.found(&joined), job.id, app))
}
