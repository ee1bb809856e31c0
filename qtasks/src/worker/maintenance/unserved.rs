//! Warns of due jobs that no running worker seems to take: none knows their task, or none listens to their queue.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    error::Result,
    model::job::WorkerId,
    store::Lane,
    telemetry::{self, try_fails},
    worker::shared::WorkerShared,
};

/// The pauses before the first two looks of a worker.
const FIRST: [Duration; 2] = [Duration::from_secs(5); 2];
/// The pause before each further look.
const EVERY: Duration = Duration::from_secs(60);
/// How many jobs of each other worker are read, to see what that worker takes.
const SEEN_OF_EACH: usize = 256;
/// How many lanes are logged at a time.
const LOGGED_AT_A_TIME: usize = 5;

/// Looks until the worker is to stop. On tokio's clock it does not look: a test that pauses that clock passes days in a moment.
pub(crate) async fn run(shared: Arc<WorkerShared>, queues: Arc<[String]>) {
    if shared.app.clock.is_tokios() {
        return;
    }
    let mut watch = LaneWatch { queues, before: HashSet::new(), seen: HashMap::new() };
    for pause in FIRST.into_iter().chain(std::iter::repeat(EVERY)) {
        tokio::select! {
            () = sleep(pause) => {}
            () = shared.stopping.cancelled() => return,
        }
        match look(&shared, &mut watch).await {
            Ok(unserved) => unserved.iter().take(LOGGED_AT_A_TIME).for_each(Unserved::warn),
            Err(error) => try_fails("look for due jobs that no worker takes", &error),
        }
    }
}

/// Gives the lanes that no worker seems to serve.
async fn look(shared: &WorkerShared, watch: &mut LaneWatch) -> Result<Vec<Unserved>> {
    let store = &shared.app.store;
    let mut due = store.due_lanes(shared.app.now()).await?;
    due.retain(|lane| !(watch.listens_to(&lane.queue) && shared.app.registry.get(&lane.task).is_some()));
    if !due.is_empty() {
        let mut others = store.workers().await?;
        others.retain(|other| other.worker != shared.id);
        watch.seen.retain(|_, worker| others.iter().any(|other| other.worker == *worker));
        for other in others.iter().filter(|other| other.holds) {
            let taken = store.held(other.worker, SEEN_OF_EACH).await?.into_iter();
            watch.seen.extend(taken.map(|job| (Lane { queue: job.call.queue, task: job.call.task }, other.worker)));
        }
    }
    Ok(watch.unserved(due))
}

/// What a worker has seen of the lanes that the others serve.
struct LaneWatch {
    /// The queues that this worker listens to.
    queues: Arc<[String]>,
    /// The lanes that no worker seemed to serve at the last look.
    before: HashSet<Lane>,
    /// The lanes from which other workers hold or held jobs, each with the last such worker.
    seen: HashMap<Lane, WorkerId>,
}

#[derive(Debug, PartialEq)]
enum Unserved {
    /// No worker that listens to the queue knows the task.
    Task(Lane),
    /// No worker listens to the queue.
    Queue(Lane),
}

impl Unserved {
    fn warn(&self) {
        match self {
            Self::Task(Lane { queue, task }) => telemetry::task_unserved(queue, task),
            Self::Queue(Lane { queue, task }) => telemetry::queue_unserved(queue, task),
        }
    }
}

impl LaneWatch {
    fn listens_to(&self, queue: &str) -> bool {
        self.queues.iter().any(|own| own == queue)
    }

    /// Whether another worker was seen to serve the lane. For a queue that only others listen to, any task of it will do: such
    /// a worker warns itself of tasks that it does not know.
    fn is_seen(&self, lane: &Lane) -> bool {
        let listens = self.listens_to(&lane.queue);
        self.seen.keys().any(|seen| seen.queue == lane.queue && (!listens || seen.task == lane.task))
    }

    /// The lanes among those `due` that no worker serves: lanes that were due and not seen to be served at this look and at the
    /// last one. A worker that serves a lane holds jobs of it while there are any.
    fn unserved(&mut self, mut due: Vec<Lane>) -> Vec<Unserved> {
        due.retain(|lane| !self.is_seen(lane));
        let before = std::mem::replace(&mut self.before, due.iter().cloned().collect());
        due.retain(|lane| before.contains(lane));
        due.sort_unstable_by(|one, other| (&one.queue, &one.task).cmp(&(&other.queue, &other.task)));
        let of = |lane: Lane| if self.listens_to(&lane.queue) { Unserved::Task(lane) } else { Unserved::Queue(lane) };
        due.into_iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(queue: &str, task: &str) -> Lane {
        Lane { queue: queue.into(), task: task.into() }
    }

    fn watch() -> LaneWatch {
        LaneWatch { queues: Arc::new(["default".to_owned()]), before: HashSet::new(), seen: HashMap::new() }
    }

    #[test]
    fn what_is_due_at_two_looks_and_taken_by_none_is_said() {
        let mut watch = watch();
        let due = || vec![lane("mail", "send"), lane("default", "other")];
        assert_eq!(watch.unserved(due()), []);
        let said = [Unserved::Task(lane("default", "other")), Unserved::Queue(lane("mail", "send"))];
        assert_eq!(watch.unserved(due()), said);
        assert_eq!(watch.unserved(due()), said, "at each look");
        assert_eq!(watch.unserved(Vec::new()), []);
        assert_eq!(watch.unserved(due()), [], "another job may have come just now");
    }

    #[test]
    fn what_another_worker_was_seen_to_take_is_left_to_it() {
        let mut watch = watch();
        watch.seen.insert(lane("mail", "send"), WorkerId::new());
        watch.seen.insert(lane("default", "other"), WorkerId::new());
        let due = || vec![lane("mail", "send"), lane("mail", "new"), lane("default", "other"), lane("default", "new")];
        assert_eq!(watch.unserved(due()), []);
        assert_eq!(watch.unserved(due()), [Unserved::Task(lane("default", "new"))]);
    }
}
