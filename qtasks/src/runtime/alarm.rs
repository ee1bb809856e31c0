//! Waits for a time that need no runtime: one thread of the process wakes them all.

use std::{
    collections::BTreeMap,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

/// Waits for this time.
///
/// The wait goes by tokio's clock where a test has paused that, and by the system's everywhere else: on any runtime, on one
/// without timers, and without a runtime.
///
/// # Cancel safety
///
/// Dropping it changes nothing.
pub(crate) async fn sleep(time: Duration) {
    if is_clock_paused() {
        tokio::time::sleep(time).await;
    } else {
        Alarm::after(time).await;
    }
}

/// Whether tokio's clock is paused here: only then does it differ from the system's.
pub(crate) fn is_clock_paused() -> bool {
    let before = Instant::now();
    let tokios = tokio::time::Instant::now().into_std();
    tokios < before || tokios > Instant::now()
}

/// A future that is ready from a time on, by the system's clock.
#[derive(Debug)]
pub(crate) struct Alarm {
    due: Instant,
    set: Option<Set>,
}

/// An alarm's entry among those of the process, under which its waker is removed or replaced.
#[derive(Debug)]
struct Set {
    number: u64,
    waker: Waker,
}

impl Alarm {
    /// An alarm that is ready after this time, and then wakes the task that waits for it.
    pub(crate) fn after(time: Duration) -> Self {
        let now = Instant::now();
        // A wait without end is one of a hundred years.
        let due = now.checked_add(time).unwrap_or_else(|| now + Duration::from_secs(100 * 365 * 86_400));
        Self { due, set: None }
    }

    /// When it is due.
    #[cfg(test)]
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    fn unset(&mut self) {
        if let Some(Set { number, .. }) = self.set.take() {
            ALARMS.remove(self.due, number);
        }
    }
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.due {
            self.unset();
            return Poll::Ready(());
        }
        if !self.set.as_ref().is_some_and(|set| set.waker.will_wake(context.waker())) {
            self.unset();
            let waker = context.waker().clone();
            self.set = Some(Set { number: ALARMS.add(self.due, waker.clone()), waker });
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.unset();
    }
}

static ALARMS: Alarms = Alarms { all: Mutex::new(All::new()), sooner: Condvar::new() };

/// The alarms of the process.
struct Alarms {
    all: Mutex<All>,
    sooner: Condvar,
}

struct All {
    by_time: BTreeMap<(Instant, u64), Waker>,
    /// How many alarms have been set so far, the number of the last one.
    count: u64,
    /// Whether the thread that wakes has been started.
    is_served: bool,
}

impl All {
    const fn new() -> Self {
        Self { by_time: BTreeMap::new(), count: 0, is_served: false }
    }

    fn next(&self) -> Option<Instant> {
        self.by_time.first_key_value().map(|((time, _), _)| *time)
    }

    fn take_due(&mut self, now: Instant) -> Vec<Waker> {
        let mut due = Vec::new();
        while let Some(first) = self.by_time.first_entry()
            && first.key().0 <= now
        {
            due.push(first.remove());
        }
        due
    }
}

impl Alarms {
    fn add(&'static self, due: Instant, waker: Waker) -> u64 {
        let mut all = self.all();
        all.count += 1;
        let number = all.count;
        all.by_time.insert((due, number), waker);
        if !all.is_served {
            all.is_served = self.start();
        } else if all.next() == Some(due) {
            self.sooner.notify_one();
        }
        number
    }

    fn remove(&self, due: Instant, number: u64) {
        let removed = self.all().by_time.remove(&(due, number));
        // After the lock: dropping a waker may run other code than ours.
        drop(removed);
    }

    fn start(&'static self) -> bool {
        let started = thread::Builder::new().name("qtasks-alarms".to_owned()).spawn(|| self.serve());
        if let Err(error) = &started {
            tracing::warn!(%error, "no thread for alarms; who waits is woken by what rings alone");
        }
        started.is_ok()
    }

    fn serve(&self) {
        loop {
            for waker in self.wait() {
                // A waker that panics keeps no other from being woken.
                _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
            }
        }
    }

    /// Waits until alarms are due, and takes out their wakers.
    fn wait(&self) -> Vec<Waker> {
        let mut all = self.all();
        loop {
            let now = Instant::now();
            let due = all.take_due(now);
            if !due.is_empty() {
                return due;
            }
            all = match all.next() {
                None => self.sooner.wait(all).unwrap_or_else(PoisonError::into_inner),
                Some(next) => {
                    self.sooner.wait_timeout(all, next - now).map_or_else(|poisoned| poisoned.into_inner().0, |it| it.0)
                }
            };
        }
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, executor::block_on, future::join_all};

    use super::*;

    const SHORT: Duration = Duration::from_millis(5);

    #[test]
    fn time_passes_without_a_runtime() {
        let begun = Instant::now();
        block_on(join_all((1..=20).map(|times| sleep(SHORT * times))));
        assert!(begun.elapsed() >= SHORT * 20);
    }

    #[test]
    fn time_passes_on_a_runtime_without_timers() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(sleep(SHORT));
    }

    #[test]
    fn an_alarm_that_comes_sooner_does_not_wait_for_a_later_one() {
        let mut late = Alarm::after(Duration::from_secs(3600));
        assert_eq!((&mut late).now_or_never(), None);
        block_on(sleep(SHORT));
        assert_eq!((&mut late).now_or_never(), None);
    }

    #[test]
    fn an_alarm_that_is_dropped_leaves_nothing_behind() {
        let mut alarm = Alarm::after(Duration::from_secs(7200));
        assert_eq!((&mut alarm).now_or_never(), None);
        let key = (alarm.due, alarm.set.as_ref().unwrap().number);
        assert!(ALARMS.all().by_time.contains_key(&key));
        drop(alarm);
        assert!(!ALARMS.all().by_time.contains_key(&key));
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_is_noticed_and_gone_by() {
        assert!(is_clock_paused());
        let before = tokio::time::Instant::now();
        sleep(Duration::from_secs(3600)).await;
        assert!(before.elapsed() >= Duration::from_secs(3600));
    }

    #[tokio::test]
    async fn a_clock_that_runs_is_not_taken_for_a_paused_one() {
        assert!((0..1000).all(|_| !is_clock_paused()));
        std::thread::spawn(|| assert!(!is_clock_paused())).join().unwrap();
    }
}
