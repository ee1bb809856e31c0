//! What users write: tasks, handlers, results, errors.

mod after;
mod collections;
mod combinations;
mod context;
mod cursor;
mod detached;
mod directives;
mod diverging;
mod errors;
mod guards;
mod ids;
mod limits;
mod many;
mod max_time;
mod once;
mod page;
mod panics;
mod running;
mod skipping;
mod unique;
mod unwinding;
mod values;
mod yields;
