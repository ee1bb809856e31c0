use qtasks::prelude::*;

fn handle(value: i64) -> i64 {
    value
}

fn judge(_: &String) -> bool {
    true
}

#[qtask(generate_handler = handle)]
async fn handler_without_yield() -> i64 {
    1
}

#[qtask(on_error = "skip", checkpoint = "each")]
fn others_without_yield() {}

#[qtask(on_error = "skip")]
async fn skip_without_handler() -> Vec<i64> {
    yield_!(1);
}

#[qtask(retry_on = judge)]
async fn retry_on_without_result() -> i64 {
    1
}

#[qtask(retry_on = judge)]
async fn retry_on_values_without_result() -> Vec<i64> {
    yield_!(1);
}

#[qtask(generate_handler = handle, on_error = "skip")]
async fn replies_of_skipped_values() -> Vec<i64> {
    yield_!(1);
    let reply = yield_!(2);
    println!("{}", yield_!(reply));
    tokio::select! {
        _ = async {} => {
            yield_!(3);
            yield_!(4)
        }
    };
    if yield_!(5) == 6 {}
}

#[qtask(generate_handler = handle)]
async fn hidden_handler(handle: i64) -> Vec<i64> {
    yield_!(handle);
}

fn main() {
    let _ = (handler_without_yield(), others_without_yield(), skip_without_handler(), retry_on_without_result());
    let _ = (retry_on_values_without_result(), replies_of_skipped_values(), hidden_handler(1));
}
