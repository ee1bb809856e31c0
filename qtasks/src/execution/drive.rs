//! Runs one attempt: without I/O, and without a clock of its own.
//!
//! A task that does not yield goes through [`run_task`], one that does through [`run_task_gen`], which drives the body
//! as a coroutine and hands each value to the handler. What was handled goes to a [`Journal`] and from there to a store, or,
//! when the task runs here and now, into the collection itself.

use std::{
    any::Any,
    fmt,
    future::Future,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Either, select},
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    co::{Ask, Co, Coroutine, Next},
    context::TaskContext,
    handler::{
        Handler, Kind, Reply,
        transactional::{Handling, Replied, Slot, take},
    },
    journal::{Journal, Recorded},
    state::{State, States},
    stopped::{Diverged, Stopped},
};
use crate::{
    error::{BoxError, Error},
    model::{
        job::{self, Output},
        json::{self, Json, Measured},
        limits::{Limits, OverLimit},
        pending::PendingStep,
    },
    runtime::{clock_hold, guard::drop_guarded},
    schema::collect::{Collect, Declared},
    task::{Checkpoint, Generating, OnError, Resume},
    telemetry::Skips,
};

/// What an attempt ends with.
pub type Outcome = Result<Ended, Stopped>;

/// The body came to its end.
#[derive(Debug)]
pub struct Ended(pub(crate) Output);

/// One start of a task's body, seen from the code that the task's macro makes.
#[derive(Clone)]
pub struct Attempt {
    inner: Arc<Inner>,
    /// The context of a handler that sees another one than the body.
    apart: Option<TaskContext>,
}

struct Inner {
    context: TaskContext,
    states: States,
    limits: Limits,
    keeping: Keeping,
}

/// Where the values of an attempt go.
enum Keeping {
    /// Into a collection, for whoever runs the task here and now.
    Here { slot: Mutex<Option<Box<dyn Any + Send>>>, transact: Transact, skips: Skips },
    /// Into a store, after what is recorded there.
    Stored { journal: Arc<Journal>, recorded: u64, record: Mutex<Option<Recorded<job::Step>>> },
}

/// Has a handler run in a transaction of the store, when a task is run here and now.
pub(crate) type Transact = Box<dyn Fn(PendingStep) -> BoxFuture<'static, crate::Result<()>> + Send + Sync>;

impl Attempt {
    /// An attempt whose result [`collected`](Self::collected) gives.
    pub(crate) fn here(context: TaskContext, states: States, limits: Limits, transact: Transact) -> Self {
        let keeping = Keeping::Here { slot: Mutex::default(), transact, skips: Skips::default() };
        Self { inner: Arc::new(Inner { context, states, limits, keeping }), apart: None }
    }

    /// An attempt whose steps go to `journal`, after the `recorded` ones that `record` holds.
    pub(crate) fn stored(
        context: TaskContext,
        states: States,
        limits: Limits,
        journal: Arc<Journal>,
        recorded: u64,
        record: Recorded<job::Step>,
    ) -> Self {
        let keeping = Keeping::Stored { journal, recorded, record: Mutex::new(Some(record)) };
        Self { inner: Arc::new(Inner { context, states, limits, keeping }), apart: None }
    }

    /// The context that the task and its handler see.
    pub fn context(&self) -> TaskContext {
        self.apart.as_ref().unwrap_or(&self.inner.context).clone()
    }

    /// The same for a handler in a transaction.
    fn in_transaction(&self, seq: u64) -> Self {
        Self { inner: self.inner.clone(), apart: Some(self.inner.context.in_transaction(seq)) }
    }

    /// Waits until a handler in a transaction may not go on, and gives the reason. Here and now, it is dropped instead.
    pub(crate) async fn halted(&self) -> Stopped {
        match &self.inner.keeping {
            Keeping::Here { .. } => std::future::pending().await,
            Keeping::Stored { journal, .. } => journal.halted().await,
        }
    }

    /// Waits until the lease holds, before a handler in a transaction is called.
    pub(crate) async fn held(&self) -> Result<(), Stopped> {
        match &self.inner.keeping {
            Keeping::Here { .. } => Ok(()),
            Keeping::Stored { journal, .. } => journal.held().await,
        }
    }

