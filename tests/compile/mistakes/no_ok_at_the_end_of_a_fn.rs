use qtasks::prelude::*;

#[qtask]
fn numbers(texts: Vec<String>) -> Result<Vec<i64>, std::num::ParseIntError> {
    for text in texts {
        yield_!(text.parse::<i64>()?);
    }
}

fn main() {}
