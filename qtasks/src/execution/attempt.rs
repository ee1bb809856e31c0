//! One start of a task's body, as the code sees it that the macro makes: what it may ask for, and where its values go.

use std::{
    any::Any,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::BoxFuture;

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
    telemetry::Skips,
};

/// One start of a task's body, seen from the code that the task's macro makes.
#[derive(Clone)]
pub struct Attempt {
    pub(super) inner: Arc<Inner>,
    /// The context of a handler that sees another one than the body.
    apart: Option<TaskContext>,
}

pub(super) struct Inner {
    pub(super) context: TaskContext,
    states: States,
    pub(super) limits: Limits,
    pub(super) keeping: Keeping,
}

/// Where the values of an attempt go.
pub(super) enum Keeping {
    /// Into a collection, for the caller that runs the task here and now.
    Here { result: Mutex<Option<Box<dyn Any + Send>>>, transact: Transact, skips: Skips },
    /// Into a store, after what is recorded there.
    Stored { journal: Arc<Journal>, recorded: u64, record: Mutex<Option<Recorded<job::Step>>> },
}

/// Has a handler run in a transaction of the store, when a task is run here and now.
pub(crate) type Transact = Box<dyn Fn(PendingStep) -> BoxFuture<'static, Result<()>> + Send + Sync>;

impl Attempt {
    /// An attempt whose result [`collected`](Self::collected) gives.
    pub(crate) fn here(context: TaskContext, states: States, limits: Limits, transact: Transact) -> Self {
        let keeping = Keeping::Here { result: Mutex::default(), transact, skips: Skips::default() };
        Self { inner: Arc::new(Inner { context, states, limits, keeping }), apart: None }
    }

    /// An attempt whose steps go to `journal`, after the `recorded` ones that `record` holds.
    pub(crate) fn stored(
        context: TaskContext,
        states: States,
        limits: Limits,
        journal: Arc<Journal>,
        recorded: u64,
        record: Recorded<job::Step>,
    ) -> Self {
        let keeping = Keeping::Stored { journal, recorded, record: Mutex::new(Some(record)) };
        Self { inner: Arc::new(Inner { context, states, limits, keeping }), apart: None }
    }

    /// The context that the task and its handler see.
    pub fn context(&self) -> TaskContext {
        self.apart.as_ref().unwrap_or(&self.inner.context).clone()
    }

    /// The same for a handler in a transaction.
    pub(super) fn in_transaction(&self, seq: u64) -> Self {
        Self { inner: self.inner.clone(), apart: Some(self.inner.context.in_transaction(seq)) }
    }

    /// Waits until a handler in a transaction may not go on, and gives the reason. Here and now, it is dropped instead.
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

    /// Says that the value which is handled is skipped.
    pub(crate) fn says_skipped(&self, error: &str) {
        let skips = match &self.inner.keeping {
            Keeping::Here { skips, .. } => skips,
            Keeping::Stored { journal, .. } => journal.skips(),
        };
        let context = self.apart.as_ref().unwrap_or(&self.inner.context);
        skips.add(context.job_id(), context.task().name, context.attempt(), context.seq(), error);
    }

    /// A state of the application's.
    ///
    /// # Panics
    ///
    /// When the application was not given one; that is checked before anything is run.
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
    /// What is to be recorded of a reply.
    pub(crate) fn encode<R: Reply>(&self, reply: &R) -> Result<Json, Stopped> {
        let json = Json::encode(reply).map_err(|error| unencodable("the handler's reply", error))?;
        self.inner.limits.check_step(&json).map_err(over)?;
        Ok(json)
    }

    /// The text of a handler's error, when the task goes on without the value: as much of it as a step may hold.
    pub(crate) fn skipped(&self, on_error: OnError, error: BoxError) -> Result<String, Stopped> {
        // An error that says how the job goes on is obeyed, whatever the task does with others.
        if on_error == OnError::Fail || is_directive(&*error) {
            return Err(Stopped::Error(error));
        }
        Ok(self.inner.limits.cut_text(chain(&*error)))
    }
}

/// The reply that is recorded.
pub(crate) fn recall<R: Reply>(json: &Json) -> Result<R, Stopped> {
    json.decode().map_err(|source| {
        Stopped::Error(Box::new(Error::Decode {
            what: "a recorded reply".to_owned(),
            as_type: std::any::type_name::<R>(),
            source: source.into(),
        }))
    })
}
