//! One start of a task's body, as the macro's code sees it: what the body may ask for, and where its values go.

use std::{
    any::Any,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::BoxFuture;
use tracing::Span;

use super::{
    context::TaskContext,
    journal::{Journal, Recorded},
    state::{State, States},
    stopped::{Stopped, is_directive, over, unencodable},
};
use crate::{
    error::{BoxError, Error, Result, chain},
    model::{job, json::Json, limits::Limits, pending::PendingStep},
    schema::{OnError, returns::Reply},
    telemetry::{Skips, values::ValueTraces},
};

/// One start of a task's body, as the code sees it that the macro makes of the task.
#[derive(Clone)]
pub struct Attempt {
    pub(super) inner: Arc<Inner>,
    /// The context of a handler in a transaction, which sees another one than the body.
    apart: Option<TaskContext>,
}

pub(super) struct Inner {
    pub(super) context: TaskContext,
    states: States,
    pub(super) limits: Limits,
    traces: ValueTraces,
    pub(super) keeping: Keeping,
}

/// What an attempt has of its application.
pub(crate) struct Settings {
    pub(crate) states: States,
    pub(crate) limits: Limits,
    /// Which values are traced one by one.
    pub(crate) traces: ValueTraces,
}

/// Where the values of an attempt go.
pub(super) enum Keeping {
    /// The values go into a collection, for the caller that runs the task here and now.
    Here { result: Mutex<Option<Box<dyn Any + Send>>>, transact: Transact, skips: Skips },
    /// The values go into a store, after the steps that are recorded there.
    Stored { journal: Arc<Journal>, recorded: u64, record: Mutex<Option<Recorded<job::Step>>> },
}

/// Runs a handler in a transaction of the store, for a task that is run here and now.
pub(crate) type Transact = Box<dyn Fn(PendingStep) -> BoxFuture<'static, Result<()>> + Send + Sync>;

impl Attempt {
    /// An attempt whose result [`collected`](Self::collected) gives.
    pub(crate) fn here(context: TaskContext, settings: Settings, transact: Transact) -> Self {
        Self::new(context, settings, Keeping::Here { result: Mutex::default(), transact, skips: Skips::default() })
    }

    /// An attempt whose steps go to `journal`, after the `recorded` ones that `record` holds.
    pub(crate) fn stored(
        context: TaskContext,
        settings: Settings,
        journal: Arc<Journal>,
        recorded: u64,
        record: Recorded<job::Step>,
    ) -> Self {
        Self::new(context, settings, Keeping::Stored { journal, recorded, record: Mutex::new(Some(record)) })
    }

    fn new(context: TaskContext, Settings { states, limits, traces }: Settings, keeping: Keeping) -> Self {
        Self { inner: Arc::new(Inner { context, states, limits, traces, keeping }), apart: None }
    }

    /// The context that the task and its handler see.
    pub fn context(&self) -> TaskContext {
        self.apart.as_ref().unwrap_or(&self.inner.context).clone()
    }

    /// The attempt as the handler of step `seq` sees it, in a transaction.
    pub(super) fn in_transaction(&self, seq: u64) -> Self {
        Self { inner: self.inner.clone(), apart: Some(self.inner.context.in_transaction(seq)) }
    }

    /// Waits until a handler in a transaction must stop, and gives the reason. A task that is run here and now has its handler
    /// dropped instead.
    pub(crate) async fn halted(&self) -> Stopped {
        match &self.inner.keeping {
            Keeping::Here { .. } => std::future::pending().await,
            Keeping::Stored { journal, .. } => journal.halted().await,
        }
    }

    /// Waits until the lease holds, before a handler in a transaction is called.
    pub(crate) async fn held(&self) -> Result<(), Stopped> {
        match &self.inner.keeping {
            Keeping::Here { .. } => Ok(()),
            Keeping::Stored { journal, .. } => journal.held().await,
        }
    }

    /// Logs that the value which is being handled is skipped.
    pub(crate) fn says_skipped(&self, error: &str) {
        let skips = match &self.inner.keeping {
            Keeping::Here { skips, .. } => skips,
            Keeping::Stored { journal, .. } => journal.skips(),
        };
        let context = self.apart.as_ref().unwrap_or(&self.inner.context);
        skips.add(context.job_id(), context.task().name, context.attempt(), context.seq(), error);
    }

    /// The application's state of type `T`.
    ///
    /// # Panics
    ///
    /// When the application has none; that is checked before any task runs.
    pub fn state<T: Send + Sync + 'static>(&self) -> State<T> {
        self.inner.states.get().expect("the states of a task are checked before it is run")
    }

    /// The result of an attempt that ran here and now.
    pub(crate) fn collected<T: 'static>(&self) -> Option<T> {
        let Keeping::Here { result, .. } = &self.inner.keeping else { return None };
        let collected = result.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        collected.downcast().ok().map(|collected| *collected)
    }

    pub(super) fn keep<T: Send + 'static>(result: &Mutex<Option<Box<dyn Any + Send>>>, value: T) {
        *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(value));
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.context.fmt(f)
    }
}

impl Attempt {
    /// The span of value `seq`, if it has one.
    pub(super) fn value_span(&self, seq: u64) -> Option<Span> {
        self.inner.traces.span(self.inner.context.task().name, seq)
    }

    /// The stored form of a reply.
    pub(crate) fn encode<R: Reply>(&self, reply: &R) -> Result<Json, Stopped> {
        let json = Json::encode(reply).map_err(|error| unencodable("the handler's reply", error))?;
        self.inner.limits.check_step(&json).map_err(over)?;
        Ok(json)
    }

    /// The text of a handler's error, cut to what a step may hold, when the task goes on without the value.
    pub(crate) fn skipped(&self, on_error: OnError, error: BoxError) -> Result<String, Stopped> {
        // An error that says how the job goes on is obeyed, whatever the task does with other errors.
        if on_error == OnError::Fail || is_directive(&*error) {
            return Err(Stopped::Error(error));
        }
        Ok(self.inner.limits.cut_text(chain(&*error)))
    }
}

/// Decodes a recorded reply.
pub(crate) fn recall<R: Reply>(json: &Json) -> Result<R, Stopped> {
    json.decode().map_err(|source| {
        Stopped::Error(Box::new(Error::Decode {
            what: "a recorded reply".to_owned(),
            as_type: std::any::type_name::<R>(),
            source: source.into(),
        }))
    })
}
