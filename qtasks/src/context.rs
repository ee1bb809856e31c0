//! What a running task can ask of its surroundings: its context, and the states of the application.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    convert::Infallible,
    fmt,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;

use crate::{
    error::{BoxError, Error, Result},
    executor::Attempt,
    failure::Stopped,
    job::{JobId, Progress, Reply, Step},
    limits::check_name,
    memo::{Made, Memos, Wait},
    task::{Resume, TaskExecSchema},
};

tokio::task_local! {
    static CURRENT: TaskContext;
}

/// The running attempt, as its task sees it. Cloning is cheap.
///
/// A task gets it as its first parameter under `echo = true`, a handler as a parameter after the value, and anything
/// that either calls through [`TaskContext::current`].
///
/// ```
/// use qtasks::prelude::*;
///
/// #[qtask(echo = true)]
/// async fn who(ctx: TaskContext) -> String {
///     format!("{}, attempt {}", ctx.task().name, ctx.attempt())
/// }
///
/// # #[tokio::main]
/// # async fn main() -> qtasks::Result<()> {
/// let app = QueueTasks::open("memory:").await?;
/// assert_eq!(app.run(who()).await?, "who, attempt 1");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TaskContext {
    inner: Arc<Inner>,
}

struct Inner {
    job: JobId,
    attempt: u32,
    task: &'static TaskExecSchema,
    /// The step that is handled or comes next.
    place: Place,
    /// Whether the body has asked where to go on.
    asked: AtomicBool,
    memos: Option<Arc<Memos>>,
    stopping: CancellationToken,
    surroundings: Arc<dyn Surroundings>,
    exit: Exit,
    in_transaction: bool,
}

/// The number of a step twice, and one more while its handler runs: a single word, for it is set with each value.
#[derive(Default)]
struct Place(AtomicU64);

impl Place {
    fn in_step(seq: u64) -> Self {
        let place = Self::default();
        place.set(seq, true);
        place
    }

    #[inline]
    fn set(&self, seq: u64, handled: bool) {
        self.0.store(seq << 1 | u64::from(handled), Relaxed);
    }

    fn seq(&self) -> u64 {
        self.0.load(Relaxed) >> 1
    }

    fn is_handled(&self) -> bool {
        self.0.load(Relaxed) & 1 == 1
    }
}

/// What the processes around a task give to it.
pub(crate) trait Surroundings: Any + Send + Sync {
    /// The time.
    fn now(&self) -> Timestamp;
    /// Some random bits.
    fn random(&self) -> u64;
    /// Waits so long.
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()>;
    /// The last step of a job that was not skipped.
    fn last_step(&self, job: JobId) -> BoxFuture<'_, Result<Option<Step>>>;
}

/// The way out for a body that cannot go on, whatever it would return.
#[derive(Default)]
struct Exit {
    reason: Mutex<Option<Stopped>>,
    taken: CancellationToken,
}

impl TaskContext {
    /// The context of a task that is run here and now.
    pub(crate) fn here(task: &'static TaskExecSchema, surroundings: Arc<dyn Surroundings>) -> Self {
        Self::new(JobId::new(), 1, task, None, CancellationToken::new(), surroundings)
    }

