//! Callers wait for a store that is away for a while, and are told no more than is known.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use jiff::Timestamp;
use qtasks::{
    Error, Result,
    prelude::*,
    store::{Budget, Find},
};
use qtasks_tests::eventually;

use super::{
    shaky::{
        Fault::{AnswerLost, Late, Refused},
        shaky,
    },
    trouble::adds_up,
};

#[tokio::test]
async fn a_call_that_fails_says_so() {
    let (stage, shaky) = shaky().await;
    shaky.edge.hurries.store(true, Relaxed);
    let id = JobId::new();
    shaky.edge.fail("enqueue", [Refused]);
    let error = stage.app.enqueue(adds_up(1).id(id)).await.unwrap_err();
    assert!(error.is_store_trouble());
    assert_eq!(
        error.to_string(),
        format!(
            "job {id} may have been enqueued; `any_job({id})` finds it then, and the same call with `.id({id})` makes no \
             second one: the store could not hear us: the cable is out"
        )
    );
    assert_eq!(error.jobs_in_doubt(), [id]);
    assert_eq!(stage.app.find(Find::default().oldest_first()).budget(Budget::jobs(9)).await.unwrap().jobs, []);
    shaky.edge.fail("enqueue", [AnswerLost]);
    let error = stage.app.enqueue_all([adds_up(1), adds_up(2)]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "2 jobs may have been enqueued; `jobs_in_doubt()` of this error gives their ids, and the same calls with `.id(..)` \
         make no second ones: the store could not hear us: the cable is out"
    );
    for id in error.jobs_in_doubt() {
        stage.app.job::<adds_up>(*id).await.unwrap();
    }
    shaky.edge.fail("standing", [Refused]);
    let job = stage.app.enqueue(adds_up(1)).await.unwrap();
    assert!(job.result().await.unwrap_err().is_store_trouble());
    shaky.edge.fail("attempts", [Refused]);
    assert!(job.status().await.unwrap_err().is_store_trouble());
    shaky.edge.fail("settle", [Refused]);
    assert!(job.cancel().await.unwrap_err().is_store_trouble());
    shaky.edge.fail("steps", [Refused]);
    stage.work().await;
    assert!(job.result().await.unwrap_err().is_store_trouble(), "not an empty result");
    shaky.edge.fail("steps", [Refused]);
    let items: Vec<_> = job.stream().collect().await;
    assert!(items.len() == 1 && items[0].as_ref().is_err_and(Error::is_store_trouble), "not an early end");
}

