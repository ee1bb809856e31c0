use qtasks::prelude::*;

#[qtask]
async fn number(text: String) -> Result<i64, TaskError> {
    Ok(text.parse::<i64>()?)
}

fn main() {}