    /// The context of an attempt at a job; without memos, nothing of it is recorded.
    pub(crate) fn new(
        job: JobId,
        attempt: u32,
        task: &'static TaskExecSchema,
        memos: Option<Memos>,
        stopping: CancellationToken,
        surroundings: Arc<dyn Surroundings>,
    ) -> Self {
        let inner = Inner {
            job,
            attempt,
            task,
            place: Place::default(),
            asked: AtomicBool::new(false),
            memos: memos.map(Arc::new),
            stopping,
            surroundings,
            exit: Exit::default(),
            in_transaction: false,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The same for a handler in a transaction: it runs when the body may be at a later step already.
    pub(crate) fn in_transaction(&self, seq: u64) -> Self {
        let Inner { job, attempt, task, memos, stopping, surroundings, .. } = &*self.inner;
        let inner = Inner {
            job: *job,
            attempt: *attempt,
            task,
            place: Place::in_step(seq),
            asked: AtomicBool::new(false),
            memos: memos.clone(),
            stopping: stopping.clone(),
            surroundings: surroundings.clone(),
            exit: Exit::default(),
            in_transaction: true,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Whether this is the context of a handler in a transaction. Nothing in there may wait for the store, which waits
    /// for the handler.
    pub(crate) fn is_in_transaction(&self) -> bool {
        self.inner.in_transaction
    }

    /// The context of the task that calls this.
    ///
    /// # Panics
    ///
    /// Outside of a running task, and in what a task has spawned.
    pub fn current() -> Self {
        Self::try_current()
            .expect("`TaskContext::current` is for a running task; a task that it spawned is no longer it")
    }

    /// The context of the task that calls this, if one does.
    pub fn try_current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// The job that this is an attempt of.
    pub fn job_id(&self) -> JobId {
        self.inner.job
    }

    /// The number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.inner.attempt
    }

    /// What is known of the task.
    pub fn task(&self) -> &'static TaskExecSchema {
        self.inner.task
    }

    /// A key that is the same whenever this value of this job is handled again: the job and the number of the step. In the
    /// body of a generator it is another one before each step, so that it is never that of a handler.
    ///
    /// An outside service that takes such a key does nothing the second time.
    pub fn idempotency_key(&self) -> String {
        let before = if self.is_between_steps() { "before:" } else { "" };
        format!("{}:{before}{}", self.inner.job, self.inner.place.seq())
    }

    /// Says how far the task is; `status()` of the job tells it to whoever asks. Written with the next steps, soon
    /// otherwise; of several in between only the last is kept.
    pub fn progress(&self, done: u64, total: u64) {
        if let Some(memos) = &self.inner.memos {
            memos.tape.progress(Progress { done, total });
        }
    }

    /// Whether the worker is stopping: a generator is stopped at its next yield, a plain task has the worker's grace.
    pub fn is_shutting_down(&self) -> bool {
        self.inner.stopping.is_cancelled()
    }

    /// Does something once: what came of it is recorded, and given again whenever the body runs again.
    ///
    /// This is how a body reads what may change: a file, a query, an answer from the network. It is recorded under `name` and
    /// the number of its use, so that the same name can be used again and again, in a loop say. When this returns, what
    /// came of it is durable. After a crash in between, `work` runs once more. It stands in one order with the steps, and
    /// is never part of streams or results.
    ///
    /// In a handler, and in the body of a task with `resume = "cursor"`, it is recorded for the step that is handled or
    /// comes next: once that step is durable, it is forgotten.
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
    /// What `work` gives may be as large as a step. If it is larger, has no JSON form, or was recorded by another version of
    /// the task as something that is no `T`, the attempt ends there with an error that says so.
    ///
    /// # Panics
    ///
    /// When `name` is not 1 to 128 letters, digits and `_.:-`.
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

    /// [`once`](Self::once) for work that may fail: an error is given back and not recorded, and the next try counts as
    /// the same use.
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
    /// As [`once`](Self::once); and where that ends the attempt, this unwinds.
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
    pub async fn now(&self) -> Timestamp {
        match self.record(NOW, Wait::No, async { self.inner.surroundings.now() }).await {
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
        self.block_on(self.record(NOW, Wait::No, async { self.inner.surroundings.now() }))
    }

    /// 64 random bits, the same whenever the body runs again; recorded as by [`once`](Self::once), with the next steps.
    ///
    /// Whoever needs many seeds a generator with them. They are not for secrets.
    pub async fn random(&self) -> u64 {
        match self.record(RANDOM, Wait::No, async { self.inner.surroundings.random() }).await {
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
        self.block_on(self.record(RANDOM, Wait::No, async { self.inner.surroundings.random() }))
    }

    /// Sleeps for this time, once: a body that runs again sleeps only for what is left of it.
    ///
    /// The job keeps its place in the worker meanwhile; to leave it, return [`TaskError::snooze`](crate::TaskError::snooze).
    /// When the worker stops, a generator that sleeps in its body is given back at once.
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

    /// The last step of the job, where there is one: its number and the handler's reply. A task with `resume = "cursor"`
    /// goes on from there instead of yielding everything again.
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
    /// [`Error::Store`] when the store cannot be read.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn last_step<R: DeserializeOwned>(&self) -> Result<Option<(u64, R)>> {
        match self.find_last_step().await {
            Ok(found) => found,
            Err(stopped) => self.leave(stopped).await,
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
        self.block_on(self.find_last_step())
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
        self.make_once(name, Wait::Durable, async { work.await.map(Made::from) }).await
    }

    /// Notes something under a name of our own, which no user can give.
    async fn record<T>(&self, name: &str, wait: Wait, make: impl Future<Output = T>) -> Result<T, Stopped>
    where
        T: Serialize + DeserializeOwned,
    {
        match self.make_once(name, wait, async { Ok::<_, Infallible>(Made::from(make.await)) }).await? {
            Ok(value) => Ok(value),
            Err(never) => match never {},
        }
    }

    pub(crate) async fn make_once<T, E>(
        &self,
        name: &str,
        wait: Wait,
        make: impl Future<Output = Result<Made<T>, E>>,
    ) -> Result<Result<T, E>, Stopped>
    where
        T: Serialize + DeserializeOwned,
    {
        self.check_may_wait()?;
        match &self.inner.memos {
            Some(memos) => memos.once(self.step_of_memo(), name, wait, make).await,
            None => Ok(make.await.map(|made| made.value)),
        }
    }

    /// The step that a memo made now is for, where it is not for the whole body.
    fn step_of_memo(&self) -> Option<u64> {
        let for_step = self.inner.place.is_handled() || self.resumes_by_cursor();
        for_step.then(|| self.inner.place.seq())
    }

    async fn sleep_once(&self, time: Duration) -> Result<(), Stopped> {
        let surroundings = &self.inner.surroundings;
        let end = self.record(SLEEP, Wait::No, async { crate::lifecycle::later(surroundings.now(), time) }).await?;
        let left = Duration::try_from(end.duration_since(surroundings.now())).unwrap_or_default();
        tokio::select! {
            biased;
            () = surroundings.sleep(left) => Ok(()),
            () = self.inner.stopping.cancelled(), if self.is_between_steps() => Err(Stopped::Released),
        }
    }

    fn is_between_steps(&self) -> bool {
        self.inner.task.generating.is_some() && !self.inner.place.is_handled()
    }

    async fn find_last_step<R: DeserializeOwned>(&self) -> Result<Result<Option<(u64, R)>>, Stopped> {
        self.check_may_wait()?;
        if !self.resumes_by_cursor() {
            return Ok(Err(Error::Misuse(
                "`last_step` is for a task with `resume = \"cursor\"`; any other yields again",
            )));
        }
        self.inner.asked.store(true, Relaxed);
        let Some(memos) = &self.inner.memos else { return Ok(Ok(None)) };
        memos.tape.flush().await?;
        Ok(self.inner.surroundings.last_step(self.inner.job).await.and_then(|step| step.map(cursor).transpose()))
    }

    fn resumes_by_cursor(&self) -> bool {
        self.inner.task.generating.is_some_and(|generating| generating.resume == Resume::Cursor)
    }

    /// Runs what would be awaited in an `async fn`, on the thread of a `fn` task.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = Result<T, Stopped>>) -> T {
        let done = match self.check_may_wait() {
            Ok(()) if self.inner.task.awaiting => Err(Stopped::Error(Box::new(Error::Misuse(
                "this task is an `async fn`, whose runtime a `_blocking` method would hold up: await the method without \
                 `_blocking`, in a handler that is an `async fn` too",
            )))),
            Ok(()) => pollster::block_on(work),
            Err(stopped) => Err(stopped),
        };
        done.unwrap_or_else(|stopped| self.unwind(stopped))
    }

    /// Refuses what is recorded, in a handler for the end of which the record waits.
    fn check_may_wait(&self) -> Result<(), Stopped> {
        if !self.is_in_transaction() {
            return Ok(());
        }
        Err(Stopped::Error(Box::new(Error::Misuse(
            "a handler in a transaction cannot wait for the store, which waits for the handler: enqueue with \
             `app.enqueue_in(tx, ..)`, and do the rest in the body",
        ))))
    }

    /// Ends the attempt for this reason: whoever polls the body drops it.
    pub(crate) async fn leave<T>(&self, stopped: Stopped) -> T {
        self.inner.exit.take(stopped);
        std::future::pending().await
    }

    /// Ends the attempt for this reason from within a `fn` body.
    fn unwind(&self, stopped: Stopped) -> ! {
        self.inner.exit.take(stopped);
        #[cfg(panic = "unwind")]
        std::panic::resume_unwind(Box::new("the attempt has ended"));
        // Where a panic would abort the process, the thread is left behind.
        #[cfg(not(panic = "unwind"))]
        loop {
            std::thread::park();
        }
    }

    /// Waits until the body has taken the way out, and gives the reason.
    pub(crate) async fn left(&self) -> Stopped {
        self.inner.exit.taken.cancelled().await;
        self.exit_reason().unwrap_or(Stopped::Fenced)
    }

    /// The reason for which the body has taken the way out, if it has.
    pub(crate) fn exit_reason(&self) -> Option<Stopped> {
        self.inner.exit.reason().take()
    }

    /// Whether what the task does is recorded: not where it runs here and now.
    pub(crate) fn is_recorded(&self) -> bool {
        self.inner.memos.is_some()
    }

    pub(crate) fn surroundings(&self) -> Arc<dyn Surroundings> {
        self.inner.surroundings.clone()
    }

    /// Whether the body knows where to go on: one that never asked begins anew.
    pub(crate) fn has_asked(&self) -> bool {
        self.inner.asked.load(Relaxed)
    }

    /// Tells that step `seq` comes next.
    // Called for each value, from the crates of tasks.
    #[inline]
    pub(crate) fn before_step(&self, seq: u64) {
        self.inner.place.set(seq, false);
    }

    /// Tells that the handler of step `seq` is called.
    #[inline]
    pub(crate) fn in_step(&self, seq: u64) {
        self.inner.place.set(seq, true);
    }

    /// Makes this the current context while `future` runs.
    pub(crate) fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }

    /// Makes this the current context while `work` runs.
    pub(crate) fn sync_scope<T>(self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, work)
    }
}

const NOW: &str = "@now";
const RANDOM: &str = "@random";
const SLEEP: &str = "@sleep";

impl Exit {
    /// The first reason is the one that counts.
    fn take(&self, stopped: Stopped) {
        self.reason().get_or_insert(stopped);
        self.taken.cancel();
    }

