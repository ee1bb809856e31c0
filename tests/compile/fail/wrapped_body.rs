use qtasks::prelude::*;

#[tracing::instrument]
#[qtask]
async fn traced(n: i64) -> Vec<i64> {
    yield_!(n);
    let reply = yield_!(n);
}

#[tracing::instrument(err)]
#[qtask]
fn blocking(n: i64) -> Result<Vec<i64>, std::io::Error> {
    yield_!(n);
    Ok(())
}

fn main() {
    let _ = (traced(1), blocking(1));
}
