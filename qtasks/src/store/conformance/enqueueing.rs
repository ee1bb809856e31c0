//! A job that is enqueued is kept whole, and once.

use std::{sync::Arc, time::Duration};

use super::harness::*;
use crate::{
    model::job::{Counts, Job, JobCall, NewJob, Standing, WorkerId},
    store::{Ask, Store},
};

/// A job that was enqueued can be read, whole, as soon as the call returns.
pub async fn an_enqueued_job_is_kept_as_it_was_given(store: Arc<dyn Store>) {
    let store = Subject(store);
    let plain = call();
    let special = NewJob {
        call: JobCall {
            task: "emails.send:v-2_".into(),
            queue: "mail".into(),
            priority: -7,
            args: json(r#"{"to":["a","b"],"n":1.50}"#),
            max_time: Some(Duration::from_millis(1_500)),
            enqueued: at(-5),
            expires: Some(Duration::from_millis(90_500)),
            trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            ..call().call
        },
        due: at(60_000),
        unique: None,
    };
    store.enqueue([plain.clone(), special.clone()]).await;
    for new in [plain, special] {
        let job = store.job(new.call.id).await;
        let expected =
            Job { call: new.call, standing: Standing::waiting(new.due), counts: Counts::default(), ended: None };
        assert_eq!(job, expected);
    }
}

/// A job whose id is there already stays as it is, wherever it stands by then, and those beside it are added.
pub async fn enqueueing_again_changes_nothing(store: Arc<dyn Store>) {
    let store = Subject(store);
    let first = call();
    let other =
        NewJob { call: JobCall { args: json("[2]"), priority: 9, ..first.call.clone() }, due: at(9), unique: None };
    store.enqueue([first.clone(), other.clone()]).await;
    let waiting = store.job(first.call.id).await;
    assert_eq!(
        (&waiting.call.args, waiting.call.priority),
        (&first.call.args, 0),
        "of two jobs with one id the first counts"
    );

    let neighbour = call();
    store.enqueue([other.clone(), neighbour.clone()]).await;
    assert_eq!(store.job(first.call.id).await, waiting);
    assert_eq!(store.job(neighbour.call.id).await.standing.attempt, 0, "a job beside one that is known is added");

    let leased = store.lease(Ask { limit: 1, ..ask(WorkerId::new()) }).await;
    store.enqueue([other.clone()]).await;
    assert_eq!(store.job(first.call.id).await, leased[0], "a job that runs goes on running");

    store.settle(settlement(lease_of(&leased[0]), done())).await;
    store.enqueue([other]).await;
    assert_eq!(store.job(first.call.id).await.standing.state, done().into(), "a job that ended stays ended");
}

/// All jobs of a call are added at once: no caller sees a part of them.
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
        assert_eq!(store.all_jobs().await.len() % BATCH, 0, "a part of a batch was seen");
        tokio::task::yield_now().await;
    }
    writer.await.expect("the writer has ended well");
    assert_eq!(store.all_jobs().await.len(), 20 * BATCH);
}
