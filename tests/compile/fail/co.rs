use qtasks::prelude::*;

#[qtask]
fn blocking(co: Co<i64, i64>) -> Vec<i64> {}

#[qtask]
async fn two(co: Co<i64, i64>, other: Co<i64, i64>) -> Vec<i64> {}

#[qtask]
async fn bare(co: Co) -> Vec<i64> {}

#[qtask]
async fn half(co: Co<i64>) -> Vec<i64> {}

#[qtask]
async fn borrowed(co: &Co<i64, i64>) -> Vec<i64> {}

fn main() {
    let _ = (blocking(), two(), bare(), half());
}
