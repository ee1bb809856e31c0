//! Makes an application.

use std::{fmt, sync::Arc, time::Duration};

use tracing::Span;

use super::{app::QueueTasks, schedules::making::code_schedule};
use crate::{
    around::{Around, Arounds},
    clock::{AppClock, Clock},
    environment::{
        App, Retention,
        outage::Outage,
        schedule_names::ScheduleNames,
        schedules::{self, timetable},
    },
    error::{Error, Result},
    execution::state::States,
    model::{
        limits::Limits,
        schedule::{ScheduleOptions, definition::CodeSchedule},
    },
    store::{self, Store},
    task::{call::CallOptions, registry::Registry},
    telemetry::{
        opentelemetry,
        trace::{TraceContext, TraceRelation, Traces},
        values::ValueTraces,
    },
};

impl QueueTasks {
    /// Opens the store at `url`: `memory:`, `sqlite:PATH` with the feature `sqlite`, `redis://HOST` with the feature `redis`,
    /// or `postgres://USER@HOST/DATABASE` with the feature `postgres`.
    ///
    /// # Errors
    ///
    /// Those of [`Builder::build`]. A server that is away is an error at once, since a wrong URL looks the same. Once the
    /// application is open, its calls wait for a server that is away.
    pub async fn open(url: &str) -> Result<Self> {
        Self::builder().store(url).build().await
    }

    /// The long form of [`open`](Self::open), with more options than the URL of the store.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

/// Makes an application, one option at a time.
#[derive(Default)]
#[must_use = "an application is made by `.build().await`"]
pub struct Builder {
    url: Option<String>,
    store: Option<Arc<dyn Store>>,
    states: States,
    limits: Limits,
    retention: Retention,
    clock: Clock,
    around: Arounds,
    trace: TraceContext,
    /// The share of values that are traced one by one.
    value_traces: f64,
    /// The schedules beside those of the tasks. What is wrong with one is said when the application is made.
    schedules: Vec<Result<CodeSchedule>>,
}

impl Builder {
    /// The URL of the store.
    pub fn store(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// A store that is open already, or one of your own.
    pub fn store_at(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Something that tasks and handlers take as `State<T>`. A second value of one type replaces the first.
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(value);
        self
    }

    /// Size limits, checked at enqueue and at each step, in place of [`Limits::DEFAULT`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How long ended jobs are kept: `finished` for those that are done or cancelled, 7 days by default, and `dead` for those
    /// that are dead, 30 days by default.
    pub fn retention(mut self, finished: Duration, dead: Duration) -> Self {
        self.retention = Retention { finished, dead };
        self
    }

    /// The clock that the application goes by; the system's by default.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Has a call enqueued at each tick of a cron expression such as `0 2 * * *`, in the time zone of this name: once for each
    /// tick, on however many workers of however many programs. The schedule stands in the code of the program: it fires as long
    /// as a worker of it runs. A task without arguments may have its schedule in `#[qtask(schedule = "..")]` instead.
    ///
    /// ```
    /// use qtasks::prelude::*;
    ///
    /// #[qtask]
    /// async fn sales_of(region: String) {}
    ///
    /// # #[tokio::main]
    /// # async fn main() -> qtasks::Result<()> {
    /// let app = QueueTasks::builder()
    ///     .store("memory:")
    ///     .schedule("sales-eu", sales_of("eu".into()).queue("sales"), "0 2 * * *", "Europe/Berlin")
    ///     .schedule("sales-us", sales_of("us".into()).queue("sales"), "0 2 * * *", "America/New_York")
    ///     .build()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn schedule<C: CallOptions>(self, name: &str, call: C, expression: &str, timezone: &str) -> Self {
        self.schedule_with(name, call, expression, timezone, ScheduleOptions::default())
    }

    /// The long form of [`schedule`](Self::schedule), with what becomes of ticks that are missed or overlap.
    pub fn schedule_with<C: CallOptions>(
        mut self,
        name: &str,
        call: C,
        expression: &str,
        timezone: &str,
        options: ScheduleOptions,
    ) -> Self {
        let schedule = code_schedule(&Limits { args: usize::MAX, ..self.limits }, name, call, (expression, timezone));
        self.schedules.push(schedule.and_then(|mut schedule| {
            schedule.definition.options = options;
            timetable(&schedule.name, &schedule.definition).map(|_| schedule)
        }));
        self
    }

