//! A call of a task, with the options that only this call has.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Task,
    options::{Due, Options},
    prepared::Prepared,
};
use crate::{
    error::{Error, Result},
    model::{
        job::{AfterFailure, JobCall, JobId, Parents},
        json::Json,
        limits::Limits,
        unique::Duplicate,
    },
    schema::TaskExecSchema,
};

/// A call of the task `T` with options, as the methods of [`CallOptions`] make it.
#[derive(Clone, Debug)]
#[must_use = "a call does nothing until it is enqueued or run"]
pub struct Call<T> {
    task: T,
    options: Options,
}

/// The options of one call, over those of its task.
///
/// ```
/// use std::time::Duration;
/// use qtasks::prelude::*;
///
/// #[qtask]
/// async fn report(month: u8) -> String {
///     format!("report of month {month}")
/// }
///
/// # #[tokio::main]
/// # async fn main() -> qtasks::Result<()> {
/// let app = QueueTasks::open("memory:").await?;
/// app.enqueue(report(5).priority(9).queue("reports").delay(Duration::from_secs(60))).await?;
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a call of a task",
    label = "not a call of a task",
    note = "mark a function with `#[qtask]`, and call it: `app.enqueue(my_task(5))`"
)]
pub trait CallOptions: Sized {
    /// The task that is called.
    type Task: Task;

    /// The call, ready for options.
    fn into_call(self) -> Call<Self::Task>;

    /// Jobs of a higher priority are leased first.
    fn priority(self, priority: i16) -> Call<Self::Task> {
        let mut call = self.into_call();
        call.options.priority = Some(priority);
        call
    }

    /// The queue to enqueue under.
    fn queue(self, queue: impl Into<String>) -> Call<Self::Task> {
        let mut call = self.into_call();
        call.options.queue = Some(queue.into());
        call
    }

    /// The job is due after this time; counted from when it is enqueued.
    fn delay(self, delay: Duration) -> Call<Self::Task> {
        let mut call = self.into_call();
        call.options.due = Due::In(delay);
        call
    }

    /// The job is due at this time.
    fn at(self, at: Timestamp) -> Call<Self::Task> {
        let mut call = self.into_call();
        call.options.due = Due::At(at);
        call
    }

    /// How long one attempt may last; passing it is a failure.
    fn max_time(self, max_time: Duration) -> Call<Self::Task> {
        let mut call = self.into_call();
        call.options.max_time = Some(max_time);
        call
    }

    /// Has the job end as cancelled where it was not started within this time after it was due: what it does is of no use any
    /// more then. A job that has started once does not expire, whatever became of that attempt.
    ///
    /// ```
    /// use std::time::Duration;
    /// use qtasks::prelude::*;
    ///
    /// #[qtask]
    /// async fn nudge(user: u64) {}
    ///
    /// # #[tokio::main]
    /// # async fn main() -> qtasks::Result<()> {
    /// let app = QueueTasks::open("memory:").await?;
    /// app.enqueue(nudge(7).expires(Duration::from_secs(600))).await?;
    /// # Ok(())
    /// # }
    /// ```
    fn expires(self, expires: Duration) -> Call<Self::Task> {
        let mut call = self.into_call();
        call.options.expires = Some(expires);
        call
    }

    /// Has one job of the task at a time hold this key: while one does, that is the job of this call, unless
    /// [`on_duplicate`](Self::on_duplicate) says otherwise. A job holds its key until it has ended. It overrides the `unique` of the
    /// task.
    ///
    /// ```
    /// use qtasks::prelude::*;
    ///
    /// #[qtask]
    /// async fn import_file(path: String) {}
    ///
    /// # #[tokio::main]
    /// # async fn main() -> qtasks::Result<()> {
    /// let app = QueueTasks::open("memory:").await?;
    /// let first = app.enqueue(import_file("/a".into()).unique_key("import")).await?;
    /// let second = app.enqueue(import_file("/b".into()).unique_key("import")).await?;
    /// assert!(first.is_new() && !second.is_new());
    /// assert_eq!(first.id(), second.id());
    /// # Ok(())
    /// # }
    /// ```
    fn unique_key(self, key: impl Into<String>) -> Call<Self::Task> {
        let mut call = self.into_call();
        call.options.unique_key = Some(key.into());
        call
    }

    /// Has the job hold its key for so long after its enqueue at least, also where it has ended by then.
    fn unique_for(self, time: Duration) -> Call<Self::Task> {
        let mut call = self.into_call();
        call.options.unique_for = Some(time);
        call
    }

    /// What becomes of this call while another job holds its key.
    fn on_duplicate(self, on_duplicate: Duplicate) -> Call<Self::Task> {
        let mut call = self.into_call();
        call.options.on_duplicate = Some(on_duplicate);
        call
    }

    /// Has the job wait until no further call with its key has come for the time `quiet`, and for the time `most` after its enqueue
    /// at most; the arguments of the last call count. A call that comes once the job has started changes nothing.
    fn debounce(self, quiet: Duration, most: Duration) -> Call<Self::Task> {
        let mut call = self.into_call();
        call.options.debounce = Some((quiet, most));
        call
    }

