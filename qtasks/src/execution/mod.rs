//! One attempt of a task: its body, the handlers of its values, and the steps that are recorded of them.

pub(crate) mod attempt;
pub(crate) mod body;
pub(crate) mod co;
pub(crate) mod context;
pub(crate) mod drive;
pub(crate) mod end;
pub(crate) mod handler;
pub(crate) mod inline;
pub(crate) mod journal;
pub(crate) mod keep;
pub(crate) mod mailbox;
pub(crate) mod on_error;
pub(crate) mod recorded;
pub(crate) mod state;
pub(crate) mod stopped;
