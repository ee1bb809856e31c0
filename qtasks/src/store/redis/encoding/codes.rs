//! The numbers that stand for states and shapes.

use crate::model::job::Shape;

pub(crate) const WAITING: u8 = 0;
pub(crate) const RUNNING: u8 = 1;
pub(crate) const DONE: u8 = 2;
pub(crate) const DEAD: u8 = 3;
pub(crate) const CANCELLED: u8 = 4;
pub(crate) const SUSPECT: u8 = 1;
pub(crate) const LIABLE: u8 = 2;
pub(crate) const VALUE: u8 = u8::MAX;
pub(crate) const SHAPES: [Shape; 6] = [Shape::List, Shape::Map, Shape::Text, Shape::Count, Shape::Last, Shape::Nothing];

/// In place of a time that is not known.
pub(crate) const UNKNOWN: i64 = i64::MIN;

/// The number of the state of this name; 255 if there is none.
pub(crate) fn state_code(name: &str) -> u8 {
    match name {
        "waiting" => WAITING,
        "running" => RUNNING,
        "done" => DONE,
        "dead" => DEAD,
        "cancelled" => CANCELLED,
        _ => u8::MAX,
    }
}
