//! What users write: tasks, handlers, results, errors.

mod collections;
mod combinations;
mod context;
mod detached;
mod errors;
mod guards;
mod ids;
mod limits;
mod once;
mod page;
mod running;
mod unwinding;
mod values;
mod yields;
