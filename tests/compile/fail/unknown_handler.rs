use qtasks::prelude::*;

#[qtask(generate_handler = handlers::missing)]
async fn a() -> Vec<i64> {
    yield_!(1);
}

#[qtask(retry_on = missing)]
async fn b() -> Result<(), TaskError> {
    Ok(())
}

mod handlers {}

fn main() {}