    /// Says that the value which is handled is skipped.
    pub(crate) fn says_skipped(&self, error: &str) {
        let skips = match &self.inner.keeping {
            Keeping::Here { skips, .. } => skips,
            Keeping::Stored { journal, .. } => journal.skips(),
        };
        let context = self.apart.as_ref().unwrap_or(&self.inner.context);
        skips.add(context.job_id(), context.task().name, context.attempt(), context.seq(), error);
    }

    /// A state of the application's.
    ///
    /// # Panics
    ///
    /// When the application was not given one; that is checked before anything is run.
    pub fn state<T: Send + Sync + 'static>(&self) -> State<T> {
        self.inner.states.get().expect("the states of a task are checked before it is run")
    }

    /// The result of an attempt that ran here and now.
    pub(crate) fn collected<T: 'static>(&self) -> Option<T> {
        let Keeping::Here { slot, .. } = &self.inner.keeping else { return None };
        let collected = slot.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        collected.downcast().ok().map(|collected| *collected)
    }

    fn keep<T: Send + 'static>(slot: &Mutex<Option<Box<dyn Any + Send>>>, value: T) {
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(value));
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.context.fmt(f)
    }
}

/// A body that is ready to run.
pub enum Running {
    /// It is polled on the runtime.
    Async(BoxFuture<'static, Outcome>),
    /// It is called on a thread that may block.
    Blocking(Box<dyn FnOnce() -> Outcome + Send>),
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Async(_) => "a body to poll",
            Self::Blocking(_) => "a body to call",
        })
    }
}

impl Running {
    /// The body of an `async fn` that yields.
    pub fn generator(body: impl Future<Output = Outcome> + Send + 'static) -> Self {
        Self::Async(Box::pin(body))
    }

    /// The body of a `fn` that yields.
    pub fn blocking_generator(body: impl FnOnce() -> Outcome + Send + 'static) -> Self {
        Self::Blocking(Box::new(body))
    }

    /// The body of an `async fn` that returns a value.
    pub fn value<T: Value>(attempt: Attempt, body: impl Future<Output = T> + Send + 'static) -> Self {
        Self::Async(Box::pin(async move { run_task(&attempt, Ok(body.await)) }))
    }

    /// The body of an `async fn` that returns a result.
    pub fn fallible<T: Value, E: Failure + 'static>(
        attempt: Attempt,
        body: impl Future<Output = Result<T, E>> + Send + 'static,
        retry_on: Option<fn(&E) -> bool>,
    ) -> Self {
        Self::Async(Box::pin(async move {
            let end = body.await.map_err(|error| raised(error, retry_on));
            run_task(&attempt, end)
        }))
    }

    /// The body of a `fn` that returns a value.
    pub fn blocking_value<T: Value>(attempt: Attempt, body: impl FnOnce() -> T + Send + 'static) -> Self {
        Self::Blocking(Box::new(move || run_task(&attempt, Ok(body()))))
    }

    /// The body of a `fn` that returns a result.
    pub fn blocking_fallible<T: Value, E: Failure + 'static>(
        attempt: Attempt,
        body: impl FnOnce() -> Result<T, E> + Send + 'static,
        retry_on: Option<fn(&E) -> bool>,
    ) -> Self {
        Self::Blocking(Box::new(move || {
            let end = body().map_err(|error| raised(error, retry_on));
            run_task(&attempt, end)
        }))
    }

    /// The same body with `context` as the current one, the attempt of which ends with it, and a panic of it as an error.
    /// Nothing of the task's own is left in what it comes to.
    pub(crate) fn guarded(self, context: TaskContext) -> Self {
        match self {
            Self::Async(body) => Self::Async(Box::pin(async move {
                let _ending = context.ending();
                let body = Dropping(Some(body));
                let caught = AssertUnwindSafe(context.clone().scope(leaving(&context, body))).catch_unwind().await;
                outcome(&context, caught)
            })),
            Self::Blocking(body) => Self::Blocking(Box::new(move || {
                let _ending = context.ending();
                let caught = catch_unwind(AssertUnwindSafe(|| context.clone().sync_scope(body)));
                outcome(&context, caught)
            })),
        }
    }
}

/// A body that may be dropped before its end: a panic of its drop goes no further.
struct Dropping(Option<BoxFuture<'static, Outcome>>);

impl Future for Dropping {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let body = self.0.as_mut().expect("a body is there until this is dropped");
        body.as_mut().poll(cx)
    }
}

impl Drop for Dropping {
    fn drop(&mut self) {
        drop_guarded(self.0.take());
    }
}

