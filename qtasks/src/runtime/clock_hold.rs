//! Keeps a paused clock of tokio's from moving while a thread of ours works.
//!
//! Tokio moves a paused clock on to the next timer when its runtime has nothing to do. It waits for work of `spawn_blocking`,
//! and knows nothing of other threads: while a body runs on one, a time limit of minutes would pass in a moment.

use std::{
    cell::RefCell,
    pin::pin,
    ptr,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
};

use tokio::runtime::Handle;

/// Holds the clock of a runtime until it is dropped.
#[derive(Debug)]
pub(crate) struct ClockHold {
    _release: mpsc::Sender<()>,
}

impl ClockHold {
    /// Holds the clock of this runtime, by a blocking task that tokio waits for and that ends when this is dropped.
    pub(crate) fn of(runtime: &Handle) -> Self {
        let (release, released) = mpsc::channel();
        #[expect(clippy::disallowed_methods, reason = "it is released when the hold is dropped")]
        runtime.spawn_blocking(move || _ = released.recv());
        Self { _release: release }
    }
}

/// The hold of a body that runs on a thread. The thread lets go of it while it waits for the runtime, for a timer say. The
/// waker that ends the wait takes it again, before the runtime can find that it has nothing to do.
#[derive(Debug)]
pub(crate) struct BodyHold {
    runtime: Handle,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    hold: Option<ClockHold>,
    /// The wait that the thread is in, by the address of its waker.
    waits_for: Option<usize>,
    given_up: bool,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<BodyHold>>> = const { RefCell::new(None) };
}

impl BodyHold {
    /// Holds the clock of the caller's runtime.
    pub(crate) fn new() -> Arc<Self> {
        let runtime = Handle::current();
        let state = State { hold: Some(ClockHold::of(&runtime)), ..State::default() };
        Arc::new(Self { runtime, state: Mutex::new(state) })
    }

    /// Runs a body, during whose waits the clock is not held.
    pub(crate) fn around<T>(hold: Option<Arc<Self>>, body: impl FnOnce() -> T) -> T {
        CURRENT.set(hold);
        let outcome = body();
        CURRENT.set(None);
        outcome
    }

    /// Lets go of the clock for good: the attempt has the outcome, or no longer waits for it.
    pub(crate) fn give_up(&self) {
        let mut state = self.state();
        state.given_up = true;
        state.hold = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Polls `future` to its end on this thread, which is that of a body.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    match CURRENT.with_borrow(Clone::clone) {
        None => pollster::block_on(future),
        Some(hold) => block_on_holding(hold, future),
    }
}

fn block_on_holding<F: Future>(hold: Arc<BodyHold>, future: F) -> F::Output {
    let mut future = pin!(future);
    let wait = Arc::new(ThreadWait { hold, woken: Condvar::new(), is_woken: AtomicBool::new(false) });
    let waker = Waker::from(wait.clone());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        wait.until_woken();
    }
}

/// A wait of a body's thread, and its waker.
struct ThreadWait {
    hold: Arc<BodyHold>,
    woken: Condvar,
    /// Whether the waker was called; changed under the lock of the hold.
    is_woken: AtomicBool,
}

impl ThreadWait {
    fn until_woken(self: &Arc<Self>) {
        let mut state = self.hold.state();
        while !self.is_woken.swap(false, Relaxed) {
            state.waits_for = Some(self.address());
            state.hold = None;
            state = self.woken.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waits_for = None;
    }

    fn address(self: &Arc<Self>) -> usize {
        ptr::from_ref(&**self).addr()
    }
}

impl Wake for ThreadWait {
    fn wake(self: Arc<Self>) {
        let mut state = self.hold.state();
        self.is_woken.store(true, Relaxed);
        // Of nested waits the thread is in the innermost one, and a waker of another one does not let it go on.
        if state.waits_for == Some(self.address()) && state.hold.is_none() && !state.given_up {
            state.hold = Some(ClockHold::of(&self.hold.runtime));
        }
        drop(state);
        self.woken.notify_one();
    }
}
