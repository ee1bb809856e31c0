//! Says of due jobs that no running worker seems to take: none knows their task, or none listens to their queue.

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
    worker::shared::Floor,
};

/// When a worker first looks, and looks again; then it looks once a minute.
const FIRST: [Duration; 2] = [Duration::from_secs(5); 2];
const EVERY: Duration = Duration::from_secs(60);
/// So many jobs of each other worker are looked at, to see what it takes,
const HELD: usize = 256;
/// and so many lanes are said at a time.
const SAID: usize = 5;

/// Looks until the worker is to stop. On tokio's clock it does not, for tests that pause it pass days in a moment.
pub(crate) async fn run(floor: Arc<Floor>, queues: Arc<[String]>) {
    if floor.app.clock.is_tokios() {
        return;
    }
    let mut lookout = Lookout { queues, before: HashSet::new(), seen: HashMap::new() };
    for pause in FIRST.into_iter().chain(std::iter::repeat(EVERY)) {
        tokio::select! {
            () = sleep(pause) => {}
            () = floor.stopping.cancelled() => return,
        }
        match look(&floor, &mut lookout).await {
            Ok(unserved) => unserved.iter().take(SAID).for_each(Unserved::say),
            Err(error) => try_fails("look for due jobs that no worker takes", &error),
        }
    }
}

/// Gives the lanes of which nothing is taken.
async fn look(floor: &Floor, lookout: &mut Lookout) -> Result<Vec<Unserved>> {
    let store = &floor.app.store;
    let mut due = store.due_lanes(floor.app.now()).await?;
    due.retain(|lane| !(lookout.listens_to(&lane.queue) && floor.app.registry.get(&lane.task).is_some()));
    if !due.is_empty() {
        let mut others = store.workers().await?;
        others.retain(|other| other.worker != floor.id);
        lookout.seen.retain(|_, worker| others.iter().any(|other| other.worker == *worker));
        for other in others.iter().filter(|other| other.holds) {
            let taken = store.held(other.worker, HELD).await?.into_iter();
            lookout.seen.extend(taken.map(|job| (Lane { queue: job.call.queue, task: job.call.task }, other.worker)));
        }
    }
    Ok(lookout.unserved(due))
}

/// What a worker knows of what others take.
struct Lookout {
    /// Those that the worker listens to.
    queues: Arc<[String]>,
    /// What nobody seemed to take at the last look.
    before: HashSet<Lane>,
    /// What others have taken, and who did so last.
    seen: HashMap<Lane, WorkerId>,
}

#[derive(Debug, PartialEq)]
enum Unserved {
    Task(Lane),
    Queue(Lane),
}

impl Unserved {
    fn say(&self) {
        match self {
            Self::Task(Lane { queue, task }) => telemetry::nobody_knows(queue, task),
            Self::Queue(Lane { queue, task }) => telemetry::nobody_listens(queue, task),
        }
    }
}

impl Lookout {
    fn listens_to(&self, queue: &str) -> bool {
        self.queues.iter().any(|own| own == queue)
    }

    /// Whether another worker listens to it, which knows by itself whether it knows the task.
    fn is_seen(&self, lane: &Lane) -> bool {
        let listens = self.listens_to(&lane.queue);
        self.seen.keys().any(|seen| seen.queue == lane.queue && (!listens || seen.task == lane.task))
    }

    /// Of what is `due` and not for this worker, what nobody takes: it is so at two looks, one after the other, for a worker
    /// that takes such jobs holds some while there are any.
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

    fn lookout() -> Lookout {
        Lookout { queues: Arc::new(["default".to_owned()]), before: HashSet::new(), seen: HashMap::new() }
    }

    #[test]
    fn what_is_due_at_two_looks_and_taken_by_none_is_said() {
        let mut lookout = lookout();
        let due = || vec![lane("mail", "send"), lane("default", "other")];
        assert_eq!(lookout.unserved(due()), []);
        let said = [Unserved::Task(lane("default", "other")), Unserved::Queue(lane("mail", "send"))];
        assert_eq!(lookout.unserved(due()), said);
        assert_eq!(lookout.unserved(due()), said, "at each look");
        assert_eq!(lookout.unserved(Vec::new()), []);
        assert_eq!(lookout.unserved(due()), [], "another job may have come just now");
    }

    #[test]
    fn what_another_worker_was_seen_to_take_is_left_to_it() {
        let mut lookout = lookout();
        lookout.seen.insert(lane("mail", "send"), WorkerId::new());
        lookout.seen.insert(lane("default", "other"), WorkerId::new());
        let due = || vec![lane("mail", "send"), lane("mail", "new"), lane("default", "other"), lane("default", "new")];
        assert_eq!(lookout.unserved(due()), []);
        assert_eq!(lookout.unserved(due()), [Unserved::Task(lane("default", "new"))]);
    }
}
