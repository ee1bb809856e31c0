//! What a worker asks for when it leases jobs, and what it gets.

use std::sync::Arc;

use jiff::Timestamp;

use crate::model::job::{Job, WorkerId};

/// What a worker asks for when it leases jobs.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The worker that asks.
    pub worker: WorkerId,
    /// The queues that the worker takes jobs from.
    pub queues: Arc<[String]>,
    /// The tasks that the worker knows. Jobs of other tasks go on waiting.
    pub tasks: Arc<[&'static str]>,
    /// How many jobs the worker takes at most.
    pub limit: usize,
    /// Whether one [suspect](crate::job::Standing::suspect) may be among the jobs: only where the worker can start it at once.
    pub suspects: Suspects,
    /// The time by the worker's clock: jobs that are due at this time or before can be leased.
    pub now: Timestamp,
}

/// Whether a [suspect](crate::job::Standing::suspect) may be leased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Suspects {
    /// No suspect is leased: another one has the permit, or no slot is free.
    #[default]
    PassOver,
    /// One suspect is leased, to run beside others that have had their turn and run still.
    OneBesideOthers,
    /// One suspect is leased, which runs as the only one of its process.
    OneAlone,
}

impl Suspects {
    /// Whether a suspect may be leased.
    pub const fn allow_one(self) -> bool {
        !matches!(self, Self::PassOver)
    }

    /// Whether the suspect that is leased is [liable](crate::model::job::Suspect::liable).
    pub const fn liable(self) -> bool {
        matches!(self, Self::OneAlone)
    }
}

/// What a worker gets when it leases jobs.
#[derive(Clone, Debug, Default)]
pub struct Leased {
    /// The jobs that were leased. All of them are running.
    pub jobs: Vec<Job>,
    /// When the next job that is not due yet will be, among those that the worker could take.
    pub next_due: Option<Timestamp>,
    /// Whether a [suspect](crate::job::Standing::suspect) that is due, and that the worker could take, still waits.
    pub suspects: bool,
}

/// How many more jobs a worker can start at the moment, or soon.
pub type FreeSlots = Arc<dyn Fn() -> usize + Send + Sync>;
