//! The locks and the sender that the shell uses; its tests put those of `loom` in their place.

pub(super) use std::sync::{Mutex, MutexGuard, atomic::AtomicBool};

pub(super) use tokio::sync::mpsc::UnboundedSender;
