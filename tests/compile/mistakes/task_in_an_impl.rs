use qtasks::prelude::*;

struct Mailer;

impl Mailer {
    #[qtask]
    async fn send(to: String) -> Vec<String> {
        yield_!(to);
    }
}

fn main() {}
