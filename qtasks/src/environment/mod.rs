//! What every part of an application shares: its store, clock, states and limits.

pub(crate) mod holders;
pub(crate) mod notes;
pub(crate) mod outage;
pub(crate) mod patience;
pub(crate) mod schedule_names;
pub(crate) mod schedules;
pub(crate) mod suspects;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::runtime::Handle;

use self::{outage::Outage, patience::patiently, schedule_names::ScheduleNames, suspects::SuspectTurn};
use crate::{
    around::Arounds,
    clock::AppClock,
    error::{Error, Result, chain},
    execution::{
        attempt::{Settings, Transact},
        state::States,
        stopped::Stopped,
    },
    model::{
        job::{Counts, Job, JobId, Standing},
        limits::{Limits, check_name},
        schedule::definition::CodeSchedule,
    },
    schema::{TaskExecSchema, need::Need},
    store::Store,
    task::{
        call::{AnyCall, CallOptions},
        prepared::Prepared,
        registry::Registry,
    },
    telemetry::{
        trace::{TraceContext, linked},
        values::ValueTraces,
    },
};

/// One application, as its clients, workers and tasks see it.
pub(crate) struct App {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) states: States,
    pub(crate) registry: Registry,
    pub(crate) limits: Limits,
    pub(crate) retention: Retention,
    pub(crate) clock: Arc<AppClock>,
    pub(crate) suspects: Arc<SuspectTurn>,
    pub(crate) outage: Arc<Outage>,
    pub(crate) around: Arounds,
    pub(crate) trace: TraceContext,
    pub(crate) value_traces: ValueTraces,
    /// The schedules that stand in the code of the program.
    pub(crate) schedules: Vec<CodeSchedule>,
    pub(crate) schedule_names: ScheduleNames,
}

/// How long the store keeps jobs after their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retention {
    /// For jobs that are done or cancelled.
    pub(crate) finished: Duration,
    /// For jobs that are dead.
    pub(crate) dead: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { finished: Duration::from_secs(7 * 86_400), dead: Duration::from_secs(30 * 86_400) }
    }
}

impl App {
    /// Reads a job, and waits for a store that is away.
    pub(crate) async fn job(&self, id: JobId) -> Result<Job> {
        patiently(&*self.store, || self.store.job(id)).await?.ok_or(Error::NoSuchJob(id))
    }

    /// Reads how a job stands, and its counts, and waits for a store that is away.
    pub(crate) async fn standing(&self, id: JobId) -> Result<(Standing, Counts)> {
        patiently(&*self.store, || self.store.standing(id)).await?.ok_or(Error::NoSuchJob(id))
    }

    /// The time of day, for what goes into the store. Where that is a server's, the server is asked for it again now and then.
    pub(crate) fn now(self: &Arc<Self>) -> Timestamp {
        if self.clock.is_to_ask()
            && let Ok(runtime) = Handle::try_current()
        {
            let app = self.clone();
            runtime.spawn(async move { app.learn_time().await });
        }
        self.clock.now()
    }

    /// Learns the time of the store's server, if there is one: asks again where an answer took too long to be exact. Without
    /// an answer the clock stays as it is.
    pub(crate) async fn learn_time(&self) {
        for _ in 0..3 {
            self.ask_time().await;
            if self.clock.is_exact() {
                return;
            }
        }
    }

    async fn ask_time(&self) {
        let asked = self.clock.uptime();
        match self.store.time().await {
            Ok(Some(now)) => self.clock.learn(now, asked, self.clock.uptime()),
            Ok(None) => {}
            Err(error) => tracing::debug!(error = chain(&error), "the server did not tell its time"),
        }
    }

    /// What an attempt with these states has of the application.
    pub(crate) fn settings(&self, states: States) -> Settings {
        Settings { states, limits: self.limits, traces: self.value_traces }
    }

    /// Runs a handler in a transaction of its own, for a task that runs without a job.
    pub(crate) fn transact(&self) -> Transact {
        let store = self.store.clone();
        Box::new(move |work| {
            let store = store.clone();
            // The handler itself keeps its reply or its error.
            Box::pin(async move { store.transact(None, vec![Arc::new(work)]).await.map(drop) })
        })
    }

    /// Checks that the application has all states and transactions that these tasks and their handlers take.
    pub(crate) fn check_needs(&self, schemas: impl IntoIterator<Item = &'static TaskExecSchema>) -> Result<()> {
        schemas.into_iter().find_map(|schema| self.lack(schema)).map_or(Ok(()), Err)
    }

    /// The first thing that the application lacks to run this task, as an error.
    pub(crate) fn lack(&self, schema: &TaskExecSchema) -> Option<Error> {
        let task = schema.name;
        let has = |id| self.states.has(id) || self.around.provides(id);
        schema.all_needs().find_map(|need| match need {
            Need::State { id, type_name: state } if !has(id) => Some(Error::MissingState { task, state }),
            Need::Transaction(kind) if self.store.transactions() != Some(kind) => {
                Some(Error::NoTransactions { task, kind })
            }
            Need::State { .. } | Need::Transaction(_) => None,
        })
    }

    /// The end of an attempt at this task that was not given a state which something around it was to provide.
    pub(crate) fn not_provided(&self, task: &str, states: &States) -> Option<Stopped> {
        let mut needs = self.registry.get(task)?.schema().all_needs();
        needs.find_map(|need| match need {
            Need::State { id, type_name } if !states.has(id) => {
                let why = format!("nothing around the attempt has given it the `State<{type_name}>` , which was promised by `provides`");
                Some(Stopped::Error(why.into()))
            }
            Need::State { .. } | Need::Transaction(_) => None,
        })
    }

    /// The job that a call makes, as what stands before all that is enqueued lets it in.
    pub(crate) fn prepare<C: CallOptions>(self: &Arc<Self>, call: C) -> Result<Prepared> {
        self.let_in(call.into_call().prepare(&self.limits, self.now())?)
    }

    /// The job that a call of any task makes, as what stands before all that is enqueued lets it in.
    pub(crate) fn prepare_any(self: &Arc<Self>, call: AnyCall) -> Result<Prepared> {
        self.let_in(call.prepare(&self.limits, self.now())?)
    }

    /// The same, with the options of the call as the SQL of a store takes them.
    pub(crate) fn prepare_in_sql<C: CallOptions>(self: &Arc<Self>, call: C) -> Result<(Prepared, serde_json::Value)> {
        call.into_call().prepare_in_sql(&self.limits, self.now(), |job| self.let_in(job))
    }

    /// Lets what stands before all that is enqueued look at a job.
    ///
    /// # Errors
    ///
    /// [`Error::Rejected`] when the job is refused, and [`Error::OverLimit`] when it was given a wrong queue.
    pub(crate) fn let_in(&self, job: Prepared) -> Result<Prepared> {
        let trace = self.trace.current();
        let job = Prepared {
            trace: if job.due > job.enqueued || job.after.is_some() { linked(trace) } else { trace },
            ..job
        };
        if self.around.is_empty() {
            return Ok(job);
        }
        let mut call = job.job().call;
        self.around.enqueue(&mut call)?;
        check_name("queue", &call.queue)?;
        Ok(Prepared {
            queue: call.queue.into(),
            priority: call.priority,
            max_time: call.max_time,
            expires: call.expires,
            ..job
        })
    }
}
