use qtasks::prelude::*;

async fn no_task() -> Vec<i64> {
    yield_!(1);
    let reply = yield_!(2);
    vec![reply]
}

macro_rules! twice {
    ($value:expr) => {
        yield_!($value);
        yield_!($value);
    };
}

// No `yield_!` is to be seen here, so this does not yield.
#[qtask]
async fn hidden() {
    twice!(1);
}

fn main() {}
