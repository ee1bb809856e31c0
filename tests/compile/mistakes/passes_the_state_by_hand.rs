use qtasks::prelude::*;

struct Greeting(&'static str);

#[qtask]
async fn greet(name: String, greeting: State<Greeting>) -> String {
    format!("{}, {name}!", greeting.0)
}

fn main() {
    let _ = greet("Ada".to_owned(), Greeting("Hello"));
}
