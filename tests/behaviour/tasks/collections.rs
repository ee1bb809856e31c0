//! What the values of a task are collected into, and what plain tasks return.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    fmt::Debug,
};

use qtasks::{Count, Last, prelude::*};
use qtasks_tests::{Stage, on_every_store};
use serde::{Deserialize, Serialize};

on_every_store![
    every_collection_is_the_same_from_a_worker_as_from_a_run,
    a_task_without_a_return_type_gives_a_list_that_is_read_as_what_it_is,
    plain_tasks_return_their_value,
    a_result_in_a_tool_is_plain_json,
];

fn pair(value: u32) -> (u32, String) {
    (value % 3, value.to_string())
}

fn place(value: u32) -> (Place, u32) {
    (Place { row: value, column: value + 1 }, value)
}

fn side(value: u32) -> (Side, u32) {
    (if value.is_multiple_of(2) { Side::Left } else { Side::Right }, value)
}

fn parity(value: u32) -> (bool, u32) {
    (value.is_multiple_of(2), value)
}

fn grid(value: u32) -> ((u32, char), Option<u32>) {
    ((value, 'x'), Some(value))
}

fn letter(value: u32) -> char {
    char::from_digit(value % 10, 10).unwrap()
}

fn word(value: u32) -> String {
    format!("w{value} ")
}

fn modulo(value: u32) -> u32 {
    value % 3
}

