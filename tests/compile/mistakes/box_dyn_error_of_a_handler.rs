use std::error::Error;

use qtasks::prelude::*;

async fn parse(text: String) -> Result<i64, Box<dyn Error>> {
    Ok(text.parse::<i64>()?)
}

#[qtask(generate_handler = parse)]
async fn numbers(texts: Vec<String>) -> Vec<i64> {
    for text in texts {
        yield_!(text);
    }
}

fn main() {}
