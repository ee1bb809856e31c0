//! The schema of a task: its name, its options, and what it needs, known before it runs.

pub(crate) mod collect;
pub(crate) mod need;
pub(crate) mod returns;

use std::time::Duration;

use self::{collect::Declared, need::Need};
use crate::model::{
    card::UniqueCard,
    job::Shape,
    retry::Retry,
    schedule::{ScheduleOptions, grammar},
    unique::Duplicate,
};

/// What is known of a task before it runs: its name, how it runs, its options, where it stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskExecSchema {
    /// The name under which its jobs are stored.
    pub name: &'static str,
    /// Whether the task is an `async fn`.
    pub awaiting: bool,
    /// How the task yields; `None` for a task that does not. This chooses between the executor's two ways, `run_task_gen`
    /// and `run_task`.
    pub generating: Option<Generating>,
    /// Whether the running task is passed to the function.
    pub echo: bool,
    /// The queue of its jobs, unless a call says otherwise.
    pub queue: &'static str,
    /// The priority of its jobs, unless a call says otherwise; higher is leased first.
    pub priority: i16,
    /// When a failed job is tried again.
    pub retry: Retry,
    /// How long one attempt may last.
    pub max_time: Option<Duration>,
    /// How long after they were due its jobs are still started for the first time, unless a call says otherwise.
    pub expires: Option<Duration>,
    /// Of what there is one job at a time, unless a call says otherwise.
    pub unique: Option<UniqueSchema>,
    /// When the task is enqueued by itself, without arguments.
    pub schedule: Option<ScheduleSchema>,
    /// Words to find the task by.
    pub tags: &'static [&'static str],
    /// What the task is for.
    pub description: Option<&'static str>,
    /// The path of its handler, as the attribute names it.
    pub handler: Option<&'static str>,
    /// The module that the task stands in.
    pub module: &'static str,
    /// The file that the task stands in.
    pub file: &'static str,
    /// The line of the task's attribute in that file.
    pub line: u32,
    /// What the task takes from its application, and what its handler takes.
    needs: [Option<Needs>; 2],
}

/// The schedule of a task, as its attribute has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScheduleSchema {
    /// When the task is enqueued, as a cron expression or `every 15m`.
    pub expression: &'static str,
    /// The zone in which its times are meant.
    pub timezone: &'static str,
    /// What becomes of ticks that are missed or overlap, and the jitter.
    pub options: ScheduleOptions,
}

/// Of what there is one job of a task at a time, as its attribute has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UniqueSchema {
    /// The parameters by which calls are told apart; without them all are.
    pub fields: Option<&'static [&'static str]>,
    /// What becomes of a call while another job holds its key.
    pub on_duplicate: Duplicate,
    /// For how long after its enqueue a job holds its key at least.
    pub lasting: Option<Duration>,
    /// How long each further call puts the job off, and how long they do so at most.
    pub debounce: Option<(Duration, Duration)>,
}

/// Lists what a function takes from the application.
type Needs = fn() -> Vec<Need>;

/// How a task yields.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Generating {
    /// What the replies are collected into.
    pub shape: Shape,
    /// What an error of the handler does.
    pub on_error: OnError,
    /// When the steps are made durable.
    pub checkpoint: Checkpoint,
    /// How a later attempt gets to where an earlier one ended.
    pub resume: Resume,
}

/// How a later attempt gets to the first value that is not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// The body runs again, and its first values are answered from the record.
    Replay,
    /// The body asks for the last step, and yields what comes after it.
    Cursor,
}

/// What an error of a handler does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The error ends the attempt.
    Fail,
    /// The error is recorded in the value's place, and the task goes on.
    Skip,
}

/// When the steps of a task are made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// Each step is durable before the body goes on.
    Each,
    /// The commit of a step starts within this time of its handler's return.
    Within(Duration),
}

impl Checkpoint {
    /// The commit of a step starts within 5 ms.
    pub const DEFAULT: Self = Self::Within(Duration::from_millis(5));
}

