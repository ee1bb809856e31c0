use qtasks::prelude::*;

#[qtask(prio = 1, echo = 2, retry_on = handle, on_error = "skip")]
fn wrong<T>(text: &str, (a, b): (u8, u8), context: TaskContext, co: Co<u8>) -> impl Clone {
    text.len().await;
    (1..3).for_each(|n| yield_!(n));
    let reply = yield_!();
}

fn main() {
    let _ = wrong("", (1, 2));
}
