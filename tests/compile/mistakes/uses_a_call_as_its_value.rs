use qtasks::prelude::*;

#[qtask]
fn double(n: i64) -> i64 {
    n * 2
}

fn main() {
    let doubled: i64 = double(5);
    println!("{doubled}");
    println!("{}", double(5) + 1);
}
