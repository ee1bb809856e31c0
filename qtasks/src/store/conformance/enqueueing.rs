//! What is enqueued is kept, whole, and once.

use std::{sync::Arc, time::Duration};

use super::harness::*;
use crate::{
    model::job::{Job, NewJob, State, WorkerId},
    store::{Ask, Filter, Store},
};

/// A job that was enqueued can be read, whole, as soon as the call returns.
pub async fn an_enqueued_job_is_kept_as_it_was_given(store: Arc<dyn Store>) {
    let store = Subject(store);
    let plain = call();
    let special = NewJob {
        task: "emails.send:v-2_".into(),
        queue: "mail".into(),
        priority: -7,
        args: json(r#"{"to":["a","b"],"n":1.50}"#),
        due: at(60_000),
        max_time: Some(Duration::from_millis(1_500)),
        enqueued: at(-5),
        ..call()
    };
    store.enqueue([plain.clone(), special.clone()]).await;
    for new in [plain, special] {
        let job = store.job(new.id).await;
        let expected = Job {
            id: new.id,
            task: new.task,
            queue: new.queue,
            priority: new.priority,
            args: new.args,
            max_time: new.max_time,
            enqueued: new.enqueued,
            state: State::Waiting { due: new.due },
            attempt: 0,
            failures: 0,
            suspect: None,
            steps: 0,
            skipped: 0,
            memos: 0,
            progress: None,
        };
        assert_eq!(job, expected);
    }
}

/// A job whose id is there already is left as it is, wherever it stands by then, and those beside it are added.
pub async fn enqueueing_again_changes_nothing(store: Arc<dyn Store>) {
    let store = Subject(store);
    let first = call();
    let other = NewJob { args: json("[2]"), priority: 9, due: at(9), ..first.clone() };
    store.enqueue([first.clone(), other.clone()]).await;
    let waiting = store.job(first.id).await;
    assert_eq!((&waiting.args, waiting.priority), (&first.args, 0), "of two jobs with one id the first counts");

    let neighbour = call();
    store.enqueue([other.clone(), neighbour.clone()]).await;
    assert_eq!(store.job(first.id).await, waiting);
    assert_eq!(store.job(neighbour.id).await.attempt, 0, "a job beside one that is known is added");

    let leased = store.lease(Ask { limit: 1, ..ask(WorkerId::new()) }).await;
    store.enqueue([other.clone()]).await;
    assert_eq!(store.job(first.id).await, leased[0], "a job that runs goes on running");

    store.settle(settlement(lease_of(&leased[0]), done())).await;
    store.enqueue([other]).await;
    assert_eq!(store.job(first.id).await.state, done(), "a job that ended stays ended");
}

/// All jobs of a call are added at once: nobody sees a part of them.
pub async fn a_batch_is_seen_whole_or_not_at_all(store: Arc<dyn Store>) {
    const BATCH: usize = 50;
    let store = Subject(store);
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for _ in 0..20 {
                store.enqueue(calls(BATCH)).await;
            }
        }
    });
    while !writer.is_finished() {
        assert_eq!(store.jobs(Filter::default()).await.len() % BATCH, 0, "a part of a batch was seen");
        tokio::task::yield_now().await;
    }
    writer.await.expect("the writer has ended well");
    assert_eq!(store.jobs(Filter::default()).await.len(), 20 * BATCH);
}
