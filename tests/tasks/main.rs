//! What users write: tasks, handlers, results, errors.

mod collections;
mod combinations;
mod context;
mod errors;
mod guards;
mod ids;
mod limits;
mod once;
mod page;
mod running;
mod values;
mod yields;
