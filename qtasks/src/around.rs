//! What a program puts around the attempts of its jobs, whatever their tasks: to time them, to reject them, to pass something
//! on to them; and what it lets be enqueued.

use std::{
    any::TypeId,
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::{
    error::{BoxError, Error, Result},
    execution::{
        state::States,
        stopped::{Stopped, TaskError},
    },
    model::{
        job::{Ending, Job, JobCall, JobId},
        json::Json,
        lifecycle::Verdict,
    },
};

/// Stands around all attempts of an application's jobs, and before all jobs that it enqueues. Each method has a default that
/// changes nothing.
///
/// ```standalone_crate
/// use std::time::Instant;
///
/// use qtasks::{Around, Ended, Next, NewJobInfo, Reject, job::Job, prelude::*};
///
/// struct Timing;
///
/// impl Around for Timing {
///     async fn attempt(&self, job: &Job, next: Next<'_>) -> Ended {
///         let started = Instant::now();
///         let ended = next.run().await;
///         println!("{}: {ended} after {:?}", job.call.task, started.elapsed());
///         ended
///     }
/// }
///
/// /// The tenant that a job is for, which handlers and bodies take as a `State<Tenant>`.
/// struct Tenant(String);
///
/// struct Tenants;
///
/// impl Around for Tenants {
///     fn enqueue(&self, job: &mut NewJobInfo<'_>) -> Result<(), Reject> {
///         match &*job.arg::<String>("tenant")? {
///             "acme" => Err(Reject::because("the account of acme is suspended")),
///             _ => Ok(()),
///         }
///     }
///
///     async fn attempt(&self, job: &Job, next: Next<'_>) -> Ended {
///         match job.call.arg("tenant") {
///             Ok(tenant) => next.with_extension(Tenant(tenant)).run().await,
///             Err(error) => Ended::failed(error),
///         }
///     }
/// }
///
/// #[qtask]
/// async fn greet(tenant: String, of: State<Tenant>) -> String {
///     format!("Hello, {}, as {tenant}", of.0)
/// }
///
/// # #[tokio::main]
/// # async fn main() -> qtasks::Result<()> {
/// // The first is outermost.
/// let app = QueueTasks::builder().store("memory:").around(Timing).around(Tenants).provides::<Tenant>().build().await?;
/// let job = app.enqueue(greet("ada".into())).await?;
/// let refused = app.enqueue(greet("acme".into())).await.unwrap_err();
/// assert_eq!(refused.to_string(), "a call of `greet` is refused: the account of acme is suspended");
/// app.worker().run_until_idle().await?;
/// assert_eq!(job.result().await?, "Hello, ada, as ada");
/// # Ok(())
/// # }
/// ```
pub trait Around: Send + Sync + 'static {
    /// Stands around one attempt at a job. `next.run()` runs the attempt, and what is further in; without that call the attempt
    /// ends as this method says, and the body does not run.
    ///
    /// It is called for attempts of workers and for calls that are [run](crate::QueueTasks::run) here and now. It runs in the span
    /// of the attempt. A panic is a failure of the attempt. To drop the future of `next.run()` stops the body.
    ///
    /// The time of the body, `max_time`, does not count what stands around it. When the worker stops or loses its lease, the body
    /// is stopped as ever, and `next.run()` gives [`Ending::Released`] or [`Ending::Lost`]; a second after that this future is
    /// dropped.
    fn attempt(&self, job: &Job, next: Next<'_>) -> impl Future<Output = Ended> + Send {
        let _ = job;
        next.run()
    }

    /// Looks at a call before its job is stored, and may change or refuse it. Of many calls that are enqueued together, one that
    /// is refused refuses all.
    ///
    /// It is called wherever a call becomes a job, also within a task, in a transaction of the caller's own, and for SQL to be
    /// carried out by another driver; not for jobs that other programs enqueue. It must not wait, since some of these do not.
    fn enqueue(&self, job: &mut NewJobInfo<'_>) -> Result<(), Reject> {
        let _ = job;
        Ok(())
    }

    /// Hears of a job that has ended without an attempt to stand around: it is dead, because it was lost with its workers too
    /// often. `job` is as it stands now.
    ///
    /// It is called by the worker that has found the loss, when the end is durable, and once at most: not at all when that
    /// worker's process is killed meanwhile. A panic is logged and changes nothing.
    fn ended(&self, job: &Job) -> impl Future<Output = ()> + Send {
        let _ = job;
        std::future::ready(())
    }
}

