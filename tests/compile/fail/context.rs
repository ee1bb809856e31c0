use qtasks::prelude::*;

#[qtask]
fn no_echo(context: TaskContext) {}

#[qtask(echo = false)]
async fn echo_off(n: i64, context: TaskContext) {}

#[qtask(echo = true)]
fn not_first(n: i64, context: TaskContext) {}

#[qtask(echo = true)]
fn two(context: TaskContext, other: TaskContext) {}

fn main() {
    let _ = (no_echo(), echo_off(1), not_first(1), two());
}