#[tokio::test(start_paused = true)]
async fn every_call_waits_for_a_store_that_is_away() {
    let (stage, shaky) = shaky().await;
    let app = &stage.app;
    for faults in [[Refused; 3], [AnswerLost; 3], [AnswerLost, Refused, AnswerLost]] {
        let fail = |calls: &[&'static str]| calls.iter().for_each(|call| shaky.edge.fail(call, faults));
        fail(&["enqueue", "job", "standing", "find", "attempts", "steps", "settle"]);
        let job = app.enqueue(adds_up(2)).await.unwrap();
        app.job::<adds_up>(job.id()).await.unwrap();
        assert_eq!(
            app.find(Find::default().oldest_first()).budget(Budget::jobs(9)).await.unwrap().jobs.len(),
            1,
            "{faults:?}"
        );
        assert_eq!(job.status().await.unwrap().attempt, 0);
        job.cancel().await.unwrap();
        fail(&["standing", "settle"]);
        job.retry().await.unwrap();
        stage.work().await;
        fail(&["standing", "steps"]);
        assert_eq!(job.result().await.unwrap(), [0, 10]);
        fail(&["standing", "steps"]);
        assert_eq!(job.stream().map(Result::unwrap).collect::<Vec<_>>().await, [0, 10]);
        fail(&["enqueue"]);
        app.enqueue_json("adds_up", &adds_up { n: 1 }).await.unwrap();
        let [one, other] = [adds_up(1), adds_up(1)];
        fail(&["enqueue"]);
        app.enqueue_all([one, other]).await.unwrap();
        assert_eq!(
            app.find(Find::default().oldest_first()).budget(Budget::jobs(9)).await.unwrap().jobs.len(),
            4,
            "{faults:?}"
        );
        assert!(shaky.edge.is_well(), "{faults:?}");
        stage.work().await;
        let later = Timestamp::now() + Duration::from_secs(3600);
        assert_eq!(stage.store.prune(later, later, 9).await.unwrap(), 4);
    }
}

/// What comes of waiting, and how long that took.
async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let begun = tokio::time::Instant::now();
    (future.await, begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_no_longer_than_its_store_is_patient() {
    let (stage, shaky) = shaky().await;
    // The second one answers only when it is let through, which nobody does.
    for faults in [vec![Refused; 1000], vec![Late, Refused]] {
        let id = JobId::new();
        shaky.edge.fail("enqueue", faults);
        let (enqueued, took) = timed(stage.app.enqueue(adds_up(1).id(id))).await;
        let error = enqueued.unwrap_err();
        assert_eq!((error.jobs_in_doubt(), took.as_secs()), (&[id][..], 5));
        assert!(error.to_string().ends_with(": the store could not hear us: the cable is out"), "{error}");
        shaky.edge.faults.lock().unwrap().clear();
        let job = stage.app.enqueue(adds_up(1).id(id)).await.unwrap();
        assert_eq!(job.id(), id);
        stage.app.enqueue(adds_up(1).id(id)).await.unwrap();
    }
    assert_eq!(stage.app.find(Find::default().oldest_first()).budget(Budget::jobs(9)).await.unwrap().jobs.len(), 2);
    shaky.edge.fail("standing", vec![Refused; 1000]);
    let job = stage.app.enqueue(adds_up(1)).await.unwrap();
    let (cancelled, took) = timed(job.cancel()).await;
    assert!(cancelled.unwrap_err().is_store_trouble() && took.as_secs() == 5);
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_on_as_soon_as_the_store_rings() {
    let (stage, shaky) = shaky().await;
    shaky.edge.fail("enqueue", [Refused; 6]);
    let rings = async {
        while shaky.edge.left("enqueue") > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            shaky.store.notifier().notify_work();
        }
    };
    let enqueued = async { timed(stage.app.enqueue(adds_up(1))).await };
    let ((enqueued, took), ()) = tokio::join!(enqueued, rings);
    enqueued.unwrap();
    // Of pauses that come to 1.26 s, a fourth; and each is longer or shorter by a fourth at most.
    assert!(took < Duration::from_millis(450), "{took:?}");
}

#[test]
fn a_call_waits_without_a_runtime_too() {
    futures::executor::block_on(async {
        let (stage, shaky) = shaky().await;
        shaky.edge.fail("enqueue", [Refused; 2]);
        shaky.edge.fail("standing", [AnswerLost; 2]);
        let job = stage.app.enqueue(adds_up(1)).await.unwrap();
        job.cancel().await.unwrap();
        assert!(shaky.edge.is_well());
    });
}

#[tokio::test(start_paused = true)]
async fn a_change_that_was_made_and_not_answered_is_not_taken_for_that_of_another() {
    let (stage, shaky) = shaky().await;
    let job = stage.app.enqueue(adds_up(1)).await.unwrap();
    shaky.edge.fail("settle", [AnswerLost]);
    job.cancel().await.unwrap();
    let error = job.cancel().await.unwrap_err();
    assert!(matches!(error, Error::WrongState { state: "cancelled", .. }), "{error}");
    shaky.edge.fail("settle", [AnswerLost]);
    job.retry().await.unwrap();
    let error = job.retry().await.unwrap_err();
    assert!(matches!(error, Error::WrongState { state: "waiting", .. }), "{error}");
    // It has ended by the time that the caller looks again.
    shaky.edge.fail("settle", [Refused]);
    let work = async {
        eventually("it was refused", async || shaky.edge.left("settle") == 0).await;
        shaky.edge.fail("standing", [Late]);
        eventually("the caller looks again", async || shaky.edge.left("standing") == 0).await;
        stage.work().await;
        shaky.edge.let_through.notify_one();
    };
    let (cancelled, ()) = tokio::join!(job.cancel(), work);
    let error = cancelled.unwrap_err();
    assert!(matches!(error, Error::WrongState { state: "done", .. }), "{error}");
}
