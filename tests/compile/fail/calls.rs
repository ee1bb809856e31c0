#![deny(unused_must_use)]

use qtasks::prelude::*;

#[qtask]
fn report(day: String, n: i64) {}

fn main() {
    report("day".to_owned(), 1);
    let _ = report("day", 1);
    let _ = report("day".to_owned());
    let _ = report { day: "day".to_owned() };
}
