use std::error::Error;

use qtasks::prelude::*;

#[qtask]
async fn number(text: String) -> Result<i64, Box<dyn Error>> {
    Ok(text.parse::<i64>()?)
}

fn main() {}
