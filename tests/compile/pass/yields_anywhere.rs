#![deny(warnings)]

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    rc::Rc,
    time::Duration,
};

use qtasks::{Count, Last, prelude::*};

async fn text(n: i64) -> String {
    n.to_string()
}

fn id(n: i64) -> i64 {
    n
}

#[qtask(generate_handler = id)]
async fn blocks(items: Vec<i64>) -> Vec<i64> {
    yield_!(0);
    let reply: i64 = yield_!(1);
    let sum = yield_!(2) + -yield_!(3) * reply;
    {
        yield_!(sum);
    }
    'outer: for item in &items {
        loop {
            if let 5 = yield_!(*item) {
                yield_!(6,);
                break 'outer;
            } else if yield_!(7) == 8 {
                continue 'outer;
            }
            while yield_!(9) < 0 {}
            match yield_!(10) {
                11 => yield_!(12),
                12 if yield_!(13) == 14 => {
                    yield_![15];
                    16
                }
                _ => yield_!(yield_!(17)),
            };
            if reply > 0 {
                break;
            }
        }
    }
    let Some(_first) = items.first() else {
        yield_!(18);
        return;
    };
    yield_!(19);
    if items.is_empty() {
        return;
    }
    #[cfg(any())]
    yield_!(missing);
    #[cfg(not(any()))]
    yield_!(20);
    yield_!(21);
}

#[qtask(generate_handler = text)]
async fn macros() -> Vec<String> {
    println!("{}", yield_!(1));
    println!("{} {name} {0:?}", yield_!(1), name = yield_!(2));
    let all: Vec<String> = vec![yield_!(1), yield_!(2), format!("{}", yield_!(3))];
    let same = vec![yield_!(4); 3];
    assert_eq!(all.len(), same.len(), "{}", yield_!(5));
    assert!(matches!(yield_!(6).as_str(), "6" | "7" if true));
    let json = serde_json::json!({ "a": yield_!(7), "b": [yield_!(8)] });
    println!("{json}");
}

#[qtask(generate_handler = id)]
async fn selects() -> Vec<i64> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<i64>(1);
    drop(sender);
    let mut done = false;
    loop {
        tokio::select! {
            Some(value) = receiver.recv(), if !done => {
                yield_!(value);
                println!("{}", yield_!(value));
                done = true;
            }
            _ = async { id(1) } => {
                for i in 0..3 {
                    yield_!(i);
                }
                break;
            },
            () = tokio::time::sleep(Duration::from_secs(1)) => drop(yield_!(1)),
            else => { yield_!(2); },
        }
    }
}

#[qtask(generate_handler = id, on_error = "skip")]
async fn selects_and_skips() {
    tokio::select! {
        _ = async { id(1) } => { yield_!(1); }
        _ = async { id(1) } => {
            if true { yield_!(2); }
        }
    }
    yield_twice!(1);
}

// A macro of the user's, outside of the task and inside.
macro_rules! yield_twice {
    ($value:expr) => {
        yield_!($value);
        yield_!($value);
    };
}
use yield_twice;

#[qtask(generate_handler = id)]
fn own_macros() -> Vec<i64> {
    macro_rules! thrice {
        ($value:expr) => {{
            yield_!($value);
            yield_!($value);
            yield_!($value)
        }};
    }
    yield_twice!(1);
    assert_eq!(thrice!(yield_!(2)), 2);
}

#[qtask]
async fn question_mark(text: String) -> Result<Vec<i64>, std::num::ParseIntError> {
    for word in text.split(' ') {
        yield_!(word.parse::<i64>()?);
        let reply: i64 = yield_!(word.parse()?);
        yield_!(reply);
    }
    Ok(())
}

#[qtask]
fn not_send() -> anyhow::Result<Vec<i64>> {
    let cell = Rc::new(RefCell::new(1));
    let borrowed = cell.borrow_mut();
    yield_!(*borrowed);
    drop(borrowed);
    let reply: i64 = yield_!(2);
    *cell.borrow_mut() = reply;
    yield_!(cell.take());
    Ok(())
}

