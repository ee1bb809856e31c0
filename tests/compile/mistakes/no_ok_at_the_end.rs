use qtasks::prelude::*;

#[qtask]
async fn numbers(texts: Vec<String>) -> anyhow::Result<Vec<i64>> {
    for text in texts {
        yield_!(text.parse::<i64>()?);
    }
}

fn main() {}
