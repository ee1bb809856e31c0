//! Runs a call here and now: one try, and nothing is stored.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use futures::FutureExt as _;

use crate::{
    around::{Ended, Innermost},
    environment::App,
    error::{Error, Result},
    execution::{attempt::Attempt, context::TaskContext, state::States, stopped::Stopped},
    model::job::{Counts, Job, JobCall, Standing, State, WorkerId},
    task::{
        Task,
        call::{Call, CallOptions},
    },
    worker::body::within,
};

/// Runs the call, within what stands around attempts.
pub(super) async fn run<C: CallOptions>(app: &Arc<App>, call: C) -> Result<<C::Task as Task>::Output> {
    let schema = <C::Task as Task>::schema();
    app.check_needs([schema])?;
    let failed = |stopped: Stopped| Error::Failed { task: schema.name, error: stopped.to_string() };
    let call = call.into_call();
    let context = TaskContext::here(schema, app.clone());
    if app.around.is_empty() {
        return run_alone(app, context, app.states.clone(), call).await?.map_err(failed);
    }
    let job = job_of(app, &call, &context)?;
    run_within(app, &job, |states| run_alone(app, context, states, call)).await?.map_err(failed)
}

/// Runs the body with these states.
async fn run_alone<T: Task>(
    app: &Arc<App>,
    context: TaskContext,
    states: States,
    call: Call<T>,
) -> Result<Result<T::Output, Stopped>> {
    let attempt = Attempt::here(context.clone(), app.settings(states), app.transact());
    let (task, max_time) = call.into_task();
    let _ending = context.ending();
    let task = match as_stored(task)? {
        Ok(task) => task,
        Err(stopped) => return Ok(Err(stopped)),
    };
    let outcome = within(max_time, task.start(attempt.clone()).guarded(context), app.clock.hold()).await;
    Ok(outcome.map(|_| attempt.collected().expect("a body that ended well has kept its result")))
}

/// The task with its arguments as a worker would read them. A panic in reading them is a failure of the task.
fn as_stored<T: Task>(task: T) -> Result<Result<T, Stopped>> {
    let what = || format!("the arguments of `{}`", T::schema().name);
    let args = task.encode().map_err(|source| Error::Encode { what: what(), source: source.into() })?;
    match catch_unwind(AssertUnwindSafe(|| T::decode(&args))) {
        Ok(decoded) => decoded.map(Ok).map_err(|source| Error::Decode {
            what: what(),
            as_type: T::schema().name,
            source: source.into(),
        }),
        Err(payload) => Ok(Err(Stopped::panic(payload))),
    }
}

type Came<T> = Result<Result<T, Stopped>>;

/// Runs an attempt within all that stands around it.
async fn run_within<T: Send, F: Future<Output = Came<T>> + Send>(
    app: &Arc<App>,
    job: &Job,
    attempt: impl FnOnce(States) -> F + Send,
) -> Came<T> {
    let came = Mutex::new(None);
    let slot = &came;
    let innermost: Innermost<'_> = Box::new(move |states| {
        async move {
            let came = match app.not_provided(&job.call.task, &states) {
                Some(missing) => Ok(Err(missing)),
                None => attempt(states).await,
            };
            let ended = end(&came);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(came);
            ended
        }
        .boxed()
    });
    let ended = AssertUnwindSafe(app.around.attempt(job, app.states.clone(), innermost)).catch_unwind().await;
    let came = came.into_inner().unwrap_or_else(PoisonError::into_inner);
    match ended {
        Err(payload) => Ok(Err(Stopped::panic(payload))),
        Ok(ended) => {
            let text = ended.to_string();
            match (ended.decided(), came) {
                (Some(verdict), _) => Ok(Err(Stopped::Said { text, verdict })),
                (None, Some(came)) => came,
                (None, None) => Ok(Err(Stopped::Error("what stands around the attempt has not run it".into()))),
            }
        }
    }
}

fn end<T>(came: &Came<T>) -> Ended {
    match came {
        Ok(Ok(_)) => Ended::done_here(),
        Ok(Err(Stopped::Said { verdict, .. })) => Ended::of(verdict),
        Ok(Err(stopped)) => Ended::failed_here(stopped.to_string()),
        Err(error) => Ended::failed_here(error.to_string()),
    }
}

/// The call as a job, which no store has.
fn job_of<T: Task>(app: &Arc<App>, call: &Call<T>, context: &TaskContext) -> Result<Job> {
    let call = JobCall { id: context.job_id(), ..call.as_job(&app.limits, app.now())? };
    let state = State::Running { worker: WorkerId::new(), due: call.enqueued };
    let standing = Standing { attempt: 1, state, failures: 0, suspect: None };
    Ok(Job { call, standing, counts: Counts::default(), ended: None })
}
