//! Changes where and when a job waits that never started.

use std::{future::IntoFuture, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;

use super::handle::JobHandle;
use crate::{
    environment::{App, patience::patiently},
    error::{Error, Result},
    model::{
        job::{JobId, State},
        limits::check_name,
    },
    store::{Placement, Written},
};

impl<C> JobHandle<C> {
    /// Changes the queue, the priority or the due time of a job that waits for its first attempt.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use qtasks::prelude::*;
    ///
    /// #[qtask]
    /// async fn monthly(month: u32) {}
    ///
    /// # #[tokio::main]
    /// # async fn main() -> qtasks::Result<()> {
    /// let app = QueueTasks::open("memory:").await?;
    /// let job = app.enqueue(monthly(11)).await?;
    /// job.edit().queue("nightly").priority(-1).delay(Duration::from_secs(3600)).await?;
    /// assert_eq!(job.status().await?.queue, "nightly");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::WrongState`] when an attempt at the job has been made, or it has ended; [`Error::NoSuchJob`];
    /// [`Error::OverLimit`] for what is no name of a queue; [`Error::Store`] when the store did not answer in time: then the job may
    /// or may not be changed, and to change it again does no harm.
    ///
    /// # Cancel safety
    ///
    /// The job may be changed although the future was dropped.
    pub fn edit(&self) -> Editing {
        let placement = Placement { job: self.id(), queue: None, priority: None, due: None };
        Editing { app: self.app().clone(), placement }
    }
}

/// A change that is to be made of a job: by `.await`.
#[must_use = "nothing is changed until this is awaited"]
pub struct Editing {
    app: Arc<App>,
    placement: Placement,
}

impl Editing {
    /// Puts the job into this queue.
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.placement.queue = Some(queue.into());
        self
    }

    /// Gives the job this priority; higher is leased first.
    pub fn priority(mut self, priority: i16) -> Self {
        self.placement.priority = Some(priority);
        self
    }

    /// The job is due at this time; at once, if it has passed.
    pub fn at(mut self, time: Timestamp) -> Self {
        self.placement.due = Some(time);
        self
    }

    /// The job is due after this time.
    pub fn delay(self, time: Duration) -> Self {
        let due = self.app.now().checked_add(time).unwrap_or(Timestamp::MAX);
        self.at(due)
    }
}

impl IntoFuture for Editing {
    type Output = Result<()>;
    type IntoFuture = BoxFuture<'static, Result<()>>;

    fn into_future(self) -> Self::IntoFuture {
        edit(self.app, self.placement).boxed()
    }
}

async fn edit(app: Arc<App>, placement: Placement) -> Result<()> {
    if let Some(queue) = &placement.queue {
        check_name("queue", queue)?;
    }
    match patiently(&*app.store, || app.store.place(placement.clone())).await? {
        Written::Yes => Ok(()),
        Written::Fenced => Err(refusal(&app, placement.job).await?),
    }
}

/// Why a job cannot be changed.
async fn refusal(app: &App, id: JobId) -> Result<Error> {
    let (standing, _) = app.standing(id).await?;
    let state = match standing.state {
        // What waits again, between two attempts, has steps and a place of its own.
        State::Waiting { .. } => "between two attempts",
        state => state.name(),
    };
    Ok(Error::WrongState { id, state, wish: "edited" })
}
