//! What a pool runs, when, and on how many threads.

use std::{
    sync::{
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread::ThreadId,
    time::Instant,
};

use super::*;

/// Waits for what must come to be soon.
fn soon(what: &str, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(30), "{what}");
        thread::yield_now();
    }
}

impl Pool {
    /// How many threads count, are free and are abandoned.
    fn counts(&self) -> [usize; 3] {
        let state = self.shared.state();
        [state.threads, state.free, state.abandoned]
    }

    fn comes_to(&self, counts: [usize; 3]) {
        soon(&format!("{:?} does not come to {counts:?}", self.counts()), || self.counts() == counts);
    }

    /// Lets the system give no more threads, or give threads again.
    fn set_start(&self, start: fn(Arc<Shared>) -> io::Result<()>) {
        self.shared.state().start = start;
    }
}

fn no_start(_: Arc<Shared>) -> io::Result<()> {
    Err(io::ErrorKind::WouldBlock.into())
}

/// Work that runs until the test ends it.
struct Stuck {
    ticket: Ticket,
    begun: mpsc::Receiver<ThreadId>,
    end: mpsc::Sender<()>,
}

impl Stuck {
    fn given_to(pool: &Pool) -> Self {
        let ((began, begun), (end, ended)) = (mpsc::channel(), mpsc::channel());
        let work = move || {
            began.send(thread::current().id()).unwrap();
            ended.recv().unwrap();
        };
        Self { ticket: pool.run(work).unwrap(), begun, end }
    }

    fn begun(&self) -> ThreadId {
        self.begun.recv_timeout(Duration::from_secs(30)).expect("the work begins")
    }

    fn has_begun(&self) -> bool {
        self.begun.try_recv().is_ok()
    }

    fn end(self) {
        self.end.send(()).unwrap();
    }
}

/// Runs work that returns at once, and waits for it.
fn run(pool: &Pool) -> ThreadId {
    let (sender, ran) = mpsc::channel();
    pool.run(move || sender.send(thread::current().id()).unwrap()).unwrap();
    ran.recv_timeout(Duration::from_secs(30)).expect("the work is run")
}

#[test]
fn as_much_work_as_may_runs_at_a_time_and_the_rest_waits_in_line() {
    let pool = Pool::new("test", 2);
    let [one, other, third, fourth] = [(); 4].map(|()| Stuck::given_to(&pool));
    let first = one.begun();
    assert_ne!(first, other.begun());
    assert!(!third.has_begun() && !fourth.has_begun());
    one.end();
    assert_eq!(third.begun(), first, "the thread that is free takes the next in line");
    assert!(!fourth.has_begun());
    third.end();
    fourth.begun();
    assert_eq!(pool.counts(), [2, 0, 0]);
    fourth.end();
    other.end();
    pool.comes_to([2, 2, 0]);
}

#[test]
fn a_thread_without_work_is_used_again() {
    let pool = Pool::new("test", 9);
    let first = run(&pool);
    for _ in 0..100 {
        pool.comes_to([1, 1, 0]);
        assert_eq!(run(&pool), first);
    }
}

#[test]
fn a_thread_without_work_ends_after_a_while_and_another_is_started_when_needed() {
    let pool = Pool::lingering("test", 2, Duration::ZERO);
    for _ in 0..100 {
        run(&pool);
        pool.comes_to([0, 0, 0]);
    }
}

#[test]
fn threads_end_with_the_pool_and_not_before_all_work_is_done() {
    let pool = Pool::new("test", 1);
    let shared = Arc::downgrade(&pool.shared);
    let stuck = Stuck::given_to(&pool);
    stuck.begun();
    let (sender, ran) = mpsc::channel();
    for number in 0..10 {
        let sender = sender.clone();
        pool.run(move || sender.send(number).unwrap()).unwrap();
    }
    drop((pool, sender));
    stuck.end();
    assert_eq!(ran.iter().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    soon("threads do not end", || shared.strong_count() == 0);
}

#[test]
fn idle_threads_end_at_once_with_the_pool() {
    let pool = Pool::lingering("test", 9, Duration::from_secs(3600));
    let shared = Arc::downgrade(&pool.shared);
    run(&pool);
    pool.comes_to([1, 1, 0]);
    drop(pool);
    soon("the thread does not end", || shared.strong_count() == 0);
}

#[test]
fn a_panic_ends_the_work_and_nothing_else() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose, again");
        }
    }
    let pool = Pool::new("test", 1);
    let first = run(&pool);
    pool.run(|| panic!("on purpose")).unwrap();
    pool.run(|| std::panic::panic_any(Bomb)).unwrap();
    assert_eq!(run(&pool), first);
    pool.comes_to([1, 1, 0]);
}

#[test]
fn five_hundred_pieces_of_abandoned_work_do_not_hold_up_the_next() {
    let pool = Pool::new("test", 3);
    let mut stuck = Vec::new();
    for number in 0..500 {
        let work = Stuck::given_to(&pool);
        // Some before they may have begun, and some twice.
        if number % 2 == 0 {
            work.begun();
        }
        work.ticket.abandon();
        if number % 3 == 0 {
            work.ticket.abandon();
        }
        stuck.push(work);
    }
    run(&pool);
    soon("the work does not begin", || pool.abandoned() == 500);
    let [threads, _, abandoned] = pool.counts();
    assert!(threads <= 3 && abandoned == 500, "{threads} threads count");
    stuck.into_iter().for_each(Stuck::end);
    soon("abandoned work that returns is still counted", || pool.abandoned() == 0);
    let working = [(); 3].map(|()| Stuck::given_to(&pool));
    working.iter().for_each(|work| _ = work.begun());
    assert_eq!(pool.counts(), [3, 0, 0]);
    working.into_iter().for_each(Stuck::end);
}

