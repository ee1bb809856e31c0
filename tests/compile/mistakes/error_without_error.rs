use qtasks::prelude::*;

#[derive(Debug)]
enum ImportError {
    Empty,
}

#[qtask]
async fn import(rows: u64) -> Result<u64, ImportError> {
    if rows == 0 { Err(ImportError::Empty) } else { Ok(rows) }
}

#[qtask]
async fn imports(rows: u64) -> Result<Vec<u64>, ImportError> {
    yield_!(rows);
    Ok(())
}

fn main() {}