#[qtask]
async fn for_ever() -> Vec<u64> {
    let mut n = 0;
    loop {
        yield_!(n);
        n += 1;
    }
}

#[qtask]
async fn ends_early(n: u64) -> Result<Vec<u64>, TaskError> {
    yield_!(n);
    if n > 1 {
        return Ok(());
    }
    Err(TaskError::discard("too few"))
}

// Recursion, with a `Co` beside `yield_!`.
#[qtask(generate_handler = text)]
async fn recursion(n: i64, mut co: Co<i64, String>) -> Vec<String> {
    descend(n, &co).await;
    yield_!(-1);
    let other = co.clone();
    co = other;
    let reply: String = co.yield_(-2).await;
    co.emit(reply.len() as i64).await;
}

async fn descend(n: i64, co: &Co<i64, String>) {
    co.emit(n).await;
    if n > 0 {
        Box::pin(descend(n - 1, co)).await;
    }
}

#[qtask]
async fn co_only(co: Co<i64, i64>) -> Vec<i64> {
    descend_i64(&co).await;
}

async fn descend_i64(co: &Co<i64, i64>) {
    co.emit(1).await;
}

// Closures, async blocks, functions and tasks of one's own within a task.
#[qtask]
async fn nested() -> Vec<i64> {
    #[qtask]
    async fn inner(n: i64) -> Vec<i64> {
        yield_!(n);
    }
    #[qtask]
    fn plain_inner() -> i64 {
        1
    }
    fn helper(n: i64) -> i64 {
        n + 1
    }
    let awaited = async { helper(1) }.await;
    for n in (0..3).map(|n| n + awaited) {
        yield_!(n);
    }
    let _ = (inner(1), plain_inner());
}

#[qtask]
fn blocks_on() -> i64 {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async { tokio::task::yield_now().await });
    let awaits = async || tokio::task::yield_now().await;
    runtime.block_on(awaits());
    1
}

#[qtask]
async fn path() -> Vec<i64> {
    qtasks::yield_!(1);
    let reply: i64 = qtasks::yield_!(2);
    yield_!(reply);
}

async fn nothing_to_reply(_: i64) {}

#[qtask(generate_handler = nothing_to_reply)]
async fn braces() -> () {
    yield_! { 1 }
    if true {
        yield_! { 2 }
    }
    yield_! { 3 }
}

#[qtask]
async fn deque() -> VecDeque<i64> {
    yield_!(1);
}

#[qtask]
async fn ordered_set() -> BTreeSet<i64> {
    yield_!(1);
}

#[qtask]
async fn set() -> HashSet<i64> {
    yield_!(1);
}

#[qtask]
async fn ordered_map() -> BTreeMap<String, i64> {
    yield_!(("a".to_owned(), 1));
}

#[qtask]
async fn map() -> HashMap<String, i64> {
    yield_!(("a".to_owned(), 1));
}

#[qtask(generate_handler = text)]
async fn joined() -> String {
    yield_!(1);
}

#[qtask]
fn chars() -> String {
    yield_!('a');
}

#[qtask(generate_handler = text)]
async fn unit() -> () {
    yield_!(1);
}

#[qtask]
async fn count() -> Count {
    yield_!(1);
}

#[qtask]
async fn last() -> Last<i64> {
    yield_!(1);
}

#[qtask]
async fn nothing() {
    yield_!("text".to_owned());
}

#[test]
fn they_are_made() {
    let _ = (blocks(vec![]), macros(), selects(), selects_and_skips(), own_macros(), question_mark(String::new()));
    let _ = (not_send(), for_ever(), ends_early(1), recursion(1), co_only(), nested(), blocks_on(), path());
    let _ = (
        braces(),
        deque(),
        ordered_set(),
        set(),
        ordered_map(),
        map(),
        joined(),
        chars(),
        unit(),
        count(),
        last(),
        nothing(),
    );
}
