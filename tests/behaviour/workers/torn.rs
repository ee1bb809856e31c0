//! A store whose record of a job is torn: a page of it has a gap, comes twice, ends early, or cannot be read.

use std::{
    any::Any,
    result,
    sync::{Arc, Mutex},
};

use qtasks::{
    Error, Result,
    job::{Ending, Memo, Step},
    prelude::*,
    store::Memory,
};
use qtasks_tests::{
    Diary, Stage,
    edge::{Behind, CarryOut, Edge},
    in_time,
    ledger::Ledger,
};

/// What is wrong with the pages of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tear {
    Gap,
    Repeat,
    Back,
    EarlyEnd,
    Unreadable,
}

impl Tear {
    fn apply<T: Clone>(self, page: &mut Vec<T>) {
        match self {
            Self::Gap => _ = page.remove(1),
            Self::Repeat => page.insert(1, page[0].clone()),
            Self::Back => page.swap(0, 1),
            Self::EarlyEnd => page.truncate(if page.len() > 2 { 2 } else { 0 }),
            Self::Unreadable => {}
        }
    }
}

/// Tears the pages that a call of this name gives.
#[derive(Debug)]
struct Tearing {
    call: &'static str,
    tear: Mutex<Option<Tear>>,
}

impl Edge for Tearing {
    async fn pass<T: Send + 'static>(&self, call: &'static str, carry_out: CarryOut<T>) -> Result<T> {
        let mut answer = carry_out().await?;
        let Some(tear) = self.tear.lock().unwrap().filter(|_| call == self.call) else { return Ok(answer) };
        if tear == Tear::Unreadable {
            return Err(Error::Misuse("this page is no page"));
        }
        let page = &mut answer as &mut dyn Any;
        if let Some(steps) = page.downcast_mut::<Vec<Step>>().filter(|steps| !steps.is_empty()) {
            tear.apply(steps);
        } else if let Some(memos) = page.downcast_mut::<Vec<Memo>>().filter(|memos| !memos.is_empty()) {
            tear.apply(memos);
        }
        Ok(answer)
    }
}

fn counts(_: i64, diary: State<Diary>) -> usize {
    diary.note("handle");
    diary.count("handle")
}

/// Yields the same value again and again, so that only the numbers of the steps tell them apart.
#[qtask(generate_handler = counts, backoff = "1ms..1ms", retry = 1)]
async fn repeats_itself(diary: State<Diary>) -> result::Result<Vec<usize>, String> {
    for _ in 0..3 {
        let reply: usize = yield_!(7);
        diary.note(format!("reply {reply}"));
    }
    let attempt = TaskContext::current().attempt();
    if attempt == 1 { Err("first".to_owned()) } else { Ok(()) }
}

#[qtask(echo = true, backoff = "1ms..1ms", retry = 1)]
async fn asks_once(ctx: TaskContext, diary: State<Diary>) -> result::Result<Vec<usize>, String> {
    let mut answers = Vec::new();
    for _ in 0..3 {
        let asks = async || {
            diary.note("ask");
            diary.count("ask")
        };
        answers.push(ctx.once("answer", asks).await);
    }
    if ctx.attempt() == 1 { Err("first".to_owned()) } else { Ok(answers) }
}

/// The error of the attempt that reads back what an earlier one recorded, torn like this, and what both of them noted.
async fn second_attempt(call: impl qtasks::CallOptions, reads: &'static str, tear: Tear) -> (String, Vec<String>) {
    let edge = Tearing { call: reads, tear: Mutex::new(Some(tear)) };
    let store = Arc::new(Behind::new(edge, Arc::new(Memory::new()), &Ledger::default()));
    let stage = Stage::on(store).await;
    let job = stage.app.enqueue(call).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    assert!(matches!(in_time(job.result_as::<serde_json::Value>()).await, Err(Error::Dead { .. })), "{tear:?}");
    worker.shutdown().await.unwrap();
    let attempts = job.status().await.unwrap().attempts;
    match &attempts[..] {
        [_, second] => match &second.ending {
            Ending::Failed { error } => (error.clone(), stage.diary.lines()),
            other => panic!("{tear:?}: {other:?}"),
        },
        other => panic!("{tear:?}: {other:?}"),
    }
}

#[tokio::test]
async fn steps_that_are_read_back_with_a_gap_or_a_repeat_fail_the_attempt() {
    for (tear, text) in [
        (Tear::Gap, "step 2 came where step 1 was expected"),
        (Tear::Repeat, "step 0 came where step 1 was expected"),
        (Tear::Back, "step 1 came where step 0 was expected"),
        (Tear::EarlyEnd, "it ends before step 2, and the job has 3"),
    ] {
        let (error, lines) = second_attempt(repeats_itself(), "steps", tear).await;
        assert!(error.contains(text) && error.contains("enqueue the job anew"), "{tear:?}: {error}");
        assert_eq!(lines.iter().filter(|line| *line == "handle").count(), 3, "{tear:?}: {lines:?}");
        let replies: Vec<_> = lines.iter().filter(|line| line.starts_with("reply")).skip(3).collect();
        assert!(
            ["reply 1", "reply 2"].starts_with(&replies.iter().map(|line| &***line).collect::<Vec<_>>()),
            "{lines:?}"
        );
    }
}

#[tokio::test]
async fn memos_that_are_read_back_twice_or_out_of_order_fail_the_attempt() {
    for (tear, text) in
        [(Tear::Repeat, "memo 0 came where memo 1 was expected"), (Tear::Back, "memo 0 came where memo 2 was expected")]
    {
        let (error, lines) = second_attempt(asks_once(), "memos", tear).await;
        assert!(error.contains(text) && error.contains("enqueue the job anew"), "{tear:?}: {error}");
        assert_eq!(lines, ["ask"; 3], "{tear:?}");
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_back_fails_the_attempt_with_the_error_of_the_store() {
    let (error, _) = second_attempt(repeats_itself(), "steps", Tear::Unreadable).await;
    assert_eq!(error, "this page is no page");
    let (error, _) = second_attempt(asks_once(), "memos", Tear::Unreadable).await;
    assert_eq!(error, "this page is no page");
}