/// The rest of an attempt: what stands further in, and the body at last.
#[must_use = "without `.run()` the attempt does not run"]
pub struct Next<'a> {
    rest: &'a [Arc<dyn DynAround>],
    job: &'a Job,
    states: States,
    body: Innermost<'a>,
}

/// Runs the attempt itself, with these states.
pub(crate) type Innermost<'a> = Box<dyn FnOnce(States) -> BoxFuture<'a, Ended> + Send + 'a>;

impl Next<'_> {
    /// Runs the rest of the attempt, and gives how it ended. What the attempt handled is durable then; that the job has ended is
    /// not yet.
    pub async fn run(self) -> Ended {
        match self.rest.split_first() {
            Some((first, rest)) => first.attempt(self.job, Next { rest, ..self }).await,
            None => (self.body)(self.states).await,
        }
    }

    /// Gives the body and its handlers a `State<T>` for this attempt. That it is given has to be said when the application is
    /// built: [`Builder::provides`](crate::Builder::provides).
    pub fn with_extension<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(value);
        self
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the rest of an attempt at job {}", self.job.call.id)
    }
}

/// How an attempt ended, as what stands around it sees it.
///
/// It comes from [`Next::run`], or says how the attempt ends without one or in place of it. That an attempt ended well, was given
/// back, or has lost its lease cannot be said in place of another end: only the attempt itself knows.
#[derive(Debug)]
#[must_use = "it is what the attempt comes to"]
pub struct Ended {
    ending: Ending,
    /// What the attempt comes to, where that is not the attempt's own.
    decided: Option<Verdict>,
}

impl Ended {
    /// The end that an attempt itself came to.
    pub(crate) fn of(verdict: &Verdict) -> Self {
        Self { ending: ending(verdict), decided: None }
    }

    /// The end of an attempt that has lost its lease.
    pub(crate) fn lost() -> Self {
        Self { ending: Ending::Lost, decided: None }
    }

    /// The end of a body that has come to its end here and now.
    pub(crate) fn done_here() -> Self {
        Self { ending: Ending::Done, decided: None }
    }

    /// The end of a body that failed here and now.
    pub(crate) fn failed_here(error: String) -> Self {
        Self { ending: Ending::Failed { error }, decided: None }
    }

    /// The attempt fails with this error, and the job is tried again as its task says. A [`TaskError`] in its chain is obeyed.
    pub fn failed(error: impl Into<BoxError>) -> Self {
        // Only a lost lease has no verdict.
        let verdict = Stopped::Error(error.into()).verdict().unwrap_or(Verdict::Released);
        Self { ending: ending(&verdict), decided: Some(verdict) }
    }

    /// The job goes on after this time, without a failure.
    pub fn snooze(wait: Duration) -> Self {
        TaskError::snooze(wait).into()
    }

    /// Why the attempt ended.
    pub fn ending(&self) -> &Ending {
        &self.ending
    }

    /// Whether the body came to its end.
    pub fn is_done(&self) -> bool {
        self.ending == Ending::Done
    }

    /// What the attempt comes to, if what stands around it has decided that.
    pub(crate) fn decided(self) -> Option<Verdict> {
        self.decided
    }
}

impl From<TaskError> for Ended {
    fn from(error: TaskError) -> Self {
        Self::failed(error)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ending {
            Ending::Done => f.write_str("done"),
            Ending::Failed { error } => write!(f, "failed: {error}"),
            Ending::Snoozed => f.write_str("snoozed"),
            Ending::Cancelled { reason } => write!(f, "cancelled: {reason}"),
            Ending::Discarded { reason } => write!(f, "discarded: {reason}"),
            Ending::Released => f.write_str("given back"),
            Ending::Lost => f.write_str("lost"),
        }
    }
}

fn ending(verdict: &Verdict) -> Ending {
    match verdict {
        Verdict::Done(_) => Ending::Done,
        Verdict::Failed { error, .. } => Ending::Failed { error: error.clone() },
        Verdict::Snoozed(_) => Ending::Snoozed,
        Verdict::Cancelled(reason) => Ending::Cancelled { reason: reason.clone() },
        Verdict::Discarded(reason) => Ending::Discarded { reason: reason.clone() },
        Verdict::Released | Verdict::GivenBack => Ending::Released,
    }
}

/// A call that is to become a job, as [`Around::enqueue`] may change it.
pub struct NewJobInfo<'a> {
    call: &'a mut JobCall,
}

impl<'a> NewJobInfo<'a> {
    pub(crate) fn of(call: &'a mut JobCall) -> Self {
        Self { call }
    }

    /// The id that the job is to have.
    pub fn id(&self) -> JobId {
        self.call.id
    }

    /// The task that is called.
    pub fn task(&self) -> &str {
        &self.call.task
    }

