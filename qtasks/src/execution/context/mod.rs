//! What a running task can ask of the application that runs it.

mod exit;
mod leaving;
mod once;

use std::{
    any::Any,
    fmt,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use futures::future::{BoxFuture, Either, select};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use self::exit::Exit;
use super::{end::End, journal::memo::Memos, stopped::Stopped};
use crate::{
    error::{Error, Result},
    model::{
        job::{JobId, Progress, Step},
        schedule::tick,
    },
    runtime::{clock_hold, guard},
    schema::TaskExecSchema,
};

tokio::task_local! {
    static CURRENT: TaskContext;
}

/// The running attempt, as its task sees it. Cloning is cheap.
///
/// A task gets it as its first parameter under `echo = true`, a handler as a parameter after the value, and anything
/// that either calls through [`TaskContext::current`].
///
/// A context is of use as long as its attempt goes on: until the body has returned or was dropped, its time is up, or its
/// lease is lost. A task or thread that the body has spawned and left behind may call a method after that, or be waiting in
/// one then. Methods that return a [`Result`](crate::Result) return [`Error::AttemptEnded`] to it; all others end the task or
/// thread by a panic (without a call of the panic hook; with `panic = "abort"` they wait for ever instead). Such a call
/// records and enqueues nothing.
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
    position: StepPosition,
    /// Whether the body has asked for its last step.
    asked: AtomicBool,
    memos: Option<Arc<Memos>>,
    stopping: CancellationToken,
    host: Arc<dyn Host>,
    exit: Exit,
    /// The end of the attempt, or of the handler in a transaction.
    end: End,
    in_transaction: bool,
}

/// The number of a step, and whether its handler runs: in a single word, since it is set with each value.
#[derive(Default)]
struct StepPosition(AtomicU64);

