use qtasks::prelude::*;

struct Report {
    rows: u64,
}

#[qtask]
async fn report() -> anyhow::Result<Report> {
    Ok(Report { rows: 1 })
}

fn main() {}