    /// Has the job wait until each of these has ended; called again, for those as well. A job that has ended when this one is enqueued
    /// is not waited for. Where one of them ends dead or cancelled, the job ends as cancelled too, and so do those that wait for it, all
    /// in one commit, unless [`after_failure`](Self::after_failure) says otherwise.
    ///
    /// A job that waits for others has its time besides: a `delay` counts from when it is enqueued, and `expires` from the end of the
    /// last of the others. [`run`](crate::QueueTasks::run) waits for none.
    ///
    /// ```
    /// use qtasks::prelude::*;
    ///
    /// #[qtask]
    /// async fn load_sales(month: u8) {}
    ///
    /// #[qtask]
    /// async fn sum_up(year: u16) {}
    ///
    /// # #[tokio::main]
    /// # async fn main() -> qtasks::Result<()> {
    /// let app = QueueTasks::open("memory:").await?;
    /// let months = app.enqueue_all((1..=12).map(load_sales)).await?;
    /// app.enqueue(sum_up(2026).after(&months)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Enqueueing it is [`Error::NoParent`] where the store has no job of one of the ids, and nothing is enqueued then. Of calls that are
    /// enqueued together, one may wait for those before it, by their [`id`](Self::id); but not for one that has a key, since it
    /// may join another job.
    fn after(self, jobs: impl Parents) -> Call<Self::Task> {
        let mut call = self.into_call();
        call.options.after.get_or_insert_default().jobs.extend(jobs.ids());
        call
    }

    /// What becomes of the job where one of those that it waits for ends dead or cancelled.
    fn after_failure(self, on_failure: AfterFailure) -> Call<Self::Task> {
        let mut call = self.into_call();
        call.options.after.get_or_insert_default().on_failure = on_failure;
        call
    }

    /// The id of the job, in place of a new one: a call that is made again with the same id makes no second job, however
    /// the first call ended.
    ///
    /// If the store has a job of this id, of the same task and with the same arguments, that is the job of this call, whether
    /// it waits, runs or has ended, and the other options of the call change nothing. A job that was pruned is not there any
    /// more. If the task or the arguments are others, the call fails with [`Error::OtherTask`] or [`Error::OtherArguments`].
    ///
    /// Jobs are leased in the order of their ids, which is that of their making: so make the id with [`JobId::new()`](JobId::new).
    fn id(self, id: JobId) -> Call<Self::Task> {
        let mut call = self.into_call();
        call.options.id = Some(id);
        call
    }
}

#[diagnostic::do_not_recommend]
impl<T: Task> CallOptions for T {
    type Task = T;

    fn into_call(self) -> Call<T> {
        Call { task: self, options: Options::default() }
    }
}

#[diagnostic::do_not_recommend]
impl<T: Task> CallOptions for Call<T> {
    type Task = T;

    fn into_call(self) -> Self {
        self
    }
}

impl<T: Task> Call<T> {
    /// The job that this call makes, if it is let in, and its options as the SQL of a store takes them.
    pub(crate) fn prepare_in_sql(
        self,
        limits: &Limits,
        now: Timestamp,
        let_in: impl FnOnce(Prepared) -> Result<Prepared>,
    ) -> Result<(Prepared, serde_json::Value)> {
        let due = self.options.due;
        let job = let_in(self.prepare(limits, now)?)?;
        let in_sql = Options::in_sql(due, &job);
        Ok((job, in_sql))
    }

    /// The call as a job that is run here and now has it.
    pub(crate) fn as_job(&self, limits: &Limits, now: Timestamp) -> Result<JobCall> {
        let args = encoded(&self.task)?;
        limits.check_args(&args)?;
        let Options { priority, queue, max_time, expires, .. } = &self.options;
        let schema = T::schema();
        Ok(JobCall {
            id: JobId::new(),
            task: schema.name.to_owned(),
            queue: queue.as_deref().unwrap_or(schema.queue).to_owned(),
            priority: priority.unwrap_or(schema.priority),
            args,
            max_time: *max_time,
            enqueued: now,
            expires: expires.or(schema.expires),
            trace: None,
            key: None,
            after: None,
        })
    }

    /// The task, and how long an attempt at it may last.
    pub(crate) fn into_task(self) -> (T, Option<Duration>) {
        (self.task, self.options.max_time.or(T::schema().max_time))
    }

    /// The job that this call makes, enqueued `now`.
    pub(crate) fn prepare(self, limits: &Limits, now: Timestamp) -> Result<Prepared> {
        self.options.prepare(T::schema(), encoded(&self.task)?, limits, now)
    }
}

/// A call of any task, which [`QueueTasks::enqueue_many`](crate::QueueTasks::enqueue_many) takes beside calls of other tasks:
/// `report(5).into()`.
#[derive(Debug)]
#[must_use = "a call does nothing until it is enqueued"]
pub struct AnyCall {
    schema: &'static TaskExecSchema,
    /// What does not encode is said when the call is enqueued.
    args: Result<Json>,
    options: Options,
}

impl<C: CallOptions> From<C> for AnyCall {
    fn from(call: C) -> Self {
        let Call { task, options } = call.into_call();
        Self { schema: C::Task::schema(), args: encoded(&task), options }
    }
}

impl AnyCall {
    /// The job that this call makes, enqueued `now`.
    pub(crate) fn prepare(self, limits: &Limits, now: Timestamp) -> Result<Prepared> {
        self.options.prepare(self.schema, self.args?, limits, now)
    }
}

fn encoded<T: Task>(task: &T) -> Result<Json> {
    task.encode().map_err(|source| Error::Encode {
        what: format!("the arguments of `{}`", T::schema().name),
        source: source.into(),
    })
}
