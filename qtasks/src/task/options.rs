//! The options of a call, and the job that they make of it.

use std::{borrow::Cow, time::Duration};

use jiff::Timestamp;

use super::prepared::Prepared;
use crate::{
    error::{Error, Result},
    model::{
        job::{After, JobId},
        json::Json,
        lifecycle::later,
        limits::{Limits, OverLimit, check_name},
        unique::{Duplicate, KeyedCall, key},
    },
    schema::TaskExecSchema,
};

/// The options of one call, over those of its task.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub(super) priority: Option<i16>,
    pub(super) queue: Option<String>,
    pub(super) due: Due,
    pub(super) max_time: Option<Duration>,
    pub(super) expires: Option<Duration>,
    pub(super) unique_key: Option<String>,
    pub(super) unique_for: Option<Duration>,
    pub(super) on_duplicate: Option<Duplicate>,
    pub(super) debounce: Option<(Duration, Duration)>,
    pub(super) after: Option<After>,
    pub(super) id: Option<JobId>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Due {
    #[default]
    Now,
    In(Duration),
    At(Timestamp),
}

impl Options {
    /// The options of `job` as the SQL of a store takes them.
    pub(super) fn in_sql(due: Due, job: &Prepared) -> serde_json::Value {
        /// The longest time that stores take and drivers can send, which ends after the year 9999.
        const LONGEST: Duration = Duration::from_secs(253_402_207_200);
        let seconds = |time: Duration| time.min(LONGEST).as_secs_f64();
        let mut options = serde_json::Map::new();
        options.insert("queue".into(), (*job.queue).into());
        options.insert("priority".into(), job.priority.into());
        match due {
            Due::Now => {}
            Due::In(delay) => _ = options.insert("delay".into(), seconds(delay).into()),
            Due::At(at) => _ = options.insert("at".into(), in_sql(at).into()),
        }
        if let Some(max_time) = job.max_time {
            options.insert("max_time".into(), seconds(max_time).into());
        }
        if let Some(expires) = job.expires {
            options.insert("expires".into(), seconds(expires).into());
        }
        if let Some(trace) = &job.trace {
            options.insert("traceparent".into(), trace.clone().into());
        }
        options.into()
    }
}

/// A time to the millisecond, and none before 1970: that is due in any case, and databases know no year before the first.
fn in_sql(time: Timestamp) -> String {
    const LONG_AGO: Timestamp = Timestamp::UNIX_EPOCH;
    let time = time.max(LONG_AGO);
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time).to_string()
}

impl Options {
    pub(super) fn prepare(
        self,
        schema: &'static TaskExecSchema,
        args: Json,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<Prepared> {
        limits.check_args(&args)?;
        let unique = self.keyed(schema, &args)?;
        let quiet = self.debounced(schema).map(|(quiet, _)| quiet);
        let after = self.parents(unique.as_deref())?;
        let Self { priority, queue, due, max_time, expires, id, .. } = self;
        let queue = queue.map_or(Cow::Borrowed(schema.queue), Cow::Owned);
        check_name("queue", &queue)?;
        Ok(Prepared {
            id: id.unwrap_or_default(),
            has_own_id: id.is_some(),
            task: Cow::Borrowed(schema.name),
            queue,
            priority: priority.unwrap_or(schema.priority),
            args,
            due: match (due, quiet) {
                (Due::Now, None) => now,
                (Due::Now, Some(quiet)) => later(now, quiet),
                (Due::In(delay), _) => later(now, delay),
                (Due::At(at), _) => at,
            },
            max_time,
            expires: expires.or(schema.expires),
            enqueued: now,
            trace: None,
            unique,
            after,
        })
    }

    /// The jobs that it waits for, if there are some.
    fn parents(&self, keyed: Option<&KeyedCall>) -> Result<Option<Box<After>>> {
        let Some(after) = self.after.as_ref().filter(|after| !after.jobs.is_empty()) else { return Ok(None) };
        if after.jobs.len() > After::MOST {
            return Err(OverLimit::Parents { jobs: after.jobs.len(), limit: After::MOST }.into());
        }
        if keyed.is_some_and(|keyed| keyed.on_duplicate == Duplicate::Replace) {
            return Err(Error::Misuse(
                "a call that may replace another one waits for no other jobs: `replace` and `debounce` do not go with `after`",
            ));
        }
        Ok(Some(Box::new(after.clone())))
    }

    /// How long the job waits for further calls, and how long at most.
    fn debounced(&self, schema: &TaskExecSchema) -> Option<(Duration, Duration)> {
        let of_task = schema.unique.filter(|_| self.on_duplicate.is_none());
        self.debounce.or(of_task.and_then(|unique| unique.debounce))
    }

    /// The key of the call, and how its job holds that.
    fn keyed(&self, schema: &TaskExecSchema, args: &Json) -> Result<Option<Box<KeyedCall>>> {
        let of_task = schema.unique;
        let key = match (&self.unique_key, of_task) {
            (Some(key), _) => key::named(key.clone()).ok_or(Error::Misuse(NO_KEY))?,
            (None, Some(of_task)) => {
                key::of_args(args, of_task.fields).map_err(|source| no_key(schema.name, source))?
            }
            (None, None) if self.unique_for.is_some() || self.on_duplicate.is_some() || self.debounce.is_some() => {
                return Err(Error::NoKey { task: schema.name.to_owned() });
            }
            (None, None) => return Ok(None),
        };
        let on_duplicate = if self.debounce.is_some() { Some(Duplicate::Replace) } else { self.on_duplicate };
        Ok(Some(Box::new(KeyedCall {
            key,
            on_duplicate: on_duplicate.or(of_task.map(|it| it.on_duplicate)).unwrap_or_default(),
            lasting: self.unique_for.or(of_task.and_then(|it| it.lasting)),
            put_off: self.debounced(schema).map(|(_, most)| most),
        })))
    }
}

const NO_KEY: &str = "a unique key is a text that is not empty and has no NUL in it";

/// The error of arguments that no key can be made of.
pub(crate) fn no_key(task: &str, source: serde_json::Error) -> Error {
    Error::Encode { what: format!("the unique key of `{task}`"), source: source.into() }
}