impl StepPosition {
    fn in_step(seq: u64) -> Self {
        let position = Self::default();
        position.set(seq, true);
        position
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

/// The application that runs a task, as the task's context uses it.
pub(crate) trait Host: Any + Send + Sync {
    /// The time of day.
    fn now(&self) -> Timestamp;
    /// 64 random bits.
    fn random(&self) -> u64;
    /// Waits until a time of day.
    fn sleep_until(&self, time: Timestamp) -> BoxFuture<'static, ()>;
    /// The last step of a job that was not skipped.
    fn last_step(&self, job: JobId) -> BoxFuture<'_, Result<Option<Step>>>;
}

impl TaskContext {
    /// The context of a task that is run here and now.
    pub(crate) fn here(task: &'static TaskExecSchema, host: Arc<dyn Host>) -> Self {
        Self::new(JobId::new(), 1, task, None, CancellationToken::new(), host)
    }

    /// The context of an attempt at a job. Without `memos`, nothing that the attempt does once is recorded.
    pub(crate) fn new(
        job: JobId,
        attempt: u32,
        task: &'static TaskExecSchema,
        memos: Option<Memos>,
        stopping: CancellationToken,
        host: Arc<dyn Host>,
    ) -> Self {
        let inner = Inner {
            job,
            attempt,
            task,
            position: StepPosition::default(),
            asked: AtomicBool::new(false),
            memos: memos.map(Arc::new),
            stopping,
            host,
            exit: Exit::default(),
            end: End::default(),
            in_transaction: false,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The context of the handler of step `seq` in a transaction: while it runs, the body may be at a later step already.
    pub(crate) fn in_transaction(&self, seq: u64) -> Self {
        let Inner { job, attempt, task, memos, stopping, host, .. } = &*self.inner;
        let inner = Inner {
            job: *job,
            attempt: *attempt,
            task,
            position: StepPosition::in_step(seq),
            asked: AtomicBool::new(false),
            memos: memos.clone(),
            stopping: stopping.clone(),
            host: host.clone(),
            exit: Exit::default(),
            end: End::default(),
            in_transaction: true,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Whether this is the context of a handler in a transaction. Such a handler may not wait for the store, which waits for
    /// the handler.
    pub(crate) fn is_in_transaction(&self) -> bool {
        self.inner.in_transaction
    }

    /// The context of the task that calls this.
    ///
    /// # Panics
    ///
    /// Outside of a running task, and in what a task has spawned: give it a clone of the context.
    pub fn current() -> Self {
        Self::try_current()
            .expect("`TaskContext::current` is for a running task; a task that it spawned is no longer it")
    }

    /// The context of the task that calls this, if a task does.
    pub fn try_current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Whether a task calls this; asked for each value.
    pub(crate) fn has_current() -> bool {
        CURRENT.try_with(|_| ()).is_ok()
    }

    /// The job that this is an attempt of.
    pub fn job_id(&self) -> JobId {
        self.inner.job
    }

    /// The tick of its schedule at which the job was enqueued, also where that happened later: a report of yesterday is one of
    /// the day before its tick. `None` for a job that no schedule has enqueued.
    ///
    /// A job that was enqueued beside the ticks, by [`run_now`](crate::Schedule::run_now), has the time of that call.
    pub fn tick(&self) -> Option<Timestamp> {
        tick::of(self.inner.job)
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
        format!("{}:{before}{}", self.inner.job, self.inner.position.seq())
    }

    /// The number of the step that is handled or comes next.
    pub(crate) fn seq(&self) -> u64 {
        self.inner.position.seq()
    }

    /// Reports how far the task is; `status()` of the job shows it. The report is written with the next steps, or soon if there
    /// are none; of several reports in between only the last is kept. After the end of the attempt this does nothing.
    pub fn progress(&self, done: u64, total: u64) {
        if let Some(memos) = &self.inner.memos
            && !self.is_over()
        {
            memos.journal.progress(Progress { done, total });
        }
    }

    /// Whether the worker is stopping: a generator is stopped at its next yield, a plain task has the worker's grace.
    pub fn is_shutting_down(&self) -> bool {
        self.inner.stopping.is_cancelled()
    }

    fn is_between_steps(&self) -> bool {
        self.inner.task.generating.is_some() && !self.inner.position.is_handled()
    }

    /// Waits on the thread of a `fn` task for what an `async fn` would await.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = Result<T, Stopped>>) -> T {
        self.wait_for(work).unwrap_or_else(|stopped| self.unwind(stopped))
    }

    /// Waits as [`block_on`](Self::block_on) does, for work that gives a result.
    pub(crate) fn try_block_on<T>(&self, work: impl Future<Output = Result<Result<T>, Stopped>>) -> Result<T> {
        match self.wait_for(work) {
            Ok(done) => done,
            // A body that is still running on its own thread ends sooner by unwinding.
            Err(stopped) if self.is_current() && !self.is_over() => self.unwind(stopped),
            Err(stopped) => Err(pollster::block_on(self.after_leaving(stopped))),
        }
    }

    fn wait_for<T>(&self, work: impl Future<Output = Result<T, Stopped>>) -> Result<T, Stopped> {
        self.check_may_wait()?;
        if self.inner.task.awaiting {
            return Err(Stopped::Error(Box::new(Error::Misuse(
                "this task is an `async fn`, whose runtime a `_blocking` method would hold up: await the method without \
                 `_blocking`, in a handler that is an `async fn` too",
            ))));
        }
        clock_hold::block_on(work)
    }

    /// Refuses work that is recorded in a handler in a transaction: the record waits for the handler's end.
    pub(crate) fn check_may_wait(&self) -> Result<(), Stopped> {
        if !self.is_in_transaction() {
            return Ok(());
        }
        Err(Stopped::Error(Box::new(Error::Misuse(
            "a handler in a transaction cannot wait for the store, which waits for the handler: enqueue with \
             `app.enqueue_in(tx, ..)`, and do the rest in the body",
        ))))
    }

    /// Whether this is the context of the code that calls this.
    fn is_current(&self) -> bool {
        CURRENT.try_with(|current| Arc::ptr_eq(&current.inner, &self.inner)).unwrap_or(false)
    }

    fn end(&self) -> &End {
        &self.inner.end
    }

    /// Whether the attempt is over.
    pub(crate) fn is_over(&self) -> bool {
        self.end().is_over()
    }

    /// Ends the attempt, or the handler in a transaction. Tasks and threads that it left behind get nothing more from this
    /// context.
    pub(crate) fn end_attempt(&self) {
        if self.inner.end.come()
            && !self.is_in_transaction()
            && let Some(memos) = &self.inner.memos
        {
            memos.close();
        }
    }

    /// A guard that ends the attempt when it is dropped.
    pub(crate) fn ending(&self) -> Ending {
        Ending(self.clone())
    }

    /// Whether the attempt is recorded, which it is not when the task runs here and now.
    pub(crate) fn is_recorded(&self) -> bool {
        self.inner.memos.is_some()
    }

    pub(crate) fn host(&self) -> Arc<dyn Host> {
        self.inner.host.clone()
    }

    /// Whether the body has asked for its last step: a body that has not begins anew.
    pub(crate) fn has_asked(&self) -> bool {
        self.inner.asked.load(Relaxed)
    }

    /// Notes that step `seq` comes next.
    // Called for each value, from the crates of tasks.
    #[inline]
    pub(crate) fn before_step(&self, seq: u64) {
        self.inner.position.set(seq, false);
    }

    /// Notes that the handler of step `seq` is called.
    #[inline]
    pub(crate) fn in_step(&self, seq: u64) {
        self.inner.position.set(seq, true);
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

/// Ends the attempt when it is dropped.
pub(crate) struct Ending(TaskContext);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.end_attempt();
    }
}

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of job {}, attempt {}", self.inner.task.name, self.inner.job, self.inner.attempt)?;
        f.write_str(if self.is_in_transaction() { ", in a transaction" } else { "" })
    }
}

/// Why code of the task unwound: it took the way out, or panicked.
pub(crate) fn panicked(context: &TaskContext, payload: Box<dyn Any + Send>) -> Stopped {
    match context.exit_reason() {
        Some(reason) => {
            guard::drop_guarded(payload);
            reason
        }
        None => Stopped::panic(payload),
    }
}

/// Drives `body` to its end, or drops it when it takes the way out.
pub(crate) async fn leaving<T>(
    context: &TaskContext,
    body: impl Future<Output = Result<T, Stopped>>,
) -> Result<T, Stopped> {
    let body = pin!(body);
    match select(pin!(context.left()), body).await {
        Either::Left((stopped, _)) => Err(stopped),
        Either::Right((outcome, _)) => outcome,
    }
}
