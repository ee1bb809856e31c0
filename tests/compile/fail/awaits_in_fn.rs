use qtasks::prelude::*;

async fn work() -> i64 {
    1
}

#[qtask]
fn plain() -> i64 {
    work().await + 1
}

#[qtask]
fn yields() -> Vec<i64> {
    yield_!(work().await);
    let reply = yield_!(work().await);
    println!("{} {reply}", work().await);
    tokio::select! {
        value = work() => { work().await; }
    }
}

#[qtask]
fn only_its_own() -> i64 {
    let later = async { work().await };
    let closure = async || work().await;
    async fn helper() -> i64 {
        work().await
    }
    drop((later, closure, helper()));
    work().await
}

fn main() {
    let _ = (plain(), yields(), only_its_own());
}
