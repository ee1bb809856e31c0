//! A job to be enqueued.

use std::{borrow::Cow, time::Duration};

use jiff::Timestamp;

use crate::model::{
    job::{After, JobCall, JobId, NewJob},
    json::Json,
    unique::KeyedCall,
};

/// A job to be enqueued. The call to the store may be repeated: it enqueues the same job each time.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) id: JobId,
    /// Whether the caller chose the id.
    pub(crate) has_own_id: bool,
    pub(crate) task: Cow<'static, str>,
    pub(crate) queue: Cow<'static, str>,
    pub(crate) priority: i16,
    pub(crate) args: Json,
    pub(crate) due: Timestamp,
    pub(crate) max_time: Option<Duration>,
    pub(crate) expires: Option<Duration>,
    pub(crate) enqueued: Timestamp,
    /// The `traceparent` of what enqueues the job.
    pub(crate) trace: Option<String>,
    /// Its key, if it has one.
    pub(crate) unique: Option<Box<KeyedCall>>,
    /// The jobs that it waits for, if there are some.
    pub(crate) after: Option<Box<After>>,
}

impl Prepared {
    pub(crate) fn job(&self) -> NewJob {
        let call = JobCall {
            id: self.id,
            task: self.task.clone().into_owned(),
            queue: self.queue.clone().into_owned(),
            priority: self.priority,
            args: self.args.clone(),
            max_time: self.max_time,
            enqueued: self.enqueued,
            expires: self.expires,
            trace: self.trace.clone(),
            key: self.unique.as_ref().map(|unique| unique.key.clone()),
            after: self.after.clone(),
        };
        NewJob {
            call,
            due: self.due,
            unique: self.unique.as_ref().map(|unique| Box::new(unique.enqueued(self.enqueued))),
        }
    }
}
