use qtasks::prelude::*;

async fn greet(name: &str) -> String {
    format!("Hello, {name}!")
}

#[qtask(generate_handler = greet)]
async fn greetings(names: Vec<String>) -> Vec<String> {
    for name in names {
        yield_!(name);
    }
}

fn main() {}
