use qtasks::prelude::*;

#[qtask]
async fn lines(path: String) -> Result<Vec<String>, TaskError> {
    for line in std::fs::read_to_string(path)?.lines() {
        yield_!(line.to_owned());
    }
    Ok(())
}

fn main() {}
