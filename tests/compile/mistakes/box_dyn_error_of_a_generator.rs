use std::error::Error;

use qtasks::prelude::*;

#[qtask]
async fn numbers(texts: Vec<String>) -> Result<Vec<i64>, Box<dyn Error>> {
    for text in texts {
        yield_!(text.parse::<i64>()?);
    }
    Ok(())
}

fn main() {}
