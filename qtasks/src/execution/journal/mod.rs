//! The way of an attempt's steps and memos to the store, and back from it when a later attempt begins.

mod buffer;
#[cfg(test)]
mod hammer;
#[cfg(test)]
mod interleavings;
pub(crate) mod memo;
mod replay;
mod shell;
mod sync;
mod waiters;

pub(crate) use self::{
    buffer::{Batch, EntryCount, MemoEntry},
    replay::{Numbered, Recorded},
    shell::{FlushRequest, Journal},
};

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
        },
        task::{Context, Wake},
        time::Duration,
    };

    use futures::FutureExt as _;
    use tokio::sync::mpsc;

    use super::{
        buffer::{Ahead, EntryCount, Unrun},
        *,
    };
    use crate::{
        execution::stopped::Stopped,
        model::{
            job::{JobId, Lease, Reply, WorkerId},
            json::Json,
            pending::PendingStep,
        },
    };

    const AHEAD: Ahead = Ahead::OF_A_BODY;

    fn journal(wait: Duration) -> (Arc<Journal>, mpsc::UnboundedReceiver<FlushRequest>) {
        let (requests, received) = mpsc::unbounded_channel();
        let lease = Lease { job: JobId::new(), attempt: 1, worker: WorkerId::new() };
        (Journal::new(lease, Arc::new(|| true), EntryCount::default(), wait, requests), received)
    }

    fn push(journal: &Journal, count: usize) {
        for _ in 0..count {
            journal.push(0, Reply::Value(Json::from_stored("1")));
        }
    }

    #[test]
    fn many_steps_are_announced_once_until_they_are_taken() {
        let (journal, mut requests) = journal(Duration::from_millis(5));
        push(&journal, 3);
        assert_eq!(requests.try_recv().unwrap().wait, Duration::from_millis(5));
        assert!(requests.try_recv().is_err());
        assert_eq!(journal.take().steps.iter().map(|step| step.seq).collect::<Vec<_>>(), [0, 1, 2]);
        push(&journal, 1);
        assert!(requests.try_recv().is_ok());
    }

    #[test]
    fn a_body_may_run_ahead_by_so_many_values_and_no_further() {
        let (journal, mut requests) = journal(Duration::from_secs(60));
        push(&journal, AHEAD.values as usize - 1);
        assert!(journal.wait_for_room().now_or_never().is_some());
        push(&journal, 1);
        assert!(journal.wait_for_room().now_or_never().is_none());
        assert_eq!(
            [requests.try_recv().unwrap().wait, requests.try_recv().unwrap().wait],
            [Duration::from_secs(60), Duration::ZERO]
        );
        let taken = EntryCount { steps: journal.take().steps.len() as u64, memos: 0 };
        assert!(journal.wait_for_room().now_or_never().is_none(), "what is in flight is not durable");
        journal.wrote(taken);
        assert!(journal.wait_for_room().now_or_never().is_some());
    }

    #[test]
    fn a_body_may_run_ahead_by_so_many_bytes_and_no_further() {
        let (journal, _requests) = journal(Duration::ZERO);
        journal.push(0, Reply::Value(Json::from_stored("1".repeat(AHEAD.bytes))));
        assert!(journal.wait_for_room().now_or_never().is_none());
        journal.wrote(EntryCount { steps: journal.take().steps.len() as u64, memos: 0 });
        assert!(journal.wait_for_room().now_or_never().is_some());
    }

    #[test]
    fn a_body_whose_lease_has_run_out_waits_until_it_is_renewed_or_lost() {
        let (requests, _received) = mpsc::unbounded_channel();
        let lease = Lease { job: JobId::new(), attempt: 1, worker: WorkerId::new() };
        let is_good = Arc::new(AtomicBool::new(false));
        let good = is_good.clone();
        let journal =
            Journal::new(lease, Arc::new(move || good.load(Relaxed)), EntryCount::default(), Duration::ZERO, requests);
        let mut room = pin!(journal.wait_for_room());
        assert!(room.as_mut().now_or_never().is_none());
        is_good.store(true, Relaxed);
        journal.renewed();
        assert!(matches!(room.now_or_never(), Some(Ok(()))));
        is_good.store(false, Relaxed);
        journal.fence();
        assert!(matches!(journal.wait_for_room().now_or_never(), Some(Err(Stopped::Fenced))));
    }

    fn push_pending_steps(journal: &Journal, count: usize) {
        for _ in 0..count {
            journal.push_pending(0, 1, Box::new(()));
        }
    }

    fn seqs(pending: &[Arc<PendingStep>]) -> Vec<u64> {
        pending.iter().map(|step| step.seq).collect()
    }

    #[test]
    fn values_that_were_not_handled_come_before_those_that_were_added_since() {
        let (journal, mut requests) = journal(Duration::from_secs(60));
        push_pending_steps(&journal, 3);
        let taken = journal.take().pending;
        push_pending_steps(&journal, 2);
        journal.handled(1, taken[1..].to_vec());
        assert_eq!(std::iter::from_fn(|| requests.try_recv().ok()).last().unwrap().wait, Duration::ZERO);
        assert_eq!(seqs(&journal.take().pending), [1, 2, 3, 4]);
        journal.handled(5, Unrun::new());
    }

    #[test]
    fn after_a_handler_that_failed_no_value_is_handled_and_the_flush_says_why() {
        let (journal, _requests) = journal(Duration::ZERO);
        push_pending_steps(&journal, 2);
        _ = journal.take();
        push_pending_steps(&journal, 1);
        *journal.failure().lock().unwrap() = Some(Stopped::Panic("no".into()));
        assert!(journal.wait_for_room().now_or_never().unwrap().is_ok(), "it is not known to last yet");
        journal.handled(1, Unrun::new());
        journal.fail(Stopped::Released);
        push_pending_steps(&journal, 1);
        assert!(journal.take().pending.is_empty());
        assert!(matches!(journal.wait_for_room().now_or_never(), Some(Err(Stopped::Released))));
        assert!(matches!(journal.flush().now_or_never(), Some(Err(Stopped::Released))));
        assert!(matches!(journal.finish().now_or_never(), Some(Err(Stopped::Panic(_)))));
        assert_eq!(journal.steps(), 1);
    }

    #[test]
    fn an_attempt_whose_handlers_could_not_be_committed_is_given_back_whatever_they_said() {
        let (journal, _requests) = journal(Duration::ZERO);
        push_pending_steps(&journal, 1);
        *journal.failure().lock().unwrap() = Some(Stopped::Panic("no".into()));
        journal.release();
        assert!(matches!(journal.flush().now_or_never(), Some(Err(Stopped::Released))));
    }

    struct Counts(AtomicUsize);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn all_that_wait_are_woken_when_the_recorder_is_found_to_be_gone() {
        let (journal, requests) = journal(Duration::ZERO);
        let woken = Arc::new(Counts(AtomicUsize::new(0)));
        let waker = woken.clone().into();
        let mut context = Context::from_waker(&waker);
        let (mut lost, mut halted) = (pin!(journal.lost()), pin!(journal.halted()));
        assert!(lost.as_mut().poll(&mut context).is_pending() && halted.as_mut().poll(&mut context).is_pending());
        drop(requests);
        push(&journal, 1);
        assert_eq!(woken.0.load(Relaxed), 2);
        assert!(lost.poll(&mut context).is_ready() && halted.poll(&mut context).is_ready());
    }

    #[test]
    fn a_wait_that_is_given_up_leaves_nothing_behind() {
        let (journal, _requests) = journal(Duration::ZERO);
        push(&journal, 1);
        let woken = Arc::new(Counts(AtomicUsize::new(0)));
        let waker = woken.clone().into();
        let mut context = Context::from_waker(&waker);
        for _ in 0..3 {
            assert!(pin!(journal.flush()).poll(&mut context).is_pending());
            assert!(pin!(journal.lost()).poll(&mut context).is_pending());
        }
        assert_eq!(Arc::strong_count(&woken), 2);
        journal.fence();
        assert_eq!(woken.0.load(Relaxed), 0);
    }

    #[test]
    fn no_wait_of_a_fenced_journal_goes_on() {
        let (journal, _requests) = journal(Duration::ZERO);
        push(&journal, 1);
        journal.fence();
        assert!(matches!(journal.flush().now_or_never(), Some(Err(Stopped::Fenced))));
        assert!(matches!(journal.wait_for_room().now_or_never(), Some(Err(Stopped::Fenced))));
    }
}
