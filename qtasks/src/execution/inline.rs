//! The replies of a task that is run here and now: they go into the collection itself.

use super::{
    attempt::{Attempt, Transact, recall},
    body::read_back,
    co::YieldedValue,
    handler::{
        Handler, handle,
        transactional::{Handling, Replied},
    },
    keep::Keep,
    mailbox::{Mailbox, take},
    on_error::Lenience,
    stopped::{Stopped, unencodable},
};
use crate::{
    error::{self, Error},
    model::{job, json::Json, pending::PendingStep},
    schema::{
        collect::{Collect, Declared},
        returns::Reply,
    },
};

/// Keeps replies in the collection itself.
pub(super) struct Here<'a, D: Declared> {
    pub(super) attempt: &'a Attempt,
    pub(super) transact: &'a Transact,
    pub(super) collection: D::Collection,
    /// The stored form of the last reply, for a collection that keeps no other.
    pub(super) last: Option<Json>,
    pub(super) seq: u64,
}

impl<D: Declared> Here<'_, D> {
    /// The result, as it would be read from a worker's record: there, a last reply that is null is no reply.
    pub(super) fn collected(self) -> Result<D::Collection, Stopped> {
        if D::SHAPE != job::Shape::Last {
            return Ok(self.collection);
        }
        D::last(self.last.as_ref()).map_err(|source| {
            let (what, as_type) = ("the result".to_owned(), std::any::type_name::<D::Collection>());
            Stopped::Error(Box::new(Error::Decode { what, as_type, source: source.into() }))
        })
    }
}

impl<D: Collect<R>, Y, R: Reply, L: Lenience> Keep<Y, R, L> for Here<'_, D> {
    async fn step<M, H: Handler<Y, R, M>>(
        &mut self,
        yielded: YieldedValue<Y>,
        handler: &H,
    ) -> Result<Option<L::Reply<R>>, Stopped> {
        let seq = self.seq;
        self.seq += 1;
        self.attempt.inner.context.in_step(seq);
        let replied = match H::IN_TRANSACTION {
            None => {
                let handled = handle(handler, yielded.value, seq, self.attempt).await;
                handled.map_err(|error| self.attempt.skipped(L::ON_ERROR, error))
            }
            Some(in_transaction) => {
                let kept = Transacted { failure: Mailbox::default(), reply: Mailbox::default() };
                let attempt = self.attempt.in_transaction(seq);
                let handling = Handling::new(attempt, L::ON_ERROR, kept.failure.clone(), Some(kept.reply.clone()));
                let step = PendingStep::new(seq, 0, 0, in_transaction(handler, yielded.value, handling));
                kept.after((self.transact)(step).await)?.map_err(Ok)
            }
        };
        let reply = match replied {
            Ok(reply) => reply,
            Err(error) => {
                let error = error?;
                if H::IN_TRANSACTION.is_none() {
                    self.attempt.says_skipped(&error);
                }
                let skipped = L::skipped(seq, error)?;
                return Ok(yielded.wants_reply.then_some(skipped));
            }
        };
        // The body and the collection see the reply as it would be read back from a record. A reply that neither takes is not
        // encoded.
        let for_body = if yielded.wants_reply { Some(L::replied(copy(&reply)?)) } else { None };
        let reply = match D::SHAPE {
            job::Shape::Nothing | job::Shape::Count => reply,
            job::Shape::Last => {
                self.last = Some(Json::encode(&reply).map_err(|error| unencodable("the handler's reply", error))?);
                reply
            }
            _ => read_back("the handler's reply", reply)?,
        };
        self.attempt.inner.context.before_step(self.seq);
        D::add(&mut self.collection, reply).map_err(|error| unencodable("the handler's reply", error))?;
        Ok(for_body)
    }
}

/// Where a handler in a transaction puts its reply or its failure.
struct Transacted<R> {
    failure: Mailbox<Stopped>,
    reply: Mailbox<Replied<R>>,
}

impl<R> Transacted<R> {
    fn after(self, transacted: error::Result<()>) -> Result<Replied<R>, Stopped> {
        if let Some(stopped) = take(&self.failure) {
            return Err(stopped);
        }
        transacted.map_err(|error| Stopped::Error(Box::new(error)))?;
        take(&self.reply).ok_or(Stopped::Released)
    }
}

fn copy<R: Reply>(reply: &R) -> Result<R, Stopped> {
    let json = Json::encode(reply).map_err(|error| unencodable("the handler's reply", error))?;
    recall(&json)
}
