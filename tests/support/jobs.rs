//! Jobs and questions for tests that talk to a store by itself.

use jiff::Timestamp;
use qtasks::{
    job::{JobCall, JobId, NewJob, WorkerId},
    json::Json,
    store::{Ask, Suspects},
};

/// When they are enqueued, due and asked for.
pub const NOW: Timestamp = Timestamp::constant(1_700_000_000, 0);

/// A job of the task `task` in the queue `default`.
pub fn new_job() -> NewJob {
    NewJob {
        call: JobCall {
            id: JobId::new(),
            task: "task".into(),
            queue: "default".into(),
            priority: 0,
            args: Json::from_stored("{}"),
            max_time: None,
            enqueued: NOW,
            expires: None,
            trace: None,
            key: None,
            after: None,
        },
        due: NOW,
        unique: None,
    }
}

/// What a new worker asks for that may have so many such jobs, and no suspects.
pub fn ask(limit: usize) -> Ask {
    Ask {
        worker: WorkerId::new(),
        queues: ["default".into()].into(),
        tasks: ["task"].into(),
        limit,
        suspects: Suspects::PassOver,
        now: NOW,
    }
}
