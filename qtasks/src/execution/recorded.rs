//! The replies of a task that a worker runs: they go to the journal, or come from the record where they are recorded.

use serde::Serialize;

use super::{
    attempt::{Attempt, recall},
    co::YieldedValue,
    handler::{Handler, handle, transactional::Handling},
    journal::{Journal, Recorded},
    keep::Keep,
    mailbox::{Mailbox, take},
    on_error::Lenience,
    stopped::{Diverged, Stopped, unencodable},
};
use crate::{
    error::Error,
    model::{
        job,
        json::{self, Measured},
        pending::BoxedHandler,
    },
    schema::{Checkpoint, Generating, Resume, returns::Reply},
    telemetry::{self, numbers::Timer},
};

/// Keeps new steps on the journal, and answers recorded ones from the record.
pub(super) struct Stored<'a> {
    attempt: &'a Attempt,
    journal: &'a Journal,
    /// Whether each step is durable before the body goes on.
    each: bool,
    /// Whether the body goes on from its last step by itself.
    cursor: bool,
    /// The number of the step that comes next.
    seq: u64,
    /// How many steps are recorded.
    recorded: u64,
    record: Recorded<job::Step>,
}

impl<Y: Serialize, R: Reply, L: Lenience> Keep<Y, R, L> for Stored<'_> {
    async fn step<M, H: Handler<Y, R, M>>(
        &mut self,
        yielded: YieldedValue<Y>,
        handler: &H,
    ) -> Result<Option<L::Reply<R>>, Stopped> {
        let seq = self.seq;
        let Measured { hash, bytes } =
            json::measure(&yielded.value).map_err(|error| unencodable("the yielded value", error))?;
        if seq < self.recorded {
            return self.replay::<R, L>(hash, yielded.wants_reply).await;
        }
        self.check_goes_on()?;
        if !self.journal.is_open() {
            self.journal.wait_for_room().await?;
        }
        self.attempt.inner.context.in_step(seq);
        if let Some(call) = H::IN_TRANSACTION {
            let YieldedValue { value, wants_reply } = yielded;
            let step = |handling| (hash, bytes, call(handler, value, handling));
            return self.handle_in_store::<R, L>(step, wants_reply).await;
        }
        let timer = Timer::of_value(seq - self.recorded);
        let handled = handle(handler, yielded.value, seq, self.attempt).await;
        telemetry::handled(self.attempt.inner.context.task().name, timer);
        let (kept, reply) = match handled {
            Ok(reply) => {
                let json = self.attempt.encode(&reply)?;
                let recorded = Some(&json).filter(|_| yielded.wants_reply && !json::is_exact::<R>()).cloned();
                (job::Reply::Value(json), Ok((reply, recorded)))
            }
            Err(error) => {
                let error = self.attempt.skipped(L::ON_ERROR, error)?;
                self.attempt.says_skipped(&error);
                (job::Reply::Skipped(error.clone()), Err(error))
            }
        };
        self.journal.push(hash, kept);
        self.kept(yielded.wants_reply).await?;
        if !yielded.wants_reply {
            return Ok(None);
        }
        // The body sees the reply as a replay would give it.
        let reply = match reply {
            Ok((_, Some(recorded))) => L::replied(recall(&recorded)?),
            Ok((reply, None)) => L::replied(reply),
            Err(error) => L::skipped(seq, error)?,
        };
        Ok(Some(reply))
    }
}

const NEVER_ASKED: &str = "a task with `resume = \"cursor\"` ran again and yielded a value without asking \
                           `ctx.last_step()` where to go on; it would yield the recorded values twice";

impl<'a> Stored<'a> {
    pub(super) fn new(attempt: &'a Attempt, journal: &'a Journal, recorded: u64, record: Recorded<job::Step>) -> Self {
        let generating = attempt.inner.context.task().generating;
        let is = |test: fn(&Generating) -> bool| generating.as_ref().is_some_and(test);
        let each = is(|generating| generating.checkpoint == Checkpoint::Each);
        let cursor = is(|generating| generating.resume == Resume::Cursor);
        // A body that goes on from its cursor begins with the value after the recorded ones.
        let seq = if cursor { recorded } else { 0 };
        attempt.inner.context.before_step(seq);
        Self { attempt, journal, each, cursor, seq, recorded, record }
    }

    /// Refuses to handle a value when the body would yield recorded ones twice, or the worker stops.
    fn check_goes_on(&self) -> Result<(), Stopped> {
        let context = &self.attempt.inner.context;
        if self.cursor && self.recorded > 0 && !context.has_asked() {
            return Err(Stopped::Error(Box::new(Error::Misuse(NEVER_ASKED))));
        }
        if context.is_shutting_down() { Err(Stopped::Released) } else { Ok(()) }
    }

    /// Puts a value on the journal whose handler runs in the store; waits for its reply, if the body wants that.
    async fn handle_in_store<R: Reply, L: Lenience>(
        &mut self,
        step: impl FnOnce(Handling<R>) -> (u64, usize, BoxedHandler),
        wants_reply: bool,
    ) -> Result<Option<L::Reply<R>>, Stopped> {
        let seq = self.seq;
        let reply = wants_reply.then(Mailbox::default);
        let attempt = self.attempt.in_transaction(seq);
        let handling = Handling::new(attempt, L::ON_ERROR, self.journal.failure().clone(), reply.clone());
        let (hash, bytes, handler) = step(handling);
        self.journal.push_pending(hash, bytes, handler);
        self.kept(wants_reply).await?;
        let Some(reply) = reply else { return Ok(None) };
        match take(&reply).ok_or(Stopped::Released)? {
            Ok(reply) => Ok(Some(L::replied(reply))),
            Err(error) => L::skipped(seq, error).map(Some),
        }
    }

    /// Goes on to the next step once this one is on the journal; waits until it is durable, where the body has to.
    async fn kept(&mut self, wants_reply: bool) -> Result<(), Stopped> {
        self.seq += 1;
        self.attempt.inner.context.before_step(self.seq);
        if self.each || wants_reply {
            self.journal.flush().await?;
        }
        Ok(())
    }

    /// Answers a value from the record, without its handler.
    async fn replay<R: Reply, L: Lenience>(
        &mut self,
        hash: u64,
        wants_reply: bool,
    ) -> Result<Option<L::Reply<R>>, Stopped> {
        let seq = self.seq;
        // A record that ends before the job's count of steps is that of a job that is gone.
        let step = self.record.next().await?.ok_or(Stopped::Released)?;
        if step.hash != hash {
            return Err(Stopped::Diverged(Diverged::Value { seq }));
        }
        self.seq += 1;
        self.attempt.inner.context.before_step(self.seq);
        if !wants_reply {
            return Ok(None);
        }
        match step.reply {
            job::Reply::Value(json) => Ok(Some(L::replied(recall(&json)?))),
            job::Reply::Skipped(error) => L::skipped(seq, error).map(Some),
        }
    }

    /// Checks, when the body has ended, that it has yielded all recorded values.
    pub(super) fn ended(&self) -> Result<(), Stopped> {
        if self.seq < self.recorded {
            return Err(Stopped::Diverged(Diverged::End { seq: self.seq, recorded: self.recorded }));
        }
        Ok(())
    }
}