/// What a body came to, without code of the task's own.
fn outcome(context: &TaskContext, caught: Result<Outcome, Box<dyn Any + Send>>) -> Outcome {
    caught.unwrap_or_else(|payload| Err(panicked(context, payload))).map_err(Stopped::plain)
}

/// Why something of the task unwound: it panicked, or took the way out.
pub(crate) fn panicked(context: &TaskContext, payload: Box<dyn Any + Send>) -> Stopped {
    match context.exit_reason() {
        Some(reason) => {
            drop_guarded(payload);
            reason
        }
        None => Stopped::panic(payload),
    }
}

/// Drives `body` to its end, or drops it when it takes the way out.
pub(crate) async fn leaving<T>(
    context: &TaskContext,
    body: impl Future<Output = Result<T, Stopped>>,
) -> Result<T, Stopped> {
    let body = pin!(body);
    match select(pin!(context.left()), body).await {
        Either::Left((stopped, _)) => Err(stopped),
        Either::Right((outcome, _)) => outcome,
    }
}

/// A value that a task without steps may return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of a task",
    label = "cannot be stored as the result",
    note = "a task returns a type that is `Serialize`, `DeserializeOwned` and `Send`, or a `Result` of one"
)]
pub trait Value: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Value for T {}

/// An error that a body or a handler may end with.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a task",
    label = "no error that goes from thread to thread",
    note = "an error of a task is `std::error::Error + Send + Sync`, which `thiserror` derives; or write `anyhow::Result<..>`, \
            `Result<_, String>` or `Result<_, Box<dyn std::error::Error + Send + Sync>>`"
)]
pub trait Failure: Into<BoxError> {}

#[diagnostic::do_not_recommend]
impl<E: Into<BoxError>> Failure for E {}

/// A `Result`, as a task without steps may return it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is named `Result` and is not one",
    label = "not a `std::result::Result`",
    note = "`#[qtask]` tells a `Result` by its name: call this type by another"
)]
pub trait Fallible {
    /// The value, when all is well.
    type Value: Send + 'static;
    /// The error otherwise.
    type Error;
}

impl<T: Send + 'static, E> Fallible for Result<T, E> {
    type Value = T;
    type Error = E;
}

/// Finds out whether a type is a `Result`, whatever its name: `Returned::<T>::IS_RESULT`, with [`NoResult`] in scope.
#[derive(Debug)]
pub struct Returned<T>(PhantomData<fn() -> T>);

impl<T, E> Returned<Result<T, E>> {
    /// It is one.
    pub const IS_RESULT: bool = true;
}

/// What the constant of [`Returned`] hides where it has one.
pub trait NoResult {
    /// It is none.
    const IS_RESULT: bool = false;
}

impl<T> NoResult for Returned<T> {}

/// What the values of a task are declared to be collected into.
#[derive(Debug)]
pub struct Collecting<D>(PhantomData<fn() -> D>);

impl<D> Collecting<D> {
    /// The declaration.
    pub const NEW: Self = Self(PhantomData);
}

/// What an error of the handler does to a value's reply.
pub trait Lenience: Send + Sync + 'static {
    /// The reply, as the body gets it.
    type Reply<R: Reply>: Send;
    /// The same, for the schema.
    const ON_ERROR: OnError;

    /// A reply that is one.
    fn replied<R: Reply>(reply: R) -> Self::Reply<R>;
    /// An error in the place of a reply.
    fn skipped<R: Reply>(seq: u64, error: String) -> Result<Self::Reply<R>, Stopped>;
}

/// An error of the handler ends the attempt.
#[derive(Clone, Copy, Debug)]
pub struct Fail;

impl Lenience for Fail {
    type Reply<R: Reply> = R;
    const ON_ERROR: OnError = OnError::Fail;

    fn replied<R: Reply>(reply: R) -> R {
        reply
    }

    // The record holds a skipped step and the task no longer skips: another program than the one that recorded it.
    fn skipped<R: Reply>(seq: u64, _error: String) -> Result<R, Stopped> {
        Err(Stopped::Diverged(Diverged::Value { seq }))
    }
}

/// An error of the handler is recorded in the value's place.
#[derive(Clone, Copy, Debug)]
pub struct Skip;

impl Lenience for Skip {
    type Reply<R: Reply> = crate::Result<R>;
    const ON_ERROR: OnError = OnError::Skip;

