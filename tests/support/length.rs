//! Each test that takes long has a short form, which `cargo test` runs; `QTASKS_LONG=1` asks for the long forms.

use std::env;

/// Whether the long forms are asked for.
pub fn is_long() -> bool {
    env::var_os("QTASKS_LONG").is_some_and(|set| set == "1")
}

/// What a test does in its short form, or in its long one: how many seeds it runs, how often, for how long.
pub fn by_length<T>(short: T, long: T) -> T {
    if is_long() { long } else { short }
}
