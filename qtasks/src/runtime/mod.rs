//! The ground of all other folders: threads, clocks that tests pause, waits, and guards around the user's code. Nothing here
//! knows of jobs.

pub(crate) mod alarm;
pub(crate) mod clock_hold;
pub(crate) mod guard;
pub(crate) mod threads;
