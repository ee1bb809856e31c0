//! What a running task can ask of its surroundings: its context, and the states of the application.

use std::{
    any::{Any, TypeId, type_name},
    collections::HashMap,
    fmt,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio_util::sync::CancellationToken;

use crate::{
    executor::Attempt,
    job::{JobId, Progress},
    tape::Tape,
    task::TaskExecSchema,
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
    seq: AtomicU64,
    tape: Option<Arc<Tape>>,
    stopping: CancellationToken,
}

impl TaskContext {
    pub(crate) fn new(
        job: JobId,
        attempt: u32,
        task: &'static TaskExecSchema,
        tape: Option<Arc<Tape>>,
        stopping: CancellationToken,
    ) -> Self {
        Self { inner: Arc::new(Inner { job, attempt, task, seq: AtomicU64::new(0), tape, stopping }) }
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

    /// A key that is the same whenever this value of this job is handled again: the job and the number of the step.
    ///
    /// An outside service that takes such a key does nothing the second time.
    pub fn idempotency_key(&self) -> String {
        format!("{}:{}", self.inner.job, self.inner.seq.load(Relaxed))
    }

    /// Says how far the task is; `status()` of the job tells it to whoever asks. Written with the next steps, soon
    /// otherwise; of several in between only the last is kept.
    pub fn progress(&self, done: u64, total: u64) {
        if let Some(tape) = &self.inner.tape {
            tape.progress(Progress { done, total });
        }
    }

    /// Whether the worker is stopping: a generator is stopped at its next yield, a plain task has the worker's grace.
    pub fn is_shutting_down(&self) -> bool {
        self.inner.stopping.is_cancelled()
    }

    // Called for each value, from the crates of tasks.
    #[inline]
    pub(crate) fn at_step(&self, seq: u64) {
        self.inner.seq.store(seq, Relaxed);
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

impl fmt::Debug for TaskContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of job {}, attempt {}", self.inner.task.name, self.inner.job, self.inner.attempt)
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

    pub(crate) fn satisfies(&self, need: &Need) -> bool {
        self.by_type.contains_key(&need.id)
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} states", self.by_type.len())
    }
}

/// A state that a task or its handler takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    id: TypeId,
    /// The name of the type.
    pub type_name: &'static str,
}

impl Need {
    /// The need of a `State<T>`.
    pub fn of<T: 'static>() -> Self {
        Self { id: TypeId::of::<T>(), type_name: type_name::<T>() }
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
