//! What is read beside the writer.

pub(super) mod pool;
pub(super) mod queries;