    fn replied<R: Reply>(reply: R) -> crate::Result<R> {
        Ok(reply)
    }

    fn skipped<R: Reply>(seq: u64, error: String) -> Result<crate::Result<R>, Stopped> {
        Ok(Err(Error::Skipped { seq, error }))
    }
}

/// Drives an `async fn` task that yields.
pub fn generate<D, L, K, X, Y, R, H, B, F>(
    attempt: Attempt,
    into: Collecting<D>,
    lenience: L,
    retry_on: Option<fn(&D::Error) -> bool>,
    _kind: Kind<K>,
    handler: H,
    body: B,
) -> BoxFuture<'static, Outcome>
where
    D: Collect<R, Error: Failure> + 'static,
    D::Error: 'static,
    L: Lenience,
    K: 'static,
    X: 'static,
    Y: Serialize + Send + 'static,
    R: Reply,
    H: Handler<Y, R, (K, X)>,
    H::Future: Send,
    B: FnOnce(Co<Y, L::Reply<R>>) -> F + Send + 'static,
    F: Future<Output = D::Body> + Send + 'static,
{
    let coroutine = Coroutine::new(body, is_body);
    Box::pin(run_task_gen(attempt, into, lenience, retry_on, handler, coroutine))
}

/// Drives a `fn` task that yields, on the thread that calls this.
pub fn generate_blocking<D, L, K, X, Y, R, H, B, F>(
    attempt: Attempt,
    into: Collecting<D>,
    lenience: L,
    retry_on: Option<fn(&D::Error) -> bool>,
    _kind: Kind<K>,
    handler: H,
    body: B,
) -> Outcome
where
    D: Collect<R, Error: Failure>,
    L: Lenience,
    Y: Serialize,
    R: Reply,
    H: Handler<Y, R, (K, X)>,
    B: FnOnce(Co<Y, L::Reply<R>>) -> F,
    F: Future<Output = D::Body>,
{
    let context = attempt.context();
    let driven = run_task_gen(attempt, into, lenience, retry_on, handler, Coroutine::new(body, is_body));
    clock_hold::block_on(leaving(&context, driven))
}

/// Whether it is a body that calls this, and not what it has spawned.
fn is_body() -> bool {
    TaskContext::try_current().is_some()
}

/// The way of a task without steps: what it returned is its result.
fn run_task<T: Value>(attempt: &Attempt, end: Result<T, Stopped>) -> Outcome {
    debug_assert!(attempt.inner.context.task().generating.is_none(), "its schema sends a generator the other way");
    let value = end?;
    match &attempt.inner.keeping {
        Keeping::Here { slot, .. } => {
            Attempt::keep(slot, read_back("the returned value", value)?);
            Ok(Ended(Output::Steps(job::Shape::Nothing)))
        }
        Keeping::Stored { .. } => {
            let json = Json::encode(&value).map_err(|error| unencodable("the returned value", error))?;
            attempt.inner.limits.check_value(&json).map_err(over)?;
            Ok(Ended(Output::Value(json)))
        }
    }
}

/// The way of a task that yields: each value goes through the handler and is kept.
async fn run_task_gen<D, L, M, Y, R, H, F>(
    attempt: Attempt,
    _into: Collecting<D>,
    _lenience: L,
    retry_on: Option<fn(&D::Error) -> bool>,
    handler: H,
    mut coroutine: Coroutine<Y, L::Reply<R>, F>,
) -> Outcome
where
    D: Collect<R, Error: Failure>,
    L: Lenience,
    Y: Serialize,
    R: Reply,
    H: Handler<Y, R, M>,
    F: Future<Output = D::Body>,
{
    debug_assert!(attempt.inner.context.task().generating.is_some(), "its schema sends a plain task the other way");
    match &attempt.inner.keeping {
        Keeping::Here { slot, transact, .. } => {
            let collection = D::Collection::default();
            let mut here = Here::<D> { attempt: &attempt, transact, collection, last: None, seq: 0 };
            let body = drive::<L, _, _, _, _, _, _>(&mut coroutine, &handler, &mut here).await?;
            D::ended(body).map_err(|error| raised(error, retry_on))?;
            Attempt::keep(slot, here.collected()?);
        }
        Keeping::Stored { journal, recorded, record } => {
            let record = record.lock().unwrap_or_else(PoisonError::into_inner).take();
            let record = record.expect("an attempt is driven once");
            let mut stored = Stored::new(&attempt, journal, *recorded, record);
            let body = drive::<L, _, _, _, _, _, _>(&mut coroutine, &handler, &mut stored).await?;
            D::ended(body).map_err(|error| raised(error, retry_on))?;
            stored.ended()?;
        }
    }
    Ok(Ended(Output::Steps(D::SHAPE)))
}