    fn reason(&self) -> MutexGuard<'_, Option<Stopped>> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner)
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

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of job {}, attempt {}", self.inner.task.name, self.inner.job, self.inner.attempt)?;
        f.write_str(if self.is_in_transaction() { ", in a transaction" } else { "" })
    }
}

/// Something of the application's that tasks and handlers share: given once to
/// [`QueueTasks::builder().state(..)`](crate::Builder::state), taken as a parameter.
///
/// ```standalone_crate
/// use qtasks::prelude::*;
///
/// struct Greeting(&'static str);
///
/// #[qtask]
/// async fn greet(name: String, greeting: State<Greeting>) -> String {
///     format!("{}, {name}!", greeting.0)
/// }
///
/// # #[tokio::main]
/// # async fn main() -> qtasks::Result<()> {
/// let app = QueueTasks::builder().store("memory:").state(Greeting("Hello")).build().await?;
/// assert_eq!(app.run(greet("Ada".into())).await?, "Hello, Ada!");
/// # Ok(())
/// # }
/// ```
pub struct State<T> {
    shared: Arc<T>,
}

impl<T> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.shared
    }
}

impl<T> Clone for State<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T: fmt::Debug> fmt::Debug for State<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

/// All states of an application, by type.
#[derive(Clone, Default)]
pub(crate) struct States {
    by_type: Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl States {
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        Arc::make_mut(&mut self.by_type).insert(TypeId::of::<T>(), Arc::new(value));
    }

    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<State<T>> {
        let shared = self.by_type.get(&TypeId::of::<T>())?.clone().downcast().ok()?;
        Some(State { shared })
    }

