use qtasks::prelude::*;

#[qtask]
async fn greet(name: String) -> String {
    format!("Hello, {name}!")
}

fn main() {
    let _ = greet("Ada");
}
