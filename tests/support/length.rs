//! Each test that takes long has a short form, which `cargo test` runs; `QTASKS_LONG=1` asks for the long forms.

use std::{
    env, slice,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Whether the long forms are asked for.
pub fn is_long() -> bool {
    env::var_os("QTASKS_LONG").is_some_and(|set| set == "1")
}

/// The stores that a rule is tried on: in the long form all of them. In the short form the rules of a program are tried on one
/// store each, in turn.
pub fn in_turn<T>(stores: &[T]) -> &[T] {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let one = &stores[TURN.fetch_add(1, Relaxed) % stores.len()];
    by_length(slice::from_ref(one), stores)
}

/// What a test does in its short form, or in its long one: how many seeds it runs, how often, for how long.
pub fn by_length<T>(short: T, long: T) -> T {
    if is_long() { long } else { short }
}
