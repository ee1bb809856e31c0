//! Pauses and resumes queues, tasks, or everything.

use std::{future::IntoFuture, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;

use super::app::QueueTasks;
use crate::{
    environment::{
        App,
        notes::{delete, kind, write},
        patience::patiently,
    },
    error::{Error, Result},
    model::{
        limits::check_name,
        pause::{Pause, Scope},
    },
    runtime::alarm::sleep,
};

impl QueueTasks {
    /// Pauses a queue, a task or everything: when the answer is there, no further job of it is started, on any machine, from one
    /// second later on. Jobs that run go on, new ones are taken in, and nothing fails. What is paused already is paused anew.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use qtasks::{Scope, prelude::*};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> qtasks::Result<()> {
    /// let app = QueueTasks::open("memory:").await?;
    /// app.pause(Scope::Queue("mail")).lasting(Duration::from_secs(3600)).because("the provider is down").by("ann").await?;
    /// assert_eq!(app.pauses().await?.len(), 1);
    /// assert!(app.resume(Scope::Queue("mail")).await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::OverLimit`] for what is no name of a queue or task, and [`Error::Store`] when the store does not answer.
    ///
    /// # Cancel safety
    ///
    /// It may be paused although the future was dropped.
    pub fn pause(&self, scope: Scope<'_>) -> Pausing {
        let app = self.app();
        let pause = Pause::new(scope, app.now());
        let checked = check_scope(scope);
        Pausing { app, pause: checked.map(|()| pause) }
    }

    /// Resumes what was paused; gives whether it was. Another scope that covers the same jobs stays paused.
    ///
    /// # Errors
    ///
    /// Those of [`pause`](Self::pause).
    pub async fn resume(&self, scope: Scope<'_>) -> Result<bool> {
        check_scope(scope)?;
        let app = self.app();
        app.change_note(kind::PAUSE, &scope.to_string(), |found| found.map(delete)).await
    }

    /// All that is paused at this time.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] when the store does not answer.
    pub async fn pauses(&self) -> Result<Vec<Pause>> {
        pauses(&self.app()).await
    }
}

/// All that is paused at this time.
pub(super) async fn pauses(app: &Arc<App>) -> Result<Vec<Pause>> {
    let (notes, now) = (app.notes(kind::PAUSE).await?, app.now());
    let pauses = notes.iter().filter_map(|note| Pause::read(&note.name, &note.value, note.until));
    Ok(pauses.filter(|pause| pause.holds(now)).collect())
}

fn check_scope(scope: Scope<'_>) -> Result<()> {
    match scope {
        Scope::All => {}
        Scope::Queue(name) => check_name("queue", name)?,
        Scope::Task(name) => check_name("task", name)?,
    }
    Ok(())
}

/// A pause that is to be made: by `.await`.
#[must_use = "nothing is paused until this is awaited"]
pub struct Pausing {
    app: Arc<App>,
    pause: Result<Pause>,
}

impl Pausing {
    /// It ends by itself at this time.
    pub fn until(self, time: Timestamp) -> Self {
        self.with(|pause| pause.until = Some(time))
    }

    /// It ends by itself after this time.
    pub fn lasting(self, time: Duration) -> Self {
        self.with(|pause| pause.until = Some(pause.since.checked_add(time).unwrap_or(Timestamp::MAX)))
    }

    /// Why: what `why` says of a job that waits for its end.
    pub fn because(self, reason: impl Into<String>) -> Self {
        self.with(|pause| pause.because = Some(reason.into()))
    }

    /// Who pauses it.
    pub fn by(self, name: impl Into<String>) -> Self {
        self.with(|pause| pause.by = Some(name.into()))
    }

    /// Has jobs that run given back too, without a failure: generators at their next yield, others when the
    /// [grace](crate::WorkerBuilder::grace) of their worker is over.
    pub fn stop(self) -> Self {
        self.with(|pause| pause.stops = true)
    }

    fn with(mut self, change: impl FnOnce(&mut Pause)) -> Self {
        if let Ok(pause) = &mut self.pause {
            change(pause);
        }
        self
    }

    /// Pauses it, and waits until no job of it runs.
    ///
    /// # Errors
    ///
    /// Those of [`QueueTasks::pause`].
    ///
    /// # Cancel safety
    ///
    /// It stays paused when the future is dropped.
    pub async fn drain(self) -> Result<Pause> {
        let app = self.app.clone();
        let pause = self.await?;
        // No job is started later than this.
        sleep(Duration::from_secs(1)).await;
        while runs(&app, pause.scope()).await? > 0 {
            sleep(Duration::from_millis(100)).await;
        }
        Ok(pause)
    }
}

/// How many jobs run that the scope covers.
async fn runs(app: &Arc<App>, scope: Scope<'_>) -> Result<u64> {
    let (store, now) = (&*app.store, app.now());
    let counts = patiently(store, || store.counts(now)).await?;
    let covered = counts.iter().filter(|counts| scope.covers(&counts.lane.queue, &counts.lane.task));
    Ok(covered.map(|counts| counts.jobs.running).sum())
}

impl IntoFuture for Pausing {
    type Output = Result<Pause>;
    type IntoFuture = BoxFuture<'static, Result<Pause>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { app, pause } = self;
        async move {
            let pause = pause?;
            let encode = |source: serde_json::Error| Error::Encode { what: "the pause".into(), source: source.into() };
            let value = pause.value().map_err(encode)?;
            let name = pause.scope().to_string();
            app.change_note(kind::PAUSE, &name, |found| {
                Some(write(kind::PAUSE, &name, value.clone(), pause.until, found))
            })
            .await?;
            Ok(pause)
        }
        .boxed()
    }
}
