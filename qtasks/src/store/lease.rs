//! What a worker asks for when it leases jobs, and what it gets.

use std::sync::Arc;

use jiff::Timestamp;

use crate::model::job::{Job, WorkerId};

/// What a worker asks for when it leases jobs.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Who asks.
    pub worker: WorkerId,
    /// The queues it listens to.
    pub queues: Arc<[String]>,
    /// The tasks it knows; jobs of others are left alone.
    pub tasks: Arc<[&'static str]>,
    /// How many jobs it takes at most.
    pub limit: usize,
    /// Whether one [suspect](crate::job::Standing::suspect) may be among them, since it can be started at once.
    pub suspects: Suspects,
    /// Jobs due at this time or before are due.
    pub now: Timestamp,
}

/// Whether a [suspect](crate::job::Standing::suspect) may be leased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Suspects {
    /// None: another one has the turn, or no slot is free.
    #[default]
    PassOver,
    /// One, to run beside others that have had their turn and run still.
    OneBesideOthers,
    /// One, which runs as the only suspect of its process.
    OneAlone,
}

impl Suspects {
    /// Whether one may be leased.
    pub const fn allow_one(self) -> bool {
        !matches!(self, Self::PassOver)
    }

    /// Whether the one that is leased is [liable](crate::model::job::Suspect::liable).
    pub const fn liable(self) -> bool {
        matches!(self, Self::OneAlone)
    }
}

/// What a worker gets.
#[derive(Clone, Debug, Default)]
pub struct Leased {
    /// The jobs, all of them running.
    pub jobs: Vec<Job>,
    /// When the next job that is not due yet will be, among those that the worker could take.
    pub next_due: Option<Timestamp>,
    /// Whether a [suspect](crate::job::Standing::suspect) that is due, and that the worker could take, still waits.
    pub suspects: bool,
}

/// How many more jobs a worker can start at the moment.
pub type FreeSlots = Arc<dyn Fn() -> usize + Send + Sync>;

/// A task in a queue: jobs of one lane wait in one order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lane {
    /// The queue.
    pub queue: String,
    /// The task.
    pub task: String,
}
