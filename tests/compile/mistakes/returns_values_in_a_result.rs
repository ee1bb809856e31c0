use qtasks::prelude::*;

#[qtask]
async fn numbers(n: i64) -> anyhow::Result<Vec<i64>> {
    if n == 0 {
        return Ok(vec![]);
    }
    for i in 0..n {
        yield_!(i);
    }
    Ok(())
}

fn main() {}
