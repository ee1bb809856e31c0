//! Schedules: when they fire, and what becomes of them. All is pure: the time is an argument.

mod calendar;
pub(crate) mod definition;
mod describe;
mod expression;
mod firing;
pub(crate) mod grammar;
mod options;
pub(crate) mod saved;
pub(crate) mod tick;
pub(crate) mod timetable;
mod wrong;
mod zones;

pub use self::{
    options::{Missed, Overlap, ScheduleOptions},
    wrong::ScheduleError,
};
