//! A job as a program sees it: its result, its values as they become durable, its state.

use std::{any::type_name, fmt, marker::PhantomData, sync::Arc};

use futures::stream::BoxStream;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    pages::{not_whole, page},
    stream,
    unserved::UnservedWait,
    watch::{self, Update},
};
use crate::{
    environment::{
        App,
        patience::{Patience, patiently},
    },
    error::{BoxError, Error, Result},
    model::{
        job::{
            Attempt, Counts, Ending, Job, JobCall, JobId, Lease, Output, Parents, Progress, Reply, Shape, Standing,
            State,
        },
        json::Json,
        lifecycle::{self, Outcome},
        result::gather,
        unique::Holder,
    },
    schema::collect::Collection,
    store::{Hold, Settlement, Written},
};

/// A job, from any process that opens the same store; `C` is what its result is.
///
/// Handles are cheap to clone, and dropping one does nothing to the job.
pub struct JobHandle<C> {
    id: JobId,
    app: Arc<App>,
    is_new: bool,
    output: PhantomData<fn() -> C>,
}

/// Where a job stands, as [`JobHandle::status`] gives it. As JSON it can be shown as it is: the arguments are not in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// The task's name.
    pub task: String,
    /// The queue it was enqueued under.
    pub queue: String,
    /// When it was enqueued.
    pub enqueued: Timestamp,
    /// Its state.
    pub state: State,
    /// The number of the latest attempt; 0 before the first.
    pub attempt: u32,
    /// How many attempts in a row have failed without a new step.
    pub failures: u32,
    /// How many durable steps the job has.
    pub steps: u64,
    /// How many of the steps are skipped values.
    pub skipped: u64,
    /// The progress that the task last reported.
    pub progress: Option<Progress>,
    /// How many attempts have ended, also those that [`attempts`](Self::attempts) leaves out.
    pub attempts_ended: u64,
    /// The attempts that have ended, oldest first; of more than 100 the first 10 and the last 90. An attempt that its worker
    /// gave back before it had begun is counted, and is not among them.
    pub attempts: Vec<Attempt>,
}

impl<C> Parents for JobHandle<C> {
    fn ids(self) -> Vec<JobId> {
        vec![self.id()]
    }
}

impl<C> Parents for &JobHandle<C> {
    fn ids(self) -> Vec<JobId> {
        vec![self.id()]
    }
}

impl<C> JobHandle<C> {
    /// A job that was there.
    pub(crate) fn new(id: JobId, app: Arc<App>) -> Self {
        Self { id, app, is_new: false, output: PhantomData }
    }

    /// The job of a call, which was to have the id `own`.
    pub(crate) fn of_call(id: JobId, own: JobId, app: Arc<App>) -> Self {
        Self { is_new: id == own, ..Self::new(id, app) }
    }

    pub(super) fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// The job's id: enough to attach to it from anywhere, with [`QueueTasks::job`](crate::QueueTasks::job).
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Whether the call has made the job: another one that was there may be its job because of its
    /// [key](crate::CallOptions::unique_key). Of a handle that no call gave it is false.
    pub const fn is_new(&self) -> bool {
        self.is_new
    }

    /// Waits until the job has ended, and gives its result.
    ///
    /// # Errors
    ///
    /// [`Error::Dead`] and [`Error::Cancelled`], with the text that the task gave. [`Error::NoSuchJob`] when the job was pruned,
    /// or is not committed yet. [`Error::Store`] when the store cannot be read.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is taken from the job.
    pub async fn result(&self) -> Result<C>
    where
        C: DeserializeOwned,
    {
        self.result_as().await
    }