/// The expansion of `#[qtask]` makes a schema with these, one option at a time.
#[doc(hidden)]
impl TaskExecSchema {
    pub const fn new(name: &'static str, module: &'static str, file: &'static str, line: u32) -> Self {
        Self {
            name,
            awaiting: false,
            generating: None,
            echo: false,
            queue: "default",
            priority: 0,
            retry: Retry::DEFAULT,
            max_time: None,
            expires: None,
            unique: None,
            schedule: None,
            tags: &[],
            description: None,
            handler: None,
            module,
            file,
            line,
            needs: [None, None],
        }
    }

    pub const fn awaiting(mut self) -> Self {
        self.awaiting = true;
        self
    }

    pub const fn generating(mut self, generating: Generating) -> Self {
        self.generating = Some(generating);
        self
    }

    pub const fn echo(mut self) -> Self {
        self.echo = true;
        self
    }

    pub const fn queue(mut self, queue: &'static str) -> Self {
        self.queue = queue;
        self
    }

    pub const fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    pub const fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    pub const fn max_time(mut self, max_time: Duration) -> Self {
        self.max_time = Some(max_time);
        self
    }

    pub const fn unique(mut self, unique: UniqueSchema) -> Self {
        self.unique = Some(unique);
        self
    }

    pub const fn expires(mut self, expires: Duration) -> Self {
        self.expires = Some(expires);
        self
    }

    pub const fn schedule(mut self, schedule: ScheduleSchema) -> Self {
        self.schedule = Some(schedule);
        self
    }

    pub const fn tags(mut self, tags: &'static [&'static str]) -> Self {
        self.tags = tags;
        self
    }

    pub const fn description(mut self, description: &'static str) -> Self {
        self.description = Some(description);
        self
    }

    pub const fn handler(mut self, path: &'static str, needs: Needs) -> Self {
        self.handler = Some(path);
        self.needs[1] = Some(needs);
        self
    }

    pub const fn needs(mut self, needs: Needs) -> Self {
        self.needs[0] = Some(needs);
        self
    }

    /// What the task and its handler take from their application.
    pub(crate) fn all_needs(&self) -> impl Iterator<Item = Need> {
        self.needs.into_iter().flatten().flat_map(|needs| needs())
    }

    /// Where the task stands.
    pub(crate) fn location(&self) -> String {
        format!("{} ({}:{})", self.module, self.file, self.line)
    }
}

#[doc(hidden)]
impl ScheduleSchema {
    /// # Panics
    ///
    /// Where the expression is wrong: when the program is compiled.
    #[track_caller]
    pub const fn new(expression: &'static str, timezone: &'static str, options: ScheduleOptions) -> Self {
        match grammar::parse(expression) {
            Ok(_) => Self { expression, timezone, options },
            Err(wrong) => panic!("{}", wrong.message()),
        }
    }
}

impl UniqueSchema {
    /// What the card of the task says of it.
    pub(crate) fn card(&self) -> UniqueCard {
        let (quiet, put_off) = self.debounce.unzip();
        let by = self.fields.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        UniqueCard { by, on_duplicate: self.on_duplicate, lasting: self.lasting, quiet, put_off }
    }
}

#[doc(hidden)]
impl UniqueSchema {
    pub const BY_ALL: Self = Self { fields: None, on_duplicate: Duplicate::Join, lasting: None, debounce: None };

    pub const fn by(mut self, fields: &'static [&'static str]) -> Self {
        self.fields = Some(fields);
        self
    }

    pub const fn on_duplicate(mut self, on_duplicate: Duplicate) -> Self {
        self.on_duplicate = on_duplicate;
        self
    }

    pub const fn lasting(mut self, lasting: Duration) -> Self {
        self.lasting = Some(lasting);
        self
    }

    pub const fn debounce(mut self, quiet: Duration, most: Duration) -> Self {
        self.debounce = Some((quiet, most));
        self.on_duplicate = Duplicate::Replace;
        self
    }
}

#[doc(hidden)]
impl Generating {
    pub const fn into<D: Declared>() -> Self {
        Self { shape: D::SHAPE, on_error: OnError::Fail, checkpoint: Checkpoint::DEFAULT, resume: Resume::Replay }
    }

    pub const fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    pub const fn resume(mut self, resume: Resume) -> Self {
        self.resume = resume;
        self
    }

    pub const fn checkpoint(mut self, checkpoint: Checkpoint) -> Self {
        self.checkpoint = checkpoint;
        self
    }
}