    pub(crate) fn has(&self, id: TypeId) -> bool {
        self.by_type.contains_key(&id)
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} states", self.by_type.len())
    }
}

/// What a task or its handler takes from its application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A `State` of this type.
    State {
        /// The type.
        id: TypeId,
        /// Its name.
        type_name: &'static str,
    },
    /// A transaction of this kind of store.
    Transaction(&'static str),
}

impl Need {
    /// The need of a `State<T>`.
    pub fn of<T: 'static>() -> Self {
        Self::State { id: TypeId::of::<T>(), type_name: type_name::<T>() }
    }
}

/// What a handler may take after the value.
#[diagnostic::on_unimplemented(
    message = "a handler cannot take a `{Self}` after the value",
    label = "neither `State<T>` nor `TaskContext`"
)]
pub trait Inject: Sized {
    /// The state that this asks for, if it is one.
    fn need() -> Option<Need>;
    /// Takes it from the attempt.
    fn inject(attempt: &Attempt) -> Self;
}

impl<T: Send + Sync + 'static> Inject for State<T> {
    fn need() -> Option<Need> {
        Some(Need::of::<T>())
    }

    fn inject(attempt: &Attempt) -> Self {
        attempt.state()
    }
}

impl Inject for TaskContext {
    fn need() -> Option<Need> {
        None
    }

    fn inject(attempt: &Attempt) -> Self {
        attempt.context()
    }
}