    /// Waits until the job has ended, and reads its result as a `T`; for tasks without a return type.
    ///
    /// # Errors
    ///
    /// Those of [`result`](Self::result), and [`Error::Decode`] when the result is not a `T`.
    pub async fn result_as<T: DeserializeOwned>(&self) -> Result<T> {
        let (state, counts) = self.ended().await?;
        match state {
            State::Done { output: Output::Value(json) } => {
                json.decode().map_err(|source| undecodable::<T>(self.id, source.into()))
            }
            State::Done { output: Output::Steps(shape) } => {
                let replies = self.replies(&counts, shape).await?;
                gather(shape, counts.steps - counts.skipped, &replies)
                    .map_err(|source| undecodable::<T>(self.id, source.into()))
            }
            state => Err(stream::unhappy_end(self.id, state)),
        }
    }

    /// Gives the values of the job from the first on, live and from any process, until the job ends.
    ///
    /// Each value comes when it is durable: a crash takes none of them back. An `Err` is the last item, unless it
    /// [is a skipped step](Error::is_skipped). The stream is `Unpin`, and can be dropped at any time.
    // A type parameter for the items: only so does the compiler's error for a job without values say that it has none.
    pub fn stream<R>(&self) -> BoxStream<'static, Result<R>>
    where
        C: Collection<Item = R>,
        R: DeserializeOwned + Send + 'static,
    {
        self.stream_from(0)
    }

    /// Gives the values from step number `seq` on; as [`stream`](Self::stream).
    pub fn stream_from<R>(&self, seq: u64) -> BoxStream<'static, Result<R>>
    where
        C: Collection<Item = R>,
        R: DeserializeOwned + Send + 'static,
    {
        stream::values(self.app.clone(), self.id, seq)
    }

    /// Gives the values, read as `R`; as [`stream`](Self::stream).
    pub fn stream_as<R: DeserializeOwned + Send + 'static>(&self) -> BoxStream<'static, Result<R>> {
        stream::values(self.app.clone(), self.id, 0)
    }

    /// Gives all that changes of the job, live and from any process, until the job ends: how it stands, its progress, and its
    /// steps with their numbers. It serves tasks that do not yield too.
    ///
    /// ```
    /// use qtasks::{Update, prelude::*};
    ///
    /// #[qtask(echo = true)]
    /// async fn squares(ctx: TaskContext, n: u64) -> Vec<u64> {
    ///     for i in 1..=n {
    ///         ctx.progress(i, n);
    ///         yield_!(i * i);
    ///     }
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> qtasks::Result<()> {
    /// let app = QueueTasks::open("memory:").await?;
    /// let worker = app.worker().start().await?;
    /// let job = app.enqueue(squares(3)).await?;
    /// let mut updates = job.watch();
    /// let mut values = Vec::new();
    /// while let Some(update) = updates.next().await {
    ///     match update? {
    ///         Update::Status(standing) => println!("{}, attempt {}", standing.state.name(), standing.attempt),
    ///         Update::Progress(progress) => println!("{} of {}", progress.done, progress.total),
    ///         Update::Step(step) => values.push((step.seq, step.value::<u64>()?)),
    ///         _ => {}
    ///     }
    /// }
    /// assert_eq!(values, [(0, 1), (1, 4), (2, 9)]);
    /// worker.shutdown().await
    /// # }
    /// ```
    ///
    /// The first item is how the job stands, unless it has ended. Each step comes once, in order, when it is durable: a crash
    /// takes none of them back. Of states and progress that follow each other quickly only the latest may come; the numbers of
    /// attempts show what lies between. That a worker of another process has begun to run the job may come up to 5 s later, or
    /// with the first step or progress.
    ///
    /// The last item is [`Update::Status`] with the state in which the job has ended, however it has ended. An `Err` is the
    /// last item too: [`Error::NoSuchJob`] when there is no such job any more, or it is not committed yet, and [`Error::Store`]
    /// when the store is away for longer than its `timeout` allows. [`watch_from`](Self::watch_from) goes on after that.
    ///
    /// # Cancel safety
    ///
    /// Safe: the stream is `Unpin`, keeps its place when a future of its `next()` is dropped, and can itself be dropped at any
    /// time.
    pub fn watch(&self) -> BoxStream<'static, Result<Update>> {
        self.watch_from(0)
    }

