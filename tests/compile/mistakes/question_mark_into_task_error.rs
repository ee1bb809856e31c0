use std::fmt;

use qtasks::prelude::*;

#[derive(Debug)]
struct NoRow;

impl fmt::Display for NoRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no row")
    }
}

impl std::error::Error for NoRow {}

fn row(id: i64) -> Result<i64, NoRow> {
    if id == 0 { Err(NoRow) } else { Ok(id) }
}

#[qtask]
async fn load(id: i64) -> Result<i64, TaskError> {
    Ok(row(id)?)
}

#[qtask]
async fn load_all(ids: Vec<i64>) -> Result<Vec<i64>, TaskError> {
    for id in ids {
        yield_!(row(id)?);
    }
    Ok(())
}

fn main() {}
