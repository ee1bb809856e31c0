use qtasks::prelude::*;

#[qtask]
async fn closure() -> Vec<i64> {
    (0..3).for_each(|n| {
        yield_!(n);
    });
    let closure = |n| yield_!(n);
    let closure = async |n: i64| yield_!(n);
}

#[qtask]
async fn block() -> Vec<i64> {
    async { yield_!(1) }.await;
    let later = async move {
        yield_!(2);
    };
}

#[qtask]
fn item() -> Vec<i64> {
    fn helper() {
        yield_!(1);
    }
    struct Local;
    impl Local {
        async fn method(&self) {
            yield_!(2);
        }
    }
    mod module {
        pub fn inner() {
            yield_!(3);
        }
    }
    const { yield_!(4) };
}

#[qtask]
async fn within_macros() -> Vec<i64> {
    let all = vec![|| yield_!(1)];
    println!("{}", (|| yield_!(2))());
    println!("{}", async { yield_!(3) }.await);
    futures::join!(async { yield_!(4) }, async move { yield_!(5) });
    tokio::select! {
        _ = async { yield_!(6) } => {}
        _ = async move {
            yield_!(7);
        }, if true => {
            [1].iter().for_each(|n| { yield_!(*n); });
        }
        else => {
            fn helper() { yield_!(8); }
        }
    }
    macros_of_others! { @ fn helper(n: i64) -> i64 { yield_!(9) } @ async { yield_!(10) } }
    vec![vec![vec![|| vec![yield_!(11)]]]];
}

#[macro_export]
macro_rules! macros_of_others {
    ($($token:tt)*) => {};
}

fn main() {
    let _ = (closure(), block(), item(), within_macros());
}
