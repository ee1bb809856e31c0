use qtasks::prelude::*;

struct Report {
    rows: u64,
}

#[qtask]
async fn report() -> Report {
    Report { rows: 1 }
}

fn main() {}