    /// As [`watch`](Self::watch), with the steps from number `seq` on: for a watcher that has seen those before it.
    pub fn watch_from(&self, seq: u64) -> BoxStream<'static, Result<Update>> {
        watch::updates(self.app.clone(), self.id, seq)
    }

    /// Where the job stands now.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchJob`], and [`Error::Store`] when the store cannot be read.
    pub async fn status(&self) -> Result<Status> {
        let Job { call, standing, counts, .. } = self.app.job(self.id).await?;
        let JobCall { task, queue, enqueued, .. } = call;
        let Standing { state, attempt, failures, .. } = standing;
        let Counts { steps, skipped, progress, .. } = counts;
        let store = &*self.app.store;
        let attempts = patiently(store, || store.attempts(self.id)).await?;
        let runs = matches!(state, State::Running { .. });
        let attempts_ended = u64::from(attempt).saturating_sub(runs.into());
        Ok(Status {
            task,
            queue,
            enqueued,
            state,
            attempt,
            failures,
            steps,
            skipped,
            progress,
            attempts_ended,
            attempts,
        })
    }

    /// Cancels the job. The worker stops a running body within about a second; from now on that body can write nothing.
    ///
    /// # Errors
    ///
    /// [`Error::WrongState`] when the job has ended: a job completes or is cancelled, never both. [`Error::Store`] when the
    /// store did not answer in time: then the job may or may not be cancelled, and to cancel it again shows which.
    ///
    /// # Cancel safety
    ///
    /// The job may be cancelled although the future was dropped.
    pub async fn cancel(&self) -> Result<()> {
        const REASON: &str = "called off";
        let decide = |standing: &Standing, _now| {
            lifecycle::cancel(standing, REASON).map(|(outcome, ending)| (outcome, Some(ending)))
        };
        let is_done =
            |now: &Standing, _seen: &Hold| matches!(&now.state, State::Cancelled { reason } if reason == REASON);
        self.change("cancelled", decide, is_done).await
    }

    /// Makes a job that is dead or cancelled due again. It goes on at its first value that is not recorded.
    ///
    /// # Errors
    ///
    /// [`Error::WrongState`] when the job is neither. [`Error::KeyTaken`] when another job has its
    /// [key](crate::CallOptions::unique_key) by now. [`Error::Store`] when the store did not answer in time: then the job
    /// may or may not be tried again, and its [`status`](Self::status) shows which.
    ///
    /// # Cancel safety
    ///
    /// The job may be tried again although the future was dropped.
    pub async fn retry(&self) -> Result<()> {
        let is_done = |now: &Standing, before: &Hold| self.seen(now) != *before;
        // No attempt at it runs that could end.
        let decide = |standing: &Standing, now| lifecycle::retry(standing, now).map(|outcome| (outcome, None));
        self.change("retried", decide, is_done).await
    }

    /// Changes the job as `decide` says, and decides anew when the job changes meanwhile. The store may have made a change
    /// without an answer: `is_done` says so of the job as it is now, and of what was seen of it before.
    async fn change(
        &self,
        wish: &'static str,
        decide: impl Fn(&Standing, Timestamp) -> Option<(Outcome, Option<Ending>)>,
        is_done: impl Fn(&Standing, &Hold) -> bool,
    ) -> Result<()> {
        let store = &*self.app.store;
        let mut patience = Patience::new(store);
        // What was seen of the job before the first try that the store may have carried out.
        let mut before = None;
        loop {
            let found = patience.call(|| store.standing(self.id)).await?;
            let (standing, _) = found.ok_or(Error::NoSuchJob(self.id))?;
            if before.as_ref().is_some_and(|before| is_done(&standing, before)) {
                return Ok(());
            }
            let now = self.app.now();
            let Some((outcome, ending)) = decide(&standing, now) else {
                return Err(Error::WrongState { id: self.id, state: standing.state.name(), wish });
            };
            let settlement = self.settlement(&standing, outcome, ending, now);
            match patience.once(store.settle(Arc::new([settlement]))).await {
                Ok(written) if written == [Written::Yes] => return Ok(()),
                // The job has moved on since it was read; the decision is made anew.
                Ok(_) if !standing.state.is_ended() => {}
                Ok(_) => self.check_key(&mut patience, standing.state.name()).await?,
                Err(error) if error.is_store_trouble() => {
                    patience.wait(error).await?;
                    before.get_or_insert(self.seen(&standing));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Checks that no other job lives that has the key of this one, which has ended and is to live again.
    async fn check_key(&self, patience: &mut Patience<'_>, state: &'static str) -> Result<()> {
        let store = &*self.app.store;
        let found = Box::pin(patience.call(|| store.job(self.id))).await?.ok_or(Error::NoSuchJob(self.id))?;
        let JobCall { task, key: Some(key), .. } = found.call else { return Ok(()) };
        let holder = patience.call(|| store.holder(&task, &key)).await?;
        let lives = |holder: &Holder| holder.there.is_some_and(|there| !there.state.is_ended());
        match holder.filter(|holder| holder.job != self.id && lives(holder)) {
            Some(holder) => Err(Error::KeyTaken { id: self.id, task, state, holder: holder.job, key }),
            None => Ok(()),
        }
    }

    /// What holds as long as the job does not change.
    fn seen(&self, standing: &Standing) -> Hold {
        Hold::Seen { job: self.id, state: standing.state.kind(), attempt: standing.attempt }
    }

    /// The settlement that gives the job this outcome, if the job has not changed since it was read.
    fn settlement(&self, standing: &Standing, outcome: Outcome, ending: Option<Ending>, now: Timestamp) -> Settlement {
        let attempt = |(Lease { attempt: number, worker, .. }, ending)| Attempt {
            number,
            worker,
            started: None,
            ended: now,
            ending,
            steps: None,
        };
        let attempt = standing.lease(self.id).zip(ending).map(attempt);
        Settlement { hold: self.seen(standing), outcome, steps: None, attempt, now }
    }

    async fn ended(&self) -> Result<(State, Counts)> {
        let (mut end, mut unserved) = (self.app.store.notifier().end(self.id), UnservedWait::begin());
        loop {
            let (standing, counts) = self.app.standing(self.id).await?;
            if standing.state.is_ended() {
                return Ok((standing.state, counts));
            }
            unserved.look(&self.app, self.id, &standing).await;
            end.wait().await;
        }
    }

    /// All replies that a result of this shape is made of.
    async fn replies(&self, counts: &Counts, shape: Shape) -> Result<Vec<Json>> {
        let store = &*self.app.store;
        match shape {
            Shape::Nothing | Shape::Count => Ok(Vec::new()),
            Shape::Last => {
                let last = patiently(store, || store.last_step(self.id)).await?.and_then(|step| step.reply.value());
                if last.is_none() && counts.steps > counts.skipped {
                    return Err(not_whole(store, self.id, counts.steps).await?);
                }
                Ok(last.into_iter().collect())
            }
            Shape::List | Shape::Map | Shape::Text => {
                let (mut replies, mut from) = (Vec::new(), 0);
                while from < counts.steps {
                    let steps = page(store, self.id, counts.steps, from).await?;
                    from += steps.len() as u64;
                    replies.extend(steps.into_iter().filter_map(|step| step.reply.value()));
                }
                Ok(replies)
            }
        }
    }
}

impl Reply {
    fn value(self) -> Option<Json> {
        match self {
            Self::Value(json) => Some(json),
            Self::Skipped(_) => None,
        }
    }
}

fn undecodable<T>(id: JobId, source: BoxError) -> Error {
    Error::Decode { what: format!("the result of job {id}"), as_type: type_name::<T>(), source }
}

impl<C> Clone for JobHandle<C> {
    fn clone(&self) -> Self {
        Self::new(self.id, self.app.clone())
    }
}

impl<C> fmt::Debug for JobHandle<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {}", self.id)
    }
}
