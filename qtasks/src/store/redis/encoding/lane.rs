//! The names of lanes.

use crate::store::{Lane, redis::error::Fault};

/// The name of the lane of a task in a queue.
pub(crate) fn lane(queue: &str, task: &str) -> String {
    let mut lane = queue.len().to_string();
    lane.reserve(queue.len() + task.len() + 2);
    lane.extend([":", queue, ":", task]);
    lane
}

/// The lane of this name.
pub(crate) fn read_lane(name: &str) -> Result<Lane, Fault> {
    let (queue, task) = names(name).ok_or(Fault::Unreadable)?;
    Ok(Lane { queue: queue.to_owned(), task: task.to_owned() })
}

/// The queue and the task in the name of a lane.
pub(crate) fn names(lane: &str) -> Option<(&str, &str)> {
    let (length, rest) = lane.split_once(':')?;
    let (queue, task) = rest.split_at_checked(length.parse().ok()?)?;
    Some((queue, task.strip_prefix(':')?))
}