    /// The queue that the job is enqueued under.
    pub fn queue(&self) -> &str {
        &self.call.queue
    }

    /// The job's priority.
    pub fn priority(&self) -> i16 {
        self.call.priority
    }

    /// An argument by the name of its parameter; as [`JobCall::arg`].
    ///
    /// # Errors
    ///
    /// Those of [`JobCall::arg`].
    pub fn arg<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        self.call.arg(name)
    }

    /// Has the job enqueued under another queue.
    pub fn set_queue(&mut self, queue: impl Into<String>) {
        self.call.queue = queue.into();
    }

    /// Gives the job another priority.
    pub fn set_priority(&mut self, priority: i16) {
        self.call.priority = priority;
    }

    /// Limits how long one attempt may last.
    pub fn set_max_time(&mut self, max_time: Duration) {
        self.call.max_time = Some(max_time);
    }

    /// Has the job end as cancelled where it was not started within this time after it was due.
    pub fn set_expires(&mut self, expires: Duration) {
        self.call.expires = Some(expires);
    }
}

/// The arguments are not shown.
impl fmt::Debug for NewJobInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a call of {} for the queue {}", self.call.task, self.call.queue)
    }
}

/// Why a call may not become a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    reason: String,
}

impl Reject {
    /// The caller gets this reason, in [`Error::Rejected`].
    pub fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

impl From<Error> for Reject {
    fn from(error: Error) -> Self {
        Self::because(error.to_string())
    }
}

impl JobCall {
    /// An argument by the name of its parameter.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`] when the call has no such argument, or it is not a `T`. The text does not show the argument.
    pub fn arg<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let undecodable = |source| Error::Decode {
            what: format!("the argument `{name}` of `{}`", self.task),
            as_type: std::any::type_name::<T>(),
            source,
        };
        let args: HashMap<String, Box<RawValue>> = self.args.decode().map_err(|source| undecodable(source.into()))?;
        let arg = args.get(name).ok_or_else(|| undecodable("the call has no argument of this name".into()))?;
        Json::from_stored(arg.get()).decode().map_err(|source| undecodable(source.into()))
    }
}

/// The methods of [`Around`], for a list of several kinds.
pub(crate) trait DynAround: Send + Sync {
    fn attempt<'a>(&'a self, job: &'a Job, next: Next<'a>) -> BoxFuture<'a, Ended>;
    fn enqueue(&self, job: &mut NewJobInfo<'_>) -> Result<(), Reject>;
    fn ended<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, ()>;
}

impl<T: Around> DynAround for T {
    fn attempt<'a>(&'a self, job: &'a Job, next: Next<'a>) -> BoxFuture<'a, Ended> {
        Box::pin(Around::attempt(self, job, next))
    }

    fn enqueue(&self, job: &mut NewJobInfo<'_>) -> Result<(), Reject> {
        Around::enqueue(self, job)
    }

    fn ended<'a>(&'a self, job: &'a Job) -> BoxFuture<'a, ()> {
        Box::pin(Around::ended(self, job))
    }
}

/// All that stands around the attempts of an application.
#[derive(Clone, Default)]
pub(crate) struct Arounds {
    /// The first is outermost.
    all: Vec<Arc<dyn DynAround>>,
    provided: HashSet<TypeId>,
}

impl Arounds {
    pub(crate) fn add(&mut self, around: impl Around) {
        self.all.push(Arc::new(around));
    }

    pub(crate) fn provide<T: 'static>(&mut self) {
        self.provided.insert(TypeId::of::<T>());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether states of this type come with each attempt.
    pub(crate) fn provides(&self, id: TypeId) -> bool {
        self.provided.contains(&id)
    }

    /// Runs an attempt within all that stands around it.
    pub(crate) fn attempt<'a>(
        &'a self,
        job: &'a Job,
        states: States,
        body: Innermost<'a>,
    ) -> impl Future<Output = Ended> + Send {
        Next { rest: &self.all, job, states, body }.run()
    }

    /// Lets each look at a call before its job is stored.
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] when one refuses it.
    pub(crate) fn enqueue(&self, call: &mut JobCall) -> Result<()> {
        self.all.iter().try_for_each(|around| {
            around.enqueue(&mut NewJobInfo::of(call)).map_err(|Reject { reason }| Error::Rejected {
                id: call.id,
                task: call.task.clone(),
                reason,
            })
        })
    }

    /// Tells each of a job that has ended without an attempt.
    pub(crate) async fn ended(&self, job: &Job) {
        for around in &self.all {
            around.ended(job).await;
        }
    }
}
