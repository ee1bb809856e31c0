use qtasks::prelude::*;

#[qtask]
async fn wrong() -> Vec<i64> {
    yield_!();
    yield_!(1, 2);
    let reply = yield_!(3, 4);
    println!("{}", yield_!());
}

fn main() {
    let _ = wrong();
}
