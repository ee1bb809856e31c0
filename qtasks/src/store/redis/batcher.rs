//! Calls that come while the server is busy are sent to it together, so that the server syncs its disk once for all of
//! them.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, future::join_all, join, stream::FuturesUnordered};
use redis::{Cmd, FromRedisValue, RedisError, Value, from_redis_value};
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use super::{
    calls::enqueue::Batch,
    connection::Link,
    error::Fault,
    large::{LARGE, LargeCalls},
    runtime::Crew,
};
use crate::store::Changes;

/// The most bytes of jobs that are enqueued together, unless one call has more, so that no other call waits long behind them.
const TOGETHER: usize = 1 << 20;

/// When this many calls wait to enqueue jobs, their round is sent although the round before it is not answered, so that the
/// server has it at hand when it is done with the other. With two rounds under way, they wait.
const MANY: usize = 16;

/// After this time the next round is sent although this one is not answered: the server is far away, or busy with something
/// large.
const PAUSE: Duration = Duration::from_millis(2);

type Asked<T> = Result<T, Fault>;
type AnswerSender<T> = oneshot::Sender<Asked<T>>;

/// Gathers calls for the next round.
pub(super) struct Batcher {
    pub(super) link: Arc<Link>,
    large_calls: LargeCalls,
    crew: Crew,
    pending: Mutex<Pending>,
    /// Notified when many calls wait to enqueue jobs.
    many: Notify,
}

#[derive(Default)]
struct Pending {
    round: Round,
    /// Whether a task is sending the pending calls.
    is_sent: bool,
}

/// The calls that are sent together.
#[derive(Default)]
struct Round {
    calls: Vec<(Cmd, AnswerSender<Value>)>,
    batches: Vec<(Batch, AnswerSender<()>)>,
}

impl Batcher {
    pub(super) fn new(link: Arc<Link>, crew: Crew) -> Self {
        let large_calls = LargeCalls::new(Arc::clone(&link));
        Self { link, large_calls, crew, pending: Mutex::default(), many: Notify::new() }
    }

    /// Calls a script on the server.
    pub(super) async fn ask<T: FromRedisValue>(self: &Arc<Self>, call: Cmd) -> Asked<T> {
        let (answer, answered) = oneshot::channel();
        self.add(|round| round.calls.push((call, answer)));
        let answer = answered.await.unwrap_or(Err(Fault::Ended))?;
        Ok(from_redis_value(answer).map_err(RedisError::from)?)
    }

    /// Enqueues jobs, whether or not the caller waits for the answer.
    pub(super) fn enqueue(self: &Arc<Self>, batch: Batch) -> oneshot::Receiver<Asked<()>> {
        let (answer, enqueued) = oneshot::channel();
        self.add(|round| round.batches.push((batch, answer)));
        enqueued
    }

    fn add(self: &Arc<Self>, add: impl FnOnce(&mut Round)) {
        let mut pending = self.pending();
        add(&mut pending.round);
        if pending.round.batches.len() == MANY {
            self.many.notify_one();
        }
        if !mem::replace(&mut pending.is_sent, true) {
            self.crew.carry_out(Arc::clone(self).send());
        }
    }

    /// Sends the pending calls, until there are none and all are answered.
    async fn send(self: Arc<Self>) {
        let sending = Sending(&self);
        let mut sent = FuturesUnordered::new();
        loop {
            match self.take(sent.is_empty()) {
                Some(round) => sent.push(self.carry_out(round)),
                None if sent.is_empty() => return mem::forget(sending),
                None => {}
            }
            let is_alone = sent.len() < 2;
            tokio::select! {
                _ = timeout(PAUSE, sent.next()) => {}
                () = self.many.notified(), if is_alone => {}
            }
        }
    }

    /// The next round, if any call waits. If none does and `is_last` says that the sender ends, the next call that is added
    /// starts another sender.
    fn take(&self, is_last: bool) -> Option<Round> {
        let mut pending = self.pending();
        let Round { calls, batches } = &mut pending.round;
        if calls.is_empty() && batches.is_empty() {
            pending.is_sent = !is_last;
            return None;
        }
        let mut together = 0;
        let fits = |(batch, _): &&(Batch, _)| {
            together += batch.bytes();
            together <= TOGETHER
        };
        let count = batches.iter().take_while(fits).count().max(1).min(batches.len());
        Some(Round { calls: mem::take(calls), batches: batches.drain(..count).collect() })
    }

    async fn carry_out(&self, Round { calls, batches }: Round) {
        let calls = calls.into_iter().map(|(call, answer)| async move {
            let answered = self.large_calls.ask(&call).await;
            self.heed(&answered);
            reply(answer, answered);
        });
        // Jobs last: a lease in this round was asked for before they came, by an earlier clock.
        join!(join_all(calls), self.enqueue_together(batches));
    }

    async fn enqueue_together(&self, batches: Vec<(Batch, AnswerSender<()>)>) {
        let (batches, answers): (Vec<_>, Vec<_>) = batches.into_iter().unzip();
        // A batch that is too large must not fail the others that it was joined with by chance.
        let is_large = batches.len() > 1 && batches.iter().map(Batch::bytes).sum::<usize>() > LARGE / 2;
        let each = is_large.then(|| batches.clone());
        let Some(batch) = Batch::joined(batches) else { return };
        let enqueued = self.enqueue_batch(batch).await;
        if let (Err(Fault::TooLarge(_)), Some(each)) = (&enqueued, each) {
            for (batch, answer) in each.into_iter().zip(answers) {
                reply(answer, self.enqueue_batch(batch).await);
            }
            return;
        }
        answers.into_iter().for_each(|answer| reply(answer, enqueued.clone()));
    }

    async fn enqueue_batch(&self, batch: Batch) -> Asked<()> {
        let mut call = self.link.call(|scripts| &scripts.enqueue);
        batch.add_to(&mut call, &self.link);
        let enqueued = self.large_calls.ask(&call).await.map(drop);
        if enqueued.is_ok() {
            self.link.notifier.notify(&Changes::enqueued());
        }
        self.heed(&enqueued);
        enqueued
    }

    /// When the server is away, the calls that have waited meanwhile fail at once, so that they do not wait for it each in
    /// turn.
    fn heed<T>(&self, answered: &Asked<T>) {
        let Some(away) = answered.as_ref().err().filter(|fault| fault.is_away()) else { return };
        let Round { calls, batches } = mem::take(&mut self.pending().round);
        calls.into_iter().for_each(|(_, answer)| reply(answer, Err(away.clone())));
        batches.into_iter().for_each(|(_, answer)| reply(answer, Err(away.clone())));
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stands for the task that sends the pending calls. If the task panics, dropping this fails the calls that wait, and the
/// next call starts another sender.
struct Sending<'a>(&'a Batcher);

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        *self.0.pending() = Pending::default();
    }
}

/// Answers a call, whose caller may be gone.
fn reply<T>(answer: AnswerSender<T>, with: Asked<T>) {
    _ = answer.send(with);
}
