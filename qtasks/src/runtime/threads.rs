//! Threads of the crate's own, for work that may block or never return: it holds up no runtime and no other pool.

use std::{
    collections::{HashMap, VecDeque},
    io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// How long a thread without work waits for more before it ends.
const LINGER: Duration = Duration::from_secs(10);

/// A few threads that run closures, in the order in which the closures come. When the pool is dropped, its threads still run
/// the closures in the queue, and then end.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

impl Pool {
    /// A pool that has no threads yet. Its threads are called `name`; at `most` so many run work at a time, without those that
    /// run [abandoned](Ticket::abandon) work.
    pub(crate) fn new(name: &'static str, most: usize) -> Self {
        Self::lingering(name, most, LINGER)
    }

    fn lingering(name: &'static str, most: usize, linger: Duration) -> Self {
        let (state, changed) = (Mutex::new(State::new()), Condvar::new());
        Self { shared: Arc::new(Shared { name, most: most.max(1), linger, state, changed }) }
    }

    /// Runs `work` on a thread of the pool as soon as one is free, after all work that came before. A panic ends the work
    /// and nothing else.
    ///
    /// # Errors
    ///
    /// When the system gives no thread, and the pool has none that could run the work later. The work is dropped then.
    pub(crate) fn run(&self, work: impl FnOnce() + Send + 'static) -> io::Result<Ticket> {
        let mut state = self.shared.state();
        let number = state.add(Box::new(work));
        if let Err(error) = self.shared.start_threads(&mut state)
            && state.threads == 0
        {
            let refused = state.take_back(number);
            // After the lock: dropping the work may run code of the user's.
            drop(state);
            drop(refused);
            return Err(error);
        }
        drop(state);
        self.shared.changed.notify_one();
        Ok(Ticket { shared: Arc::clone(&self.shared), number })
    }

    /// How many threads run abandoned work.
    #[cfg(test)]
    fn abandoned(&self) -> usize {
        self.shared.state().abandoned
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_all();
    }
}

/// Work that was given to a [`Pool`]. Dropping the ticket changes nothing.
pub(crate) struct Ticket {
    shared: Arc<Shared>,
    number: u64,
}

impl Ticket {
    /// Gives up waiting for the work, which may never return. From now on its thread does not count, so that the pool starts
    /// another one when there is more work. If the work returns after all, its thread ends.
    ///
    /// Work that is still in the queue keeps its place there, and counts as abandoned from its start.
    pub(crate) fn abandon(&self) {
        let mut state = self.shared.state();
        state.change(self.number, |work| work.abandoned = true);
        self.shared.start_threads_or_warn(state);
    }
}

struct Shared {
    name: &'static str,
    most: usize,
    linger: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

type Work = Box<dyn FnOnce() + Send>;

struct State {
    queue: VecDeque<(u64, Work)>,
    /// The work that has not returned, by its number.
    unreturned: HashMap<u64, WorkState>,
    next_number: u64,
    /// How many threads there are, without those that run abandoned work.
    threads: usize,
    /// How many of these threads have no work: each takes one from the queue when it next looks.
    free: usize,
    /// How many threads run abandoned work.
    abandoned: usize,
    closed: bool,
    /// Starts a thread; tests put a function here that fails.
    start: fn(Arc<Shared>) -> io::Result<()>,
}

/// Whether work that has not returned has begun, and whether the pool still waits for it.
#[derive(Clone, Copy, Default)]
struct WorkState {
    running: bool,
    abandoned: bool,
}

impl WorkState {
    /// Whether the work has a thread that does not count.
    fn is_left_behind(self) -> bool {
        self.running && self.abandoned
    }
}

impl State {
    fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            unreturned: HashMap::new(),
            next_number: 0,
            threads: 0,
            free: 0,
            abandoned: 0,
            closed: false,
            start: Shared::start,
        }
    }

    fn add(&mut self, work: Work) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.queue.push_back((number, work));
        self.unreturned.insert(number, WorkState::default());
        number
    }

    /// Takes back the work that was added last.
    fn take_back(&mut self, number: u64) -> Option<Work> {
        self.unreturned.remove(&number);
        self.queue.pop_back_if(|(last, _)| *last == number).map(|(_, work)| work)
    }

    /// Changes the state of work that has not returned, and counts its thread as abandoned if it is from now on.
    fn change(&mut self, number: u64, change: impl FnOnce(&mut WorkState)) {
        let Some(work) = self.unreturned.get_mut(&number) else { return };
        let before = *work;
        change(work);
        if work.is_left_behind() && !before.is_left_behind() {
            self.threads -= 1;
            self.abandoned += 1;
        }
    }

    /// Whether there is more work in the queue than free threads, and another thread may be started.
    fn needs_thread(&self, most: usize) -> bool {
        self.queue.len() > self.free && self.threads < most
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts threads for the work in the queue, as long as there may be more threads.
    fn start_threads(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        while state.needs_thread(self.most) {
            (state.start)(Arc::clone(self))?;
            state.threads += 1;
            state.free += 1;
        }
        Ok(())
    }

    /// Starts threads where an error cannot be returned: the next call of the pool tries again.
    fn start_threads_or_warn(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let started = self.start_threads(&mut state);
        let waiting = state.queue.len();
        // After the lock: the warning may run code of the user's.
        drop(state);
        if let Err(error) = started {
            tracing::warn!(%error, threads = self.name, waiting, "work waits for a thread, and the system gives none");
        }
    }

    fn start(self: Arc<Self>) -> io::Result<()> {
        thread::Builder::new().name(self.name.to_owned()).spawn(move || self.serve()).map(drop)
    }

    /// The loop of a thread: takes work and runs it, until there is none for a while or the pool is dropped.
    fn serve(self: Arc<Self>) {
        let mut state = self.state();
        loop {
            let waits = |state: &mut State| state.queue.is_empty() && !state.closed;
            let waited = self.changed.wait_timeout_while(state, self.linger, waits);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.free -= 1;
            let Some((number, work)) = state.queue.pop_front() else {
                state.threads -= 1;
                return;
            };
            state.change(number, |work| work.running = true);
            self.start_threads_or_warn(state);
            guard(work);
            state = self.state();
            if state.unreturned.remove(&number).is_some_and(WorkState::is_left_behind) {
                state.abandoned -= 1;
                // Another thread has replaced this one, unless none could be started.
                if !state.needs_thread(self.most) {
                    return;
                }
                state.threads += 1;
            }
            state.free += 1;
        }
    }
}

/// Runs `work`, whose panic does not end the thread.
fn guard(work: Work) {
    if let Err(thrown) = catch_unwind(AssertUnwindSafe(work)) {
        // The payload may itself panic when it is dropped, and the payload of that panic is never dropped.
        mem::forget(catch_unwind(AssertUnwindSafe(|| drop(thrown))));
    }
}

#[cfg(test)]
mod tests;
