use qtasks::prelude::*;

struct Bare;

#[derive(serde::Serialize)]
struct Half;

#[qtask]
async fn argument(bare: Bare) {}

#[qtask]
async fn half(half: Half) -> i64 {
    1
}

#[qtask]
async fn value() -> Bare {
    Bare
}

#[qtask]
fn ok_value() -> Result<Bare, TaskError> {
    Ok(Bare)
}

#[qtask]
async fn yielded() -> Vec<i64> {
    yield_!(Bare);
}

#[qtask]
async fn no_error() -> Result<i64, Bare> {
    Ok(1)
}

#[qtask]
async fn no_error_either() -> Result<Vec<i64>, Bare> {
    yield_!(1);
    Ok(())
}

type Res<T> = Result<T, String>;
type Res2<T> = Result<T, TaskError>;

// By its name, this is no `Result`.
#[qtask]
fn alias() -> Res<i64> {
    Ok(1)
}

#[qtask]
async fn alias_of_another_error() -> Res2<i64> {
    Ok(1)
}

#[qtask]
async fn state(state: State<std::cell::RefCell<i64>>) {}

fn main() {}
