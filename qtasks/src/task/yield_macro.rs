//! `yield_!`, as it is outside of a task: inside, the expansion of `#[qtask]` puts its own in this one's place.

/// Yields a value from the body of a `#[qtask]` function.
///
/// As a statement, `yield_!(value);` lets the body go on as soon as the value is handled. As an expression it gives the
/// handler's reply, once the step is durable: `let id: i64 = yield_!(row);`.
///
/// ```
/// use qtasks::prelude::*;
///
/// async fn double(value: i64) -> i64 {
///     value * 2
/// }
///
/// #[qtask(generate_handler = double)]
/// async fn powers(n: u32) -> Vec<i64> {
///     let mut power = 1;
///     for _ in 0..n {
///         power = yield_!(power);
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> qtasks::Result<()> {
/// let app = QueueTasks::open("memory:").await?;
/// assert_eq!(app.run(powers(4)).await?, [2, 4, 8, 16]);
/// # Ok(())
/// # }
/// ```
///
/// Outside of a task it is a compile error:
///
/// ```compile_fail
/// fn not_a_task() {
///     qtasks::yield_!(1);
/// }
/// ```
#[macro_export]
macro_rules! yield_ {
    // The expansion of a task mentions it once, so that importing it is never unused.
    (@used) => {};
    ($($tokens:tt)*) => {
        ::core::compile_error!(
            "`yield_!` belongs directly in the body of a function marked `#[qtask]`; a helper function takes `co: &Co<Y, R>` \
             and calls `co.emit(value).await` or `co.yield_(value).await`"
        )
    };
}
