//! Work that a body does once: its value is recorded, and given again whenever the body runs again.

use std::{any::type_name, convert::Infallible, sync::atomic::Ordering::Relaxed, time::Duration};

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use super::TaskContext;
use crate::{
    error::{BoxError, Error, Result},
    execution::{
        journal::memo::{self, Durability, Made},
        stopped::Stopped,
    },
    model::{
        job::{Reply, Step},
        limits::check_name,
    },
    schema::Resume,
};

const NOW: &str = "@now";
const RANDOM: &str = "@random";
const SLEEP: &str = "@sleep";

impl TaskContext {
    /// Does `work` once: its value is recorded, and given again whenever the body runs again.
    ///
    /// This is how a body reads what may change: a file, a query, an answer from the network. The value is recorded under
    /// `name` and the number of its use, so that the same name can be used again and again, in a loop say. When this returns,
    /// the value is durable. After a crash before that, `work` runs once more. The value stands in one order with the steps,
    /// and is never part of streams or results.
    ///
    /// In a handler, and in the body of a task with `resume = "cursor"`, the value is recorded for the step that is handled or
    /// comes next: once that step is durable, the value is forgotten.
    ///
    /// ```
    /// use qtasks::prelude::*;
    ///
    /// #[qtask(echo = true)]
    /// async fn import(ctx: TaskContext, path: String) -> Vec<String> {
    ///     let lines: Vec<String> = ctx.once("lines", || async { vec![format!("first line of {path}")] }).await;
    ///     for line in lines {
    ///         yield_!(line);
    ///     }
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> qtasks::Result<()> {
    /// let app = QueueTasks::open("memory:").await?;
    /// let worker = app.worker().start().await?;
    /// let job = app.enqueue(import("users.csv".into())).await?;
    /// assert_eq!(job.result().await?, ["first line of users.csv"]);
    /// worker.shutdown().await
    /// # }
    /// ```
    ///
    /// The value may be as large as a step. If it is larger, has no JSON form, or was recorded by another version of the task
    /// as something that is no `T`, the attempt ends there with an error that says so.
    ///
    /// # Panics
    ///
    /// When `name` is not 1 to 128 letters, digits and `_.:-`; and [after the end of the attempt](TaskContext): if the attempt
    /// ended before the call, `work` is not done.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, `work` may have been done without being recorded.
    pub async fn once<T, F>(&self, name: &str, work: impl FnOnce() -> F) -> T
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = T>,
    {
        let work = async { Ok::<T, Infallible>(work().await) };
        match self.attempt_once(name, work).await {
            Ok(Ok(value)) => value,
            Ok(Err(never)) => match never {},
            Err(stopped) => self.leave(stopped).await,
        }
    }

    /// [`once`](Self::once) for work that may fail: an error is returned and not recorded, and the next try counts as the same
    /// use.
    ///
    /// # Errors
    ///
    /// Those of `work`.
    ///
    /// # Panics
    ///
    /// As [`once`](Self::once).
    ///
    /// # Cancel safety
    ///
    /// As [`once`](Self::once).
    pub async fn try_once<T, E, F>(&self, name: &str, work: impl FnOnce() -> F) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = Result<T, E>>,
    {
        match self.attempt_once(name, async { work().await }).await {
            Ok(done) => done,
            Err(stopped) => self.leave(stopped).await,
        }
    }

    /// [`once`](Self::once) for `fn` tasks.
    ///
    /// # Panics
    ///
    /// As [`once`](Self::once); and where that ends the attempt, this unwinds. The end of the attempt does not interrupt `work`.
    pub fn once_blocking<T: Serialize + DeserializeOwned>(&self, name: &str, work: impl FnOnce() -> T) -> T {
        match self.block_on(self.attempt_once(name, async { Ok::<T, Infallible>(work()) })) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// [`try_once`](Self::try_once) for `fn` tasks.
    ///
    /// # Errors
    ///
    /// Those of `work`.
    ///
    /// # Panics
    ///
    /// As [`once_blocking`](Self::once_blocking).
    pub fn try_once_blocking<T, E>(&self, name: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E>
    where
        T: Serialize + DeserializeOwned,
    {
        self.block_on(self.attempt_once(name, async { work() }))
    }

    /// The time, the same whenever the body runs again; recorded as by [`once`](Self::once), with the next steps.
    ///
    /// # Panics
    ///
    /// [After the end of the attempt](TaskContext).
    ///
    /// # Cancel safety
    ///
    /// As [`once`](Self::once).
    pub async fn now(&self) -> Timestamp {
        match self.record(NOW, Durability::Deferred, async { self.inner.host.now() }).await {
            Ok(now) => now,
            Err(stopped) => self.leave(stopped).await,
        }
    }

    /// [`now`](Self::now) for `fn` tasks.
    ///
    /// # Panics
    ///
    /// As [`once_blocking`](Self::once_blocking).
    pub fn now_blocking(&self) -> Timestamp {
        self.block_on(self.record(NOW, Durability::Deferred, async { self.inner.host.now() }))
    }

    /// 64 random bits, the same whenever the body runs again; recorded as by [`once`](Self::once), with the next steps.
    ///
    /// For many random numbers, seed a generator with these bits. They are not for secrets.
    ///
    /// # Panics
    ///
    /// [After the end of the attempt](TaskContext).
    ///
    /// # Cancel safety
    ///
    /// As [`once`](Self::once).
    pub async fn random(&self) -> u64 {
        match self.record(RANDOM, Durability::Deferred, async { self.inner.host.random() }).await {
            Ok(bits) => bits,
            Err(stopped) => self.leave(stopped).await,
        }
    }

    /// [`random`](Self::random) for `fn` tasks.
    ///
    /// # Panics
    ///
    /// As [`once_blocking`](Self::once_blocking).
    pub fn random_blocking(&self) -> u64 {
        self.block_on(self.record(RANDOM, Durability::Deferred, async { self.inner.host.random() }))
    }

    /// Sleeps for this time, once: a body that runs again sleeps only for the rest of it.
    ///
    /// The job keeps its slot in the worker meanwhile; to free the slot, return
    /// [`TaskError::snooze`](crate::TaskError::snooze).
    /// When the worker stops, a generator that sleeps in its body is given back at once.
    ///
    /// # Panics
    ///
    /// [After the end of the attempt](TaskContext), which a sleep does not outlast.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, a body that runs again may sleep here.
    pub async fn sleep(&self, time: Duration) {
        if let Err(stopped) = self.sleep_once(time).await {
            self.leave(stopped).await
        }
    }

    /// [`sleep`](Self::sleep) for `fn` tasks.
    ///
    /// # Panics
    ///
    /// As [`once_blocking`](Self::once_blocking).
    pub fn sleep_blocking(&self, time: Duration) {
        self.block_on(self.sleep_once(time));
    }

    /// The last step of the job, if there is one: its number and the handler's reply. A task with `resume = "cursor"` goes on
    /// from there instead of yielding everything again.
    ///
    /// ```
    /// use qtasks::{Count, prelude::*};
    ///
    /// #[qtask(echo = true, resume = "cursor")]
    /// async fn count_up(ctx: TaskContext, n: u64) -> qtasks::Result<Count> {
    ///     let next = ctx.last_step::<u64>().await?.map_or(0, |(_seq, last)| last + 1);
    ///     for number in next..n {
    ///         yield_!(number);
    ///     }
    ///     Ok(())
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> qtasks::Result<()> {
    /// let app = QueueTasks::open("memory:").await?;
    /// assert_eq!(app.run(count_up(1_000)).await?, Count(1_000));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] in a task without `resume = "cursor"`, [`Error::Decode`] when the reply is not an `R`,
    /// [`Error::Store`] when the store cannot be read, [`Error::AttemptEnded`] after the end of the attempt.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn last_step<R: DeserializeOwned>(&self) -> Result<Option<(u64, R)>> {
        match self.find_last_step().await {
            Ok(found) => found,
            Err(stopped) => self.try_leave(stopped).await,
        }
    }

    /// [`last_step`](Self::last_step) for `fn` tasks.
    ///
    /// # Errors
    ///
    /// Those of [`last_step`](Self::last_step).
    ///
    /// # Panics
    ///
    /// As [`once_blocking`](Self::once_blocking).
    pub fn last_step_blocking<R: DeserializeOwned>(&self) -> Result<Option<(u64, R)>> {
        self.try_block_on(self.find_last_step())
    }

    async fn attempt_once<T, E>(
        &self,
        name: &str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<Result<T, E>, Stopped>
    where
        T: Serialize + DeserializeOwned,
    {
        if let Err(wrong) = check_name("thing that is done once", name) {
            panic!("{wrong}");
        }
        self.make_once(name, Durability::Awaited, async { work.await.map(Made::from) }).await
    }

    /// Records a value under a name of our own, which the user's code cannot give.
    async fn record<T>(&self, name: &str, durability: Durability, make: impl Future<Output = T>) -> Result<T, Stopped>
    where
        T: Serialize + DeserializeOwned,
    {
        match self.make_once(name, durability, async { Ok::<_, Infallible>(Made::from(make.await)) }).await? {
            Ok(value) => Ok(value),
            Err(never) => match never {},
        }
    }

    pub(crate) async fn make_once<T, E>(
        &self,
        name: &str,
        durability: Durability,
        make: impl Future<Output = Result<Made<T>, E>>,
    ) -> Result<Result<T, E>, Stopped>
    where
        T: Serialize + DeserializeOwned,
    {
        self.check_may_wait()?;
        self.check_goes_on()?;
        match &self.inner.memos {
            Some(memos) => memos.once(self.step_of_memo(), name, durability, make, self.end()).await,
            // Here and now nothing is recorded, and the body sees the value as it would be read back.
            None => match self.end().or(make).await? {
                Ok(made) => self.check_goes_on().and_then(|()| memo::read_back(name, &made.value)).map(Ok),
                Err(error) => Ok(Err(error)),
            },
        }
    }

    /// The step that a memo made now is for, unless it is for the whole body.
    fn step_of_memo(&self) -> Option<u64> {
        let for_step = self.inner.position.is_handled() || self.resumes_by_cursor();
        for_step.then(|| self.inner.position.seq())
    }

    async fn sleep_once(&self, time: Duration) -> Result<(), Stopped> {
        let host = &self.inner.host;
        let end = self
            .record(SLEEP, Durability::Deferred, async { crate::model::lifecycle::later(host.now(), time) })
            .await?;
        tokio::select! {
            biased;
            () = host.sleep_until(end) => self.check_goes_on(),
            () = self.end().over() => Err(Stopped::Fenced),
            () = self.inner.stopping.cancelled(), if self.is_between_steps() => Err(Stopped::Released),
        }
    }

    async fn find_last_step<R: DeserializeOwned>(&self) -> Result<Result<Option<(u64, R)>>, Stopped> {
        self.check_may_wait()?;
        self.check_goes_on()?;
        if !self.resumes_by_cursor() {
            return Ok(Err(Error::Misuse(
                "`last_step` is for a task with `resume = \"cursor\"`; any other yields again",
            )));
        }
        self.inner.asked.store(true, Relaxed);
        let Some(memos) = &self.inner.memos else { return Ok(Ok(None)) };
        memos.journal.flush().await?;
        let found = self.end().or(self.inner.host.last_step(self.inner.job)).await?;
        Ok(found.and_then(|step| step.map(cursor).transpose()))
    }

    /// Refuses to begin work for an attempt that is over.
    pub(crate) fn check_goes_on(&self) -> Result<(), Stopped> {
        if self.is_over() { Err(Stopped::Fenced) } else { Ok(()) }
    }

    fn resumes_by_cursor(&self) -> bool {
        self.inner.task.generating.is_some_and(|generating| generating.resume == Resume::Cursor)
    }
}

fn cursor<R: DeserializeOwned>(step: Step) -> Result<(u64, R)> {
    let undecodable = |source: BoxError| Error::Decode {
        what: format!("the reply of step {}", step.seq),
        as_type: type_name::<R>(),
        source,
    };
    match &step.reply {
        Reply::Value(json) => Ok((step.seq, json.decode().map_err(|source| undecodable(source.into()))?)),
        Reply::Skipped(error) => Err(undecodable(error.clone().into())),
    }
}
