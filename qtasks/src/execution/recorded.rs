//! A task that a worker runs: its replies go to the journal, and come from the record where they are recorded.

use serde::Serialize;

use super::{
    attempt::{Attempt, recall},
    co::YieldedValue,
    handler::{Handler, transactional::Handling},
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
    },
    schema::{Checkpoint, Generating, Resume, returns::Reply},
};

/// Keeps steps on the journal, and answers from the record what is recorded.
pub(super) struct Stored<'a> {
    attempt: &'a Attempt,
    journal: &'a Journal,
    each: bool,
    cursor: bool,
    seq: u64,
    recorded: u64,
    record: Recorded<job::Step>,
}

impl<Y: Serialize, R: Reply, L: Lenience> Keep<Y, R, L> for Stored<'_> {
    async fn step<M, H: Handler<Y, R, M>>(
        &mut self,
        yielded: YieldedValue<Y>,
        handler: &H,
    ) -> Result<Option<L::Reply<R>>, Stopped> {
        let (seq, context) = (self.seq, &self.attempt.inner.context);
        let Measured { hash, bytes } =
            json::measure(&yielded.value).map_err(|error| unencodable("the yielded value", error))?;
        if seq < self.recorded {
            return self.replay::<R, L>(hash, yielded.wants_reply).await;
        }
        if self.cursor && self.recorded > 0 && !context.has_asked() {
            return Err(Stopped::Error(Box::new(Error::Misuse(NEVER_ASKED))));
        }
        if context.is_shutting_down() {
            return Err(Stopped::Released);
        }
        if !self.journal.is_open() {
            self.journal.wait_for_room().await?;
        }
        context.in_step(seq);
        if let Some(in_transaction) = H::IN_TRANSACTION {
            let reply = yielded.wants_reply.then(Mailbox::default);
            let attempt = self.attempt.in_transaction(seq);
            let handling = Handling::new(attempt, L::ON_ERROR, self.journal.failure().clone(), reply.clone());
            self.journal.push_pending(hash, bytes, in_transaction(handler, yielded.value, handling));
            self.kept(yielded.wants_reply).await?;
            let Some(reply) = reply else { return Ok(None) };
            let reply = match take(&reply).ok_or(Stopped::Released)? {
                Ok(reply) => L::replied(reply),
                Err(error) => L::skipped(seq, error)?,
            };
            return Ok(Some(reply));
        }
        let (kept, reply) = match handler.handle(yielded.value, self.attempt).await {
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
        // What a replay would give: the body sees no other.
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

    /// A step is on the journal: waits until it is durable, where the body may not go on before.
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
        // The job has as many steps as it says, unless it is gone.
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

    /// The body ended: it must have yielded all that is recorded.
    pub(super) fn ended(&self) -> Result<(), Stopped> {
        if self.seq < self.recorded {
            return Err(Stopped::Diverged(Diverged::End { seq: self.seq, recorded: self.recorded }));
        }
        Ok(())
    }
}
