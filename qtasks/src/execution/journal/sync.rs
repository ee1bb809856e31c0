//! What the shell is locked with; its tests put that of `loom` in its place.

pub(super) use std::sync::{Mutex, MutexGuard, atomic::AtomicBool};

pub(super) use tokio::sync::mpsc::UnboundedSender;
