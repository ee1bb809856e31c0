//! The strictest lints that users turn on: nothing that the attribute makes is a reason to turn them off.
#![deny(warnings, missing_docs, unreachable_pub, missing_debug_implementations, unused, clippy::all, clippy::pedantic)]
#![forbid(unsafe_code)]
#![allow(missing_debug_implementations)]

use qtasks::{prelude::*, yield_};

/// A module of the public interface.
pub mod tasks {
    use qtasks::{State, TaskContext, qtask, yield_};

    fn handle(value: i64) -> i64 {
        value
    }

    /// All options.
    #[qtask(
        name = "tasks.every-option",
        generate_handler = handle,
        echo = true,
        queue = "slow",
        priority = -3,
        retry = 5,
        backoff = "1s..1h",
        retry_on = is_transient,
        max_time = "30s",
        tags = ["a", "b"],
        description = "Has every option.",
        on_error = "fail",
        checkpoint = "within 10ms",
        crate = ::qtasks,
    )]
    pub async fn every_option(
        context: TaskContext,
        mut n: i64,
        /// Documented.
        #[serde(default)]
        more: Option<u8>,
        #[allow(unused_variables)] unused: String,
        /// Documented, too.
        state: State<u8>,
    ) -> Result<Vec<i64>, std::io::Error> {
        n += i64::from(more.unwrap_or(*state));
        yield_!(n + i64::from(context.attempt()));
        Ok(())
    }

    fn is_transient(error: &std::io::Error) -> bool {
        error.kind() == std::io::ErrorKind::TimedOut
    }

    /// Deprecated.
    #[deprecated(note = "use `every_option`")]
    #[qtask]
    pub fn old(n: i64) -> i64 {
        n
    }

    /// Also deprecated, and it yields.
    #[qtask]
    #[deprecated]
    pub async fn older(n: i64) -> Vec<i64> {
        yield_!(n);
    }

    #[qtask]
    pub(crate) fn visible_in_the_crate(n: i64) -> i64 {
        n
    }

    #[qtask]
    pub(super) async fn visible_above() {}

    #[qtask]
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn many(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8) -> u8 {
        a + b + c + d + e + f + g + h
    }

    #[qtask]
    pub(crate) async fn seven(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8) -> Vec<u8> {
        yield_!(a + b + c + d + e + f + g);
    }

    // Called by a schedule only.
    #[qtask]
    async fn never_called_here() {
        yield_!(1);
    }
}

// Names of methods that clippy knows better.
#[qtask]
fn new() -> u8 {
    1
}

#[qtask]
fn default(r#type: u8, mut r#fn: u8) -> u8 {
    r#fn += 1;
    r#type + r#fn
}

#[qtask]
fn r#type() -> u8 {
    1
}

#[qtask]
async fn t(t: i64) -> Vec<i64> {
    yield_!(t);
}

#[cfg(any())]
#[qtask]
fn absent(n: Missing) {}

#[qtask]
#[cfg(any())]
fn absent_too(n: Missing) {}

#[cfg_attr(all(), qtask)]
#[cfg_attr(all(), doc = "Documented.", inline)]
#[warn(clippy::pedantic)]
fn conditional() {}

#[test]
fn they_are_made() {
    let _ = tasks::every_option(1, None, String::new());
    let call = tasks::every_option { n: 1, more: None, unused: String::new() };
    let _ = (call.n, tasks::visible_in_the_crate(1), tasks::visible_above(), tasks::seven(1, 2, 3, 4, 5, 6, 7));
    let _ = (tasks::many(1, 2, 3, 4, 5, 6, 7, 8), new(), default(1, 2), r#type(), t(1), conditional());
}