fn fine(value: u32) -> Result<u32, String> {
    Ok(value)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
struct Place {
    row: u32,
    column: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
enum Side {
    Left,
    Right,
}

macro_rules! collected {
    ($($task:ident: $handler:ident => $output:ty = $expected:expr;)*) => {
        $(#[qtask(generate_handler = $handler)]
        async fn $task(n: u32) -> $output {
            for i in 0..n {
                yield_!(i);
            }
        })*

        async fn every_collection_is_the_same_from_a_worker_as_from_a_run(stage: Stage) {
            $({
                let here = stage.app.run($task(4)).await.unwrap();
                let job = stage.app.enqueue($task(4)).await.unwrap();
                stage.work().await;
                same(job.result().await.unwrap(), $expected, stringify!($task));
                same(here, $expected, stringify!($task));
                let none = stage.app.enqueue($task(0)).await.unwrap();
                stage.work().await;
                empty(none.result().await.unwrap(), stringify!($task));
            })*
        }
    };
}

fn same<T: PartialEq<U> + Debug, U: Debug>(result: T, expected: U, task: &str) {
    assert_eq!(result, expected, "{task}");
}

fn empty<T: Default + PartialEq + Debug>(result: T, task: &str) {
    assert_eq!(result, T::default(), "{task}");
}

fn text(value: u32) -> String {
    value.to_string()
}

collected! {
    into_vec: modulo => Vec<u32> = [0, 1, 2, 0];
    into_deque: modulo => VecDeque<u32> = [0, 1, 2, 0];
    into_btree_set: modulo => BTreeSet<u32> = BTreeSet::from([0, 1, 2]);
    into_hash_set: modulo => HashSet<u32> = HashSet::from([0, 1, 2]);
    into_numbered: pair => BTreeMap<u32, String> = BTreeMap::from([(0, text(3)), (1, text(1)), (2, text(2))]);
    into_hash_map: pair => HashMap<u32, String> = HashMap::from([(0, text(3)), (1, text(1)), (2, text(2))]);
    into_placed: place => BTreeMap<Place, u32> = (0..4).map(place).collect::<BTreeMap<_, _>>();
    into_sides: side => HashMap<Side, u32> = HashMap::from([(Side::Left, 2), (Side::Right, 3)]);
    into_parity: parity => BTreeMap<bool, u32> = BTreeMap::from([(true, 2), (false, 3)]);
    into_grid: grid => HashMap<(u32, char), Option<u32>> = (0..4).map(grid).collect::<HashMap<_, _>>();
    into_letters: letter => String = "0123";
    into_words: word => String = "w0 w1 w2 w3 ";
    into_nothing: modulo => () = ();
    into_count: modulo => Count = Count(4);
    into_count_of_results: fine => Count = Count(4);
    into_last: modulo => Last<u32> = Last(Some(0));
}

macro_rules! tried {
    ($($task:ident: $handler:ident => $output:ty = $expected:expr;)*) => {
        $(#[qtask(generate_handler = $handler)]
        async fn $task(n: u32) -> Result<$output, std::num::ParseIntError> {
            for i in 0..n {
                let value: u32 = i.to_string().parse()?;
                yield_!(value);
            }
            Ok(())
        })*

        #[tokio::test]
        async fn a_result_of_a_collection_gives_the_collection() {
            let stage = Stage::in_memory(|builder| builder).await;
            $({
                let job = stage.app.enqueue($task(4)).await.unwrap();
                stage.work().await;
                same(job.result().await.unwrap(), $expected, stringify!($task));
                same(stage.app.run($task(4)).await.unwrap(), $expected, stringify!($task));
            })*
        }
    };
}

tried! {
    try_into_vec: modulo => Vec<u32> = [0, 1, 2, 0];
    try_into_set: modulo => BTreeSet<u32> = BTreeSet::from([0, 1, 2]);
    try_into_map: pair => BTreeMap<u32, String> = BTreeMap::from([(0, text(3)), (1, text(1)), (2, text(2))]);
    try_into_words: word => String = "w0 w1 w2 w3 ";
    try_into_nothing: fine => () = ();
    try_into_count: fine => Count = Count(4);
    try_into_last: modulo => Last<u32> = Last(Some(0));
}

#[qtask(generate_handler = modulo)]
async fn untyped(n: u32) {
    for i in 0..n {
        yield_!(i);
    }
}

#[qtask]
fn without_a_handler(n: u32) -> Vec<u32> {
    for i in 0..n {
        yield_!(i);
    }
}

async fn a_task_without_a_return_type_gives_a_list_that_is_read_as_what_it_is(stage: Stage) {
    let job = stage.app.enqueue(untyped(4)).await.unwrap();
    let own = stage.app.enqueue(without_a_handler(3)).await.unwrap();
    stage.work().await;
    assert_eq!(job.result_as::<Vec<i64>>().await.unwrap(), [0, 1, 2, 0]);
    assert_eq!(job.result_as::<BTreeSet<u8>>().await.unwrap(), BTreeSet::from([0, 1, 2]));
    assert_eq!(job.result().await.unwrap(), [0, 1, 2, 0].map(serde_json::Value::from));
    assert_eq!(own.result().await.unwrap(), [0, 1, 2]);
    let error = job.result_as::<Vec<String>>().await.unwrap_err().to_string();
    assert!(error.contains("alloc::vec::Vec<alloc::string::String>") && error.contains("invalid type"), "{error}");
}

#[qtask]
async fn adds(a: i64, b: i64) -> i64 {
    a + b
}

#[qtask]
fn joins(words: Vec<String>) -> Option<String> {
    (!words.is_empty()).then(|| words.join(" "))
}

#[qtask]
async fn parses(text: String) -> Result<i64, std::num::ParseIntError> {
    text.parse()
}

#[qtask]
fn parses_too(text: String) -> anyhow::Result<BTreeMap<String, i64>> {
    Ok(BTreeMap::from([(text.clone(), text.parse()?)]))
}

#[qtask]
async fn nothing() {}

#[qtask]
fn nothing_too() -> Result<(), String> {
    Ok(())
}

async fn plain_tasks_return_their_value(stage: Stage) {
    let app = &stage.app;
    let sum = app.enqueue(adds(2, 3)).await.unwrap();
    let joined = app.enqueue(joins(vec!["a".into(), "b".into()])).await.unwrap();
    let none = app.enqueue(joins(vec![])).await.unwrap();
    let parsed = app.enqueue(parses("12".into())).await.unwrap();
    let map = app.enqueue(parses_too("12".into())).await.unwrap();
    let (unit, unit_too) = (app.enqueue(nothing()).await.unwrap(), app.enqueue(nothing_too()).await.unwrap());
    stage.work().await;
    assert_eq!(sum.result().await.unwrap(), 5);
    assert_eq!(joined.result().await.unwrap().as_deref(), Some("a b"));
    assert_eq!(none.result().await.unwrap(), None);
    assert_eq!(parsed.result().await.unwrap(), 12);
    assert_eq!(map.result().await.unwrap(), BTreeMap::from([("12".to_owned(), 12)]));
    unit.result().await.unwrap();
    unit_too.result().await.unwrap();
    assert_eq!(app.run(adds(2, 3)).await.unwrap(), 5);
    assert_eq!(app.run(parses_too("1".into())).await.unwrap().len(), 1);
}

async fn a_result_in_a_tool_is_plain_json(stage: Stage) {
    let app = &stage.app;
    let jobs = [
        (app.enqueue(into_count(4)).await.unwrap().id(), "4"),
        (app.enqueue(into_last(2)).await.unwrap().id(), "1"),
        (app.enqueue(into_last(0)).await.unwrap().id(), "null"),
        (app.enqueue(into_nothing(4)).await.unwrap().id(), "null"),
        (app.enqueue(into_words(2)).await.unwrap().id(), r#""w0 w1 ""#),
        (app.enqueue(into_vec(2)).await.unwrap().id(), "[0,1]"),
        (app.enqueue(into_numbered(2)).await.unwrap().id(), r#"{"0":"0","1":"1"}"#),
        (app.enqueue(into_parity(2)).await.unwrap().id(), r#"{"false":1,"true":0}"#),
    ];
    stage.work().await;
    for (id, expected) in jobs {
        let result = app.any_job(id).await.unwrap().result().await.unwrap();
        assert_eq!(result.to_string(), expected);
    }
}
