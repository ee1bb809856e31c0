//! The `#[qtask]` attribute of qtasks.

mod args;
mod body;
mod enclosing;
mod ends;
mod expand;
mod form;
mod rules;
mod task;
#[cfg(test)]
mod tests;
mod types;
mod value;

use proc_macro::TokenStream;

/// Makes a task of a function.
///
/// `#[qtask] fn report(day: Date)` becomes a struct `report { day }`, the stored arguments, and a function
/// `report(day)` that makes one: a call, to be enqueued or run. The task is registered under its name when the program
/// is linked. A body that says `yield_!(value)`, or takes a `Co`, makes a generator: each value goes through the handler,
/// and the replies are collected into the return type.
///
/// ```
/// use qtasks::prelude::*;
///
/// fn double(n: i64) -> i64 {
///     n * 2
/// }
///
/// /// Yields 1 to `n`, doubled.
/// #[qtask(generate_handler = double, queue = "numbers", retry = 5, backoff = "1s..1m")]
/// async fn doubles(n: i64) -> Vec<i64> {
///     for i in 1..=n {
///         yield_!(i);
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> qtasks::Result<()> {
/// let app = QueueTasks::open("memory:").await?;
/// assert_eq!(app.run(doubles(3)).await?, [2, 4, 6]);
/// # Ok(())
/// # }
/// ```
///
/// # Options
///
/// Durations are texts: a whole number and `ms`, `s`, `m`, `h` or `d`, as in `"30s"`.
///
/// | option | means | without it |
/// | --- | --- | --- |
/// | `name = "emails.send"` | the name that jobs are stored under, of `A-Z a-z 0-9 _ . : -`, at most 128 | the function's name |
/// | `generate_handler = path` | the function that each yielded value goes through | a value is its own reply |
/// | `echo = true` | passes the running task as the first parameter, if that is a `TaskContext` | |
/// | `queue = "mail"` | the queue of its jobs, named as tasks are | `"default"` |
/// | `priority = 10` | an `i16`; higher is leased first | 0 |
/// | `retry = 5` | how many failures in a row are forgiven: 5 makes 6 tries | 3 |
/// | `backoff = "1s..1h"` | the delays between tries grow from the first to the second; `"5s"` is both | `"1s..1h"` |
/// | `retry_on = path` | a `fn(&E) -> bool`: whether another try can mend an error of the body | all are tried again |
/// | `max_time = "30s"` | how long one attempt may last | no limit |
/// | `unique = "user, month"` | one job at a time for each key, which these arguments make; `"args"`: all of them | each call makes a job |
/// | `on_duplicate = "replace"` | what becomes of a call while another job has its key: `join`, `replace` or `refuse` | `join` |
/// | `unique_for = "1h"` | a job holds its key so long after its enqueue at least | until it has ended |
/// | `debounce = "5s..1m"` | the job waits until no call with its key has come for so long, and so long after its enqueue at most | it does not wait |
/// | `expires = "10m"` | a job that was not started so long after it was due ends as cancelled | never |
/// | `tags = ["nightly", "billing"]` | words to find the task by | none |
/// | `description = "…"` | what the task is for | |
/// | `on_error = "skip"` | an error of the handler is recorded in the value's place, and the task goes on | `"fail"`: it ends the attempt |
/// | `checkpoint = "each"` | a step is durable before the body goes on; `"within 5ms"` (up to `"1m"`): its commit starts within that time | `"within 5ms"` |
/// | `resume = "cursor"` | the body goes on from `ctx.last_step()` by itself, instead of running again over what is recorded | `"replay"` |
/// | `schedule = "0 9 * * MON-FRI"` | when the task is enqueued by itself, without arguments: [see below](#schedules) | never |
/// | `timezone = "Europe/Moscow"` | the zone in which the times of the schedule are meant | `"UTC"` |
/// | `missed = "once"` | of ticks at which no worker ran, the latest fires; with `"all"` all do, the oldest first | `"skip"`: none |
/// | `overlap = "skip"` | a tick is passed over while the job of the last one has not ended | `"allow"`: it fires |
/// | `jitter = "30s"` | jobs are due up to so long after their ticks, each by another time | none |
/// | `crate = path` | where qtasks is, if it is renamed or re-exported | `::qtasks` |
///
/// # Schedules
///
/// A schedule fires once for each tick, on however many workers. It has five fields, minute, hour, day of the month, month and
/// weekday, as in cron, or six with the second first. A field takes `*`, numbers, names (`JAN`, `MON`), lists `1,15`, ranges `9-17`
/// and steps `*/15`; the day also `L` for the last one, `L-2`, `15W` for the working day nearest to the 15th, and `LW`; the weekday
/// also `FRI#2` for the second Friday and `FRIL` for the last one. Where day and weekday are both given, either has to fit; both, if
/// one of them begins with `*`. Besides there are `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`, and `every 90s`, which
/// counts from 1970. A wrong expression does not compile.
///
/// A tick that is found at most five minutes late, and before the next one, fires whatever `missed` says.
///
/// # Parameters
///
/// They are the stored arguments, except for those of the types `State<T>`, `TaskContext` and `Co<Y, R>`, which the
/// worker supplies. Attributes of a parameter go to its field: with `#[serde(default)]` a parameter can be added while
/// jobs without it are stored.
///
/// # Handlers
///
/// A handler is a `fn` or an `async fn` that takes the value, and `State<T>` and `TaskContext` after it if it likes; it
/// may return a `Result`. With `&qtasks::sqlite::Transaction<'_>` before the value, a `fn` that returns a `Result` runs in
/// the transaction of the SQLite store that records the step: its writes are there exactly once. An `async fn` with
/// `&mut qtasks::postgres::Transaction<'_>` does the same in a transaction of the Postgres store.
///
/// # Other attributes
///
/// Docs, `cfg`, `deprecated` and lint levels go to the struct and the function, all others to the function that holds
/// the body. `#[qtask]` stands first: an attribute above it may wrap the body in a block of its own, in which `yield_!`
/// is an error.
#[proc_macro_attribute]
pub fn qtask(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::qtask(options.into(), item.into(), enclosing::is_in_impl()).into()
}

/// The errors of one task, reported together.
#[derive(Default)]
struct Errors(Vec<syn::Error>);

impl Errors {
    fn at(&mut self, tokens: impl quote::ToTokens, message: impl std::fmt::Display) {
        self.push(syn::Error::new_spanned(tokens, message));
    }

    fn push(&mut self, error: syn::Error) {
        self.0.push(error);
    }

    fn into_compile_error(self) -> Option<proc_macro2::TokenStream> {
        let all = self.0.into_iter().reduce(|mut all, error| {
            all.combine(error);
            all
        })?;
        Some(all.into_compile_error())
    }
}