async fn drive<L, K, M, Y, R, H, F>(
    coroutine: &mut Coroutine<Y, L::Reply<R>, F>,
    handler: &H,
    keep: &mut K,
) -> Result<F::Output, Stopped>
where
    L: Lenience,
    K: Keep<Y, R, L>,
    R: Reply,
    H: Handler<Y, R, M>,
    F: Future,
{
    loop {
        let value = match coroutine.next().await {
            Next::Yielded(value) => value,
            Next::Ended(end) => return Ok(end),
            Next::Misused(misuse) => return Err(Stopped::Misuse(misuse)),
        };
        let ask = Ask { value, wants_reply: coroutine.wants_reply() };
        if let Some(reply) = keep.step(ask, handler).await? {
            coroutine.answer(reply);
        }
    }
}

/// Has a value handled and keeps the reply; gives it when the body wants it.
trait Keep<Y, R: Reply, L: Lenience> {
    async fn step<M, H: Handler<Y, R, M>>(&mut self, ask: Ask<Y>, handler: &H) -> Result<Option<L::Reply<R>>, Stopped>;
}

/// Keeps replies in the collection itself.
struct Here<'a, D: Declared> {
    attempt: &'a Attempt,
    transact: &'a Transact,
    collection: D::Collection,
    /// What would be recorded of the last reply, where that alone is collected.
    last: Option<Json>,
    seq: u64,
}

impl<D: Declared> Here<'_, D> {
    /// The result, as a worker's would be read. A last reply that is null is read as none.
    fn collected(self) -> Result<D::Collection, Stopped> {
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
    async fn step<M, H: Handler<Y, R, M>>(&mut self, ask: Ask<Y>, handler: &H) -> Result<Option<L::Reply<R>>, Stopped> {
        let seq = self.seq;
        self.seq += 1;
        self.attempt.inner.context.in_step(seq);
        let replied = match H::IN_TRANSACTION {
            None => {
                handler.handle(ask.value, self.attempt).await.map_err(|error| self.attempt.skipped(L::ON_ERROR, error))
            }
            Some(in_transaction) => {
                let left = Left { failure: Slot::default(), reply: Slot::default() };
                let attempt = self.attempt.in_transaction(seq);
                let handling = Handling::new(attempt, L::ON_ERROR, left.failure.clone(), Some(left.reply.clone()));
                let step = PendingStep::new(seq, 0, 0, in_transaction(handler, ask.value, handling));
                left.after((self.transact)(step).await)?.map_err(Ok)
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
                return Ok(ask.wants_reply.then_some(skipped));
            }
        };
        // The body and the collection see what a record would give back. What neither takes is not encoded.
        let answer = if ask.wants_reply { Some(L::replied(copy(&reply)?)) } else { None };
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
        Ok(answer)
    }
}

/// What a handler left that ran in a transaction.
struct Left<R> {
    failure: Slot<Stopped>,
    reply: Slot<Replied<R>>,
}

impl<R> Left<R> {
    fn after(self, transacted: crate::Result<()>) -> Result<Replied<R>, Stopped> {
        if let Some(stopped) = take(&self.failure) {
            return Err(stopped);
        }
        transacted.map_err(|error| Stopped::Error(Box::new(error)))?;
        take(&self.reply).ok_or(Stopped::Released)
    }
}

/// Keeps steps on the journal, and answers from the record what is recorded.
struct Stored<'a> {
    attempt: &'a Attempt,
    journal: &'a Journal,
    each: bool,
    cursor: bool,
    seq: u64,
    recorded: u64,
    record: Recorded<job::Step>,
}

