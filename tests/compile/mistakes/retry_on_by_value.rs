use qtasks::prelude::*;

fn is_transient(error: std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::TimedOut
}

#[qtask(retry_on = is_transient)]
async fn fetch() -> Result<(), std::io::Error> {
    Ok(())
}

fn main() {}
