//! The numbers that stand for states, and for times that are not known.

use crate::model::job::StateKind;

pub(crate) const WAITING: u8 = 0;
pub(crate) const RUNNING: u8 = 1;
pub(crate) const DONE: u8 = 2;
pub(crate) const DEAD: u8 = 3;
pub(crate) const CANCELLED: u8 = 4;
pub(crate) const SUSPECT: u8 = 1;
pub(crate) const LIABLE: u8 = 2;
pub(crate) const AFTER: u8 = 4;
pub(crate) const VALUE: u8 = u8::MAX;

/// Stands for a time that is not known.
pub(crate) const UNKNOWN: i64 = i64::MIN;

/// The state of a number.
pub(crate) fn state_of_code(code: u8) -> Option<StateKind> {
    Some(match code {
        WAITING => StateKind::Waiting,
        RUNNING => StateKind::Running,
        DONE => StateKind::Done,
        DEAD => StateKind::Dead,
        CANCELLED => StateKind::Cancelled,
        _ => return None,
    })
}

/// The number of a state.
pub(crate) fn state_code(state: StateKind) -> u8 {
    match state {
        StateKind::Waiting => WAITING,
        StateKind::Running => RUNNING,
        StateKind::Done => DONE,
        StateKind::Dead => DEAD,
        StateKind::Cancelled => CANCELLED,
    }
}