impl<Y: Serialize, R: Reply, L: Lenience> Keep<Y, R, L> for Stored<'_> {
    async fn step<M, H: Handler<Y, R, M>>(&mut self, ask: Ask<Y>, handler: &H) -> Result<Option<L::Reply<R>>, Stopped> {
        let (seq, context) = (self.seq, &self.attempt.inner.context);
        let Measured { hash, bytes } =
            json::measure(&ask.value).map_err(|error| unencodable("the yielded value", error))?;
        if seq < self.recorded {
            return self.replay::<R, L>(hash, ask.wants_reply).await;
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
            let left = ask.wants_reply.then(Slot::default);
            let attempt = self.attempt.in_transaction(seq);
            let handling = Handling::new(attempt, L::ON_ERROR, self.journal.failure().clone(), left.clone());
            self.journal.push_pending(hash, bytes, in_transaction(handler, ask.value, handling));
            self.kept(ask.wants_reply).await?;
            let Some(left) = left else { return Ok(None) };
            let reply = match take(&left).ok_or(Stopped::Released)? {
                Ok(reply) => L::replied(reply),
                Err(error) => L::skipped(seq, error)?,
            };
            return Ok(Some(reply));
        }
        let (kept, reply) = match handler.handle(ask.value, self.attempt).await {
            Ok(reply) => {
                let json = self.attempt.encode(&reply)?;
                let recorded = Some(&json).filter(|_| ask.wants_reply && !json::is_exact::<R>()).cloned();
                (job::Reply::Value(json), Ok((reply, recorded)))
            }
            Err(error) => {
                let error = self.attempt.skipped(L::ON_ERROR, error)?;
                self.attempt.says_skipped(&error);
                (job::Reply::Skipped(error.clone()), Err(error))
            }
        };
        self.journal.push(hash, kept);
        self.kept(ask.wants_reply).await?;
        if !ask.wants_reply {
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
    fn new(attempt: &'a Attempt, journal: &'a Journal, recorded: u64, record: Recorded<job::Step>) -> Self {
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
    fn ended(&self) -> Result<(), Stopped> {
        if self.seq < self.recorded {
            return Err(Stopped::Diverged(Diverged::End { seq: self.seq, recorded: self.recorded }));
        }
        Ok(())
    }
}

impl Attempt {
    /// What is to be recorded of a reply.
    pub(crate) fn encode<R: Reply>(&self, reply: &R) -> Result<Json, Stopped> {
        let json = Json::encode(reply).map_err(|error| unencodable("the handler's reply", error))?;
        self.inner.limits.check_step(&json).map_err(over)?;
        Ok(json)
    }

    /// The text of a handler's error, when the task goes on without the value: as much of it as a step may hold.
    pub(crate) fn skipped(&self, on_error: OnError, error: BoxError) -> Result<String, Stopped> {
        // An error that says how the job goes on is obeyed, whatever the task does with others.
        if on_error == OnError::Fail || crate::execution::stopped::is_directive(&*error) {
            return Err(Stopped::Error(error));
        }
        Ok(self.inner.limits.cut_text(crate::error::chain(&*error)))
    }
}

fn raised<E: Into<BoxError>>(error: E, retry_on: Option<fn(&E) -> bool>) -> Stopped {
    let mends = retry_on.is_none_or(|retry_on| retry_on(&error));
    if mends { Stopped::Error(error.into()) } else { Stopped::Final(error.into()) }
}

fn copy<R: Reply>(reply: &R) -> Result<R, Stopped> {
    let json = Json::encode(reply).map_err(|error| unencodable("the handler's reply", error))?;
    recall(&json)
}

/// A value as it would be read back from a record.
fn read_back<T: Value>(what: &str, value: T) -> Result<T, Stopped> {
    if json::is_exact::<T>() {
        return Ok(value);
    }
    let json = Json::encode(&value).map_err(|error| unencodable(what, error))?;
    json.decode().map_err(|source| {
        let (what, as_type) = (what.to_owned(), std::any::type_name::<T>());
        Stopped::Error(Box::new(Error::Decode { what, as_type, source: source.into() }))
    })
}

pub(crate) fn recall<R: Reply>(json: &Json) -> Result<R, Stopped> {
    json.decode().map_err(|source| {
        Stopped::Error(Box::new(Error::Decode {
            what: "a recorded reply".to_owned(),
            as_type: std::any::type_name::<R>(),
            source: source.into(),
        }))
    })
}

fn unencodable(what: &str, source: serde_json::Error) -> Stopped {
    Stopped::Error(Box::new(Error::Encode { what: what.to_owned(), source: source.into() }))
}

fn over(error: OverLimit) -> Stopped {
    Stopped::Error(Box::new(error))
}
