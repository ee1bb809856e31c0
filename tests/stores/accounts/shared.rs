//! What the documentation says that accounts need, and jobs of all kinds to try it with.

use std::{fs, path::Path, time::Duration};

use qtasks::prelude::*;
use qtasks_tests::in_time;

/// The lines of the blocks of code in the documentation that begin with `first`, without what makes them comments.
pub(crate) fn documented(file: &str, first: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../qtasks/src/store").join(file);
    let source = fs::read_to_string(path).unwrap();
    let docs = source.lines().map(|line| line.trim_start().trim_start_matches(['/', '!']).trim());
    let block = docs.skip_while(|line| !line.starts_with(first)).take_while(|line| !line.starts_with("```"));
    let block: Vec<_> = block.map(str::to_owned).collect();
    assert!(!block.is_empty(), "{file} says what an account needs: {first}");
    block
}

#[qtask]
async fn doubled(number: u64) -> u64 {
    number * 2
}

/// Yields, remembers, and has another job done.
#[qtask(echo = true)]
async fn all_kinds(ctx: TaskContext, count: u64) -> Vec<u64> {
    for number in 0..count {
        let number = ctx.once("number", || async move { number }).await;
        yield_!(number);
    }
    ctx.enqueue(doubled(4)).await.unwrap();
}

/// Has jobs of all kinds done, to the end.
pub(crate) async fn jobs_are_done(app: &QueueTasks) {
    let done = async {
        let worker = app.worker().start().await.unwrap();
        let later = app.enqueue(doubled(2).delay(Duration::from_millis(20))).await.unwrap();
        let job = app.enqueue(all_kinds(3)).await.unwrap();
        let values: Vec<_> = job.stream().map(Result::unwrap).collect().await;
        assert_eq!((values, later.result().await.unwrap()), (vec![0, 1, 2], 4));
        let called_off = app.enqueue(doubled(1).delay(Duration::from_secs(3600))).await.unwrap();
        called_off.cancel().await.unwrap();
        worker.shutdown().await.unwrap();
    };
    in_time(done).await;
}
