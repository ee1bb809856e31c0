//! `yield_!` need not be imported: a task brings it along, without a warning.

#![deny(warnings)]

use qtasks::qtask;

#[qtask]
async fn statements(n: i64) -> Vec<i64> {
    for i in 0..n {
        yield_!(i);
    }
}

#[qtask]
fn replies() -> Vec<i64> {
    let reply: i64 = yield_!(2);
    println!("{}", yield_!(reply + 1));
}

mod imported {
    use qtasks::{qtask, yield_};

    #[qtask]
    pub async fn imported_values() -> Vec<i64> {
        yield_!(1);
    }
}

mod by_the_prelude {
    use qtasks::prelude::*;

    #[qtask]
    pub async fn prelude_values() -> Vec<i64> {
        yield_!(1);
    }
}

mod by_path {
    #[qtasks::qtask]
    pub async fn path_values() -> Vec<i64> {
        qtasks::yield_!(1);
    }
}

#[test]
fn they_are_made() {
    #[qtask]
    fn unimported_inner() -> Vec<i64> {
        yield_!(1);
    }
    let _ = (statements(1), replies(), unimported_inner());
    let _ = (imported::imported_values(), by_the_prelude::prelude_values(), by_path::path_values());
}
