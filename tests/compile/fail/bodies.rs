use qtasks::prelude::*;

fn handle(value: i64) -> i64 {
    value
}

#[qtask(generate_handler = handle)]
async fn yields_another_type() -> Vec<i64> {
    yield_!("text");
    yield_!(1);
}

#[qtask(generate_handler = handle)]
async fn yields_two_types() -> Vec<i64> {
    yield_!(1);
    yield_!("text");
    let reply = yield_!("text");
}

#[qtask]
async fn no_ok() -> Result<Vec<i64>, TaskError> {
    yield_!(1);
}

#[qtask]
fn ends_with_a_value() -> Vec<i64> {
    yield_!(1);
    vec![1]
}

#[qtask]
async fn question_mark_without_result(text: String) -> Vec<i64> {
    yield_!(text.parse::<i64>()?);
}

#[qtask(generate_handler = handle)]
async fn reply_of_another_type() -> Vec<i64> {
    let reply: String = yield_!(1);
}

#[qtask(generate_handler = handle)]
async fn reply_at_the_end() -> Vec<i64> {
    for n in 0..3 {
        yield_!(n)
    }
}

#[qtask]
async fn unknown_variable() -> Vec<i64> {
    yield_!(missing);
}

#[qtask]
fn plain_mismatch(n: i64) -> String {
    n
}

#[qtask]
async fn never_yields_at_runtime(n: i64) -> Vec<i64> {
    n = 5;
    yield_!(n);
}

fn judge(_: &String) -> bool {
    true
}

#[qtask(retry_on = judge)]
fn judges_another_error() -> Result<(), TaskError> {
    Ok(())
}

#[qtask(retry_on = judge)]
async fn judges_another_error_of_values() -> Result<Vec<i64>, TaskError> {
    yield_!(1);
    Ok(())
}

fn main() {}