    /// Puts something around all attempts at jobs, and before all that is enqueued. The first is outermost.
    pub fn around(mut self, around: impl Around) -> Self {
        self.around.add(around);
        self
    }

    /// Says that something around each attempt gives it a `State<T>`, by
    /// [`with_extension`](crate::Next::with_extension). An attempt that needs one and is given none fails.
    pub fn provides<T: Send + Sync + 'static>(mut self) -> Self {
        self.around.provide::<T>();
        self
    }

    /// Has the context of a trace go with each job: `inject` gives the W3C `traceparent` of the span that enqueues a job, and
    /// `extract` puts the span of an attempt below that, or links it. With the feature `opentelemetry` this needs not be said.
    pub fn trace_context(
        mut self,
        inject: impl Fn() -> Option<String> + Send + Sync + 'static,
        extract: impl Fn(&Span, &str, TraceRelation) + Send + Sync + 'static,
    ) -> Self {
        self.trace.set(inject, extract);
        self
    }

    /// Which attempts are parts of the trace that enqueued their job, rather than linked to it.
    pub fn traces(mut self, traces: Traces) -> Self {
        self.trace.traces = traces;
        self
    }

    /// Makes a span `handle` of the level `trace` of this share of the values of each job, while their handlers run: 1 for all, 0.001
    /// for each thousandth. Between these it is rounded: 0.7 to all, 0.4 to each third. Without it there are none, since a span
    /// takes longer than most handlers. The environment variable `QTASKS_TRACE_VALUES`, such as `QTASKS_TRACE_VALUES=1`, wins
    /// over this.
    ///
    /// ```
    /// # async fn open() -> qtasks::Result<qtasks::QueueTasks> {
    /// qtasks::QueueTasks::builder().store("memory:").trace_values(1.0 / 1000.0).build().await
    /// # }
    /// ```
    pub const fn trace_values(mut self, share: f64) -> Self {
        self.value_traces = share;
        self
    }

    /// Opens the store and gathers the tasks that are linked into this program.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownStore`], [`Error::NewerStore`], [`Error::ForeignStore`] and [`Error::Store`] of the store;
    /// [`Error::DuplicateTask`] when two tasks have one name, and [`Error::DuplicateSchedule`] when two schedules have;
    /// [`Error::Schedule`] for a wrong expression or time zone of a [schedule](Self::schedule), and for its call those of
    /// [`QueueTasks::schedule`]; [`Error::Misuse`] without a store, and when the share of values that
    /// are [traced](Self::trace_values) is not from 0 to 1.
    pub async fn build(self) -> Result<QueueTasks> {
        let registry = Registry::linked()?;
        let value_traces = ValueTraces::new(self.value_traces)?;
        let schedules = self.schedules.into_iter().collect::<Result<Vec<_>>>()?;
        schedules.iter().try_for_each(|schedule| self.limits.check_args(&schedule.definition.args))?;
        let schedules = schedules::in_code(&registry, schedules)?;
        let store = match (self.store, self.url) {
            (Some(store), _) => store,
            (None, Some(url)) => store::open(&url).await?,
            (None, None) => return Err(Error::Misuse("an application needs a store: `.store(\"sqlite:qtasks.db\")`")),
        };
        let Self { states, limits, retention, clock, around, trace, .. } = self;
        let (clock, suspects) = (Arc::new(AppClock::new(clock)), Arc::default());
        if clock.is_tokios() {
            store.hold_clock();
        }
        let outage = Outage::new(clock.clone());
        let app = App {
            store,
            states,
            registry,
            limits,
            retention,
            clock,
            suspects,
            outage,
            around,
            trace: trace.or(opentelemetry::functions()),
            value_traces,
            schedules,
            schedule_names: ScheduleNames::default(),
        };
        app.learn_time().await;
        Ok(QueueTasks::of(app))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL may hold a password.
        match (&self.store, self.url.as_deref().map(store::without_password)) {
            (Some(store), _) => write!(f, "an application to be made on {store:?}"),
            (None, Some(url)) => write!(f, "an application to be made on {url}"),
            (None, None) => write!(f, "an application to be made, without a store so far"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builder_shows_no_password() {
        let builder = Builder::default().store("postgres://me:zork@localhost/app");
        let shown = format!("{builder:?} {builder:#?}");
        assert!(!shown.contains("zork") && shown.contains("postgres://me:***@localhost/app"), "{shown}");
    }
}
