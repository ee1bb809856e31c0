use qtasks::prelude::*;

#[qtask(max_time = "1h30m")]
fn a() {}

#[qtask(max_time = "1.5s")]
fn b() {}

#[qtask(max_time = Duration::from_secs(30))]
fn c() {}

#[qtask(max_time = 0)]
fn d() {}

#[qtask(checkpoint = "5")]
async fn e() {
    yield_!(1);
}

#[qtask(checkpoint = "within 0ms")]
async fn f() {
    yield_!(1);
}

#[qtask(priority = 1.5)]
fn g() {}

#[qtask(queue = MAIL)]
fn h() {}

#[qtask(echo(true))]
fn i() {}

#[qtask(retry = "5")]
fn j() {}

#[qtask(tags = ("a", "b"))]
fn k() {}

fn main() {}