#[test]
fn the_thread_of_abandoned_work_ends_when_that_returns() {
    let pool = Pool::new("test", 1);
    let stuck = Stuck::given_to(&pool);
    let first = stuck.begun();
    let next = Stuck::given_to(&pool);
    assert!(!next.has_begun());
    stuck.ticket.abandon();
    assert_ne!(next.begun(), first, "another thread runs what waits");
    assert_eq!(pool.counts(), [1, 0, 1]);
    stuck.end();
    pool.comes_to([1, 0, 0]);
    next.end();
    pool.comes_to([1, 1, 0]);
}

#[test]
fn to_abandon_what_has_returned_changes_nothing() {
    let pool = Pool::new("test", 2);
    let stuck = Stuck::given_to(&pool);
    stuck.begun();
    let Stuck { ticket, end, .. } = stuck;
    end.send(()).unwrap();
    pool.comes_to([1, 1, 0]);
    ticket.abandon();
    drop(ticket);
    assert_eq!(pool.counts(), [1, 1, 0]);
    run(&pool);
}

#[test]
fn work_that_is_abandoned_in_line_runs_when_its_turn_comes_and_does_not_count() {
    let pool = Pool::new("test", 1);
    let [first, second] = [(); 2].map(|()| Stuck::given_to(&pool));
    first.begun();
    second.ticket.abandon();
    assert_eq!((pool.counts(), second.has_begun()), ([1, 0, 0], false));
    first.end();
    second.begun();
    pool.comes_to([0, 0, 1]);
    run(&pool);
    second.end();
    pool.comes_to([1, 1, 0]);
}

#[test]
fn without_any_thread_the_error_is_given_and_the_work_dropped() {
    let pool = Pool::new("test", 1);
    pool.set_start(no_start);
    let (sender, ran) = mpsc::channel::<()>();
    let error = pool.run(move || sender.send(()).unwrap()).err().expect("no thread runs it");
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(ran.try_recv(), Err(mpsc::TryRecvError::Disconnected), "the work is dropped");
    pool.set_start(Shared::start);
    run(&pool);
}

#[test]
fn where_no_further_thread_is_given_the_work_waits_for_one_that_is_there() {
    let pool = Pool::new("test", 9);
    let stuck = Stuck::given_to(&pool);
    let first = stuck.begun();
    pool.set_start(no_start);
    let waiting = Stuck::given_to(&pool);
    assert_eq!((pool.counts(), waiting.has_begun()), ([1, 0, 0], false));
    stuck.end();
    assert_eq!(waiting.begun(), first);
    waiting.end();
}

#[test]
fn a_thread_that_was_abandoned_and_could_not_be_replaced_runs_what_waits() {
    let pool = Pool::new("test", 1);
    let [stuck, waiting] = [(); 2].map(|()| Stuck::given_to(&pool));
    let first = stuck.begun();
    pool.set_start(no_start);
    stuck.ticket.abandon();
    assert_eq!(pool.counts(), [0, 0, 1]);
    pool.run(|| ()).err().expect("no thread that counts could run it");
    stuck.end();
    assert_eq!(waiting.begun(), first);
    assert_eq!(pool.counts(), [1, 0, 0]);
    waiting.end();
    pool.comes_to([1, 1, 0]);
}

#[test]
fn what_could_not_be_started_is_started_with_the_next() {
    let pool = Pool::new("test", 1);
    let [stuck, waiting] = [(); 2].map(|()| Stuck::given_to(&pool));
    stuck.begun();
    pool.set_start(no_start);
    stuck.ticket.abandon();
    pool.set_start(Shared::start);
    let last = Stuck::given_to(&pool);
    waiting.begun();
    waiting.end();
    last.begun();
    last.end();
    stuck.end();
    pool.comes_to([1, 1, 0]);
}

#[test]
fn all_work_is_run_once_also_when_many_give_and_abandon_it() {
    const EACH: usize = 500;
    let pool = Pool::lingering("test", 4, Duration::from_micros(50));
    let ran: Arc<Vec<_>> = Arc::new((0..4 * EACH).map(|_| AtomicUsize::new(0)).collect());
    thread::scope(|scope| {
        for giver in 0..4 {
            let (pool, ran) = (&pool, &ran);
            scope.spawn(move || {
                for number in giver * EACH..(giver + 1) * EACH {
                    let ran = Arc::clone(ran);
                    let ticket = pool.run(move || _ = ran[number].fetch_add(1, SeqCst)).unwrap();
                    if number % 3 == 0 {
                        ticket.abandon();
                    }
                }
            });
        }
    });
    pool.comes_to([0, 0, 0]);
    assert!(ran.iter().all(|times| times.load(SeqCst) == 1));
    assert!(pool.shared.state().unreturned.is_empty());
}
