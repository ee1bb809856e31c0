use qtasks::qtask;

#[qtask]
async fn numbers() -> Vec<i64> {
    yield_!(1);
    let reply: i64 = yield_!(2);
    yield_!(reply);
}

fn main() {}
