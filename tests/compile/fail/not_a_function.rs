use qtasks::prelude::*;

#[qtask]
struct Task;

#[qtask]
mod tasks {}

trait Works {
    #[qtask]
    fn work();
}

impl Works for Task {
    #[qtask]
    fn work() {}
}

impl Task {
    #[qtask]
    fn method(&self) {}

    #[qtask]
    async fn other_method(self: Box<Self>, n: i64) {}
}

fn main() {}
