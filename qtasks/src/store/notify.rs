//! Wake-ups: who waits for something new in a store is rung for, and looks again by itself only rarely.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::future::select;
use tokio::sync::watch;

use crate::{
    model::job::JobId,
    runtime::alarm::{Alarm, is_clock_paused},
};

/// Rings when there may be something new: work to lease, news of a job, its end, a worker that is gone, or a doubt about
/// the leases of this process.
///
/// A ring tells to look again, nothing more; there may be one too many, never one too few.
#[derive(Debug)]
pub struct Bell {
    work: watch::Sender<()>,
    lost: watch::Sender<()>,
    doubt: watch::Sender<()>,
    jobs: Mutex<Jobs>,
}

/// Who listens to jobs: those that wait for a result are not told of each step.
#[derive(Debug, Default)]
struct Jobs {
    news: Listened,
    ends: Listened,
}

#[derive(Debug, Default)]
struct Listened {
    by_job: HashMap<JobId, watch::Sender<()>>,
    sweep_at: usize,
}

impl Bell {
    /// A bell that nobody listens to yet.
    pub fn new() -> Self {
        let [work, lost, doubt] = std::array::from_fn(|_| watch::Sender::new(()));
        Self { work, lost, doubt, jobs: Mutex::default() }
    }

    /// Listens for work that can be leased.
    pub fn work(&self) -> Listener {
        Listener::of(&self.work)
    }

    /// Listens for workers that are gone, whose jobs can be taken over.
    pub fn lost(&self) -> Listener {
        Listener::of(&self.lost)
    }

    /// Listens for doubts about the leases that workers of this process hold.
    pub fn doubt(&self) -> Listener {
        Listener::of(&self.doubt)
    }

    /// Listens for news of a job: steps, progress, its state.
    pub fn job(&self, id: JobId) -> Listener {
        self.jobs().news.listen(id)
    }

    /// Listens for the end of a job.
    pub fn end(&self, id: JobId) -> Listener {
        self.jobs().ends.listen(id)
    }

    /// Tells that there may be work to lease.
    pub fn ring_work(&self) {
        self.work.send_replace(());
    }

    /// Tells that a worker may be gone. A store that cannot tell never rings; then its leases run out.
    pub fn ring_lost(&self) {
        self.lost.send_replace(());
    }

    /// Tells that others may take the leases of this process's workers before they have run out, as when the connection
    /// is lost that shows that it lives. Workers then call no handler until they have renewed them.
    pub fn ring_doubt(&self) {
        self.doubt.send_replace(());
    }

    /// Tells that there is news of these jobs.
    pub fn ring_jobs(&self, ids: impl IntoIterator<Item = JobId>) {
        self.jobs().news.ring(ids);
    }

    /// Tells that these jobs have ended. That is news of them too, and rung for by [`ring_jobs`](Self::ring_jobs).
    pub fn ring_ends(&self, ids: impl IntoIterator<Item = JobId>) {
        self.jobs().ends.ring(ids);
    }

    /// Tells everybody that there may be something new in what is stored, as after a change by another process.
    pub fn ring_all(&self) {
        self.ring_work();
        let jobs = self.jobs();
        for sender in jobs.news.by_job.values().chain(jobs.ends.by_job.values()) {
            sender.send_replace(());
        }
    }

    fn jobs(&self) -> std::sync::MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Listened {
    fn listen(&mut self, id: JobId) -> Listener {
        if self.by_job.len() >= self.sweep_at {
            self.by_job.retain(|_, sender| sender.receiver_count() > 0);
            self.sweep_at = (self.by_job.len() * 2).max(64);
        }
        Listener::of(self.by_job.entry(id).or_insert_with(|| watch::Sender::new(())))
    }

    fn ring(&self, ids: impl IntoIterator<Item = JobId>) {
        if self.by_job.is_empty() {
            return;
        }
        for id in ids {
            if let Some(sender) = self.by_job.get(&id) {
                sender.send_replace(());
            }
        }
    }
}

impl Default for Bell {
    fn default() -> Self {
        Self::new()
    }
}

/// Hears a [`Bell`].
#[derive(Debug)]
pub struct Listener {
    news: watch::Receiver<()>,
    next_look: NextLook,
}

impl Listener {
    fn of(sender: &watch::Sender<()>) -> Self {
        Self { news: sender.subscribe(), next_look: NextLook(None) }
    }

    /// Whether there was a ring since the last call; does not wait.
    pub fn rang(&mut self) -> bool {
        let rang = self.news.has_changed().unwrap_or(false);
        // Not otherwise, or a ring that comes just now would be passed over.
        if rang {
            self.news.mark_unchanged();
        }
        rang
    }

    /// Waits until it is time to look again: for a ring since the last call, or since the listener was made; and for 5
    /// seconds at most, since a ring may get lost with what has become of a server. While tokio's clock is paused, it waits
    /// for a ring alone.
    ///
    /// It needs no runtime.
    ///
    /// # Cancel safety
    ///
    /// A ring that comes while nobody waits is kept for the next call.
    pub async fn heard(&mut self) {
        let Self { news, next_look } = self;
        select(pin!(rung(news)), pin!(next_look.come())).await;
    }

    /// Waits for a ring, and for nothing else: for who is not to act without one, and to test a store.
    ///
    /// # Cancel safety
    ///
    /// As [`heard`](Self::heard).
    pub async fn rung(&mut self) {
        rung(&mut self.news).await;
    }
}

async fn rung(news: &mut watch::Receiver<()>) {
    // The sender lives in the store, which whoever listens holds on to.
    if news.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Nobody who waits looks less often than this.
const LOOK: Duration = Duration::from_secs(5);

/// When a listener looks next, whatever rings; known from its first wait on.
#[derive(Debug)]
struct NextLook(Option<Alarm>);

impl NextLook {
    async fn come(&mut self) {
        loop {
            self.0.get_or_insert_with(|| Alarm::after(pause())).await;
            self.0 = None;
            // Tests say by themselves what passes while they have paused it.
            if !is_clock_paused() {
                return;
            }
        }
    }
}

/// From four fifths of a [`LOOK`] to a whole one, evenly spread over listeners: thousands of them do not look at once.
fn pause() -> Duration {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // By the golden section, multiples of which fall into the largest gaps that those before have left.
    let place = COUNT.fetch_add(1, Relaxed).wrapping_mul(2_654_435_769);
    LOOK.mul_f64(0.8 + 0.2 * f64::from(place) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_ring_is_kept_until_it_is_heard_and_heard_once() {
        let bell = Bell::new();
        let (one, other) = (JobId::new(), JobId::new());
        let (mut first, mut second, mut work) = (bell.job(one), bell.job(other), bell.work());
        let mut lost = bell.lost();
        bell.ring_jobs([one]);
        bell.ring_jobs([one]);
        assert!(first.heard().now_or_never().is_some());
        assert!(first.heard().now_or_never().is_none());
        assert!(second.heard().now_or_never().is_none() && work.heard().now_or_never().is_none());
        bell.ring_all();
        assert!(lost.heard().now_or_never().is_none(), "what others write tells of no lost worker");
        bell.ring_lost();
        assert!(lost.heard().now_or_never().is_some());
        let mut doubt = bell.doubt();
        bell.ring_lost();
        bell.ring_all();
        assert!(doubt.heard().now_or_never().is_none());
        bell.ring_doubt();
        assert!(doubt.heard().now_or_never().is_some());
        assert!(second.heard().now_or_never().is_some() && work.heard().now_or_never().is_some());
    }

    #[test]
    fn who_waits_for_the_end_of_a_job_is_not_told_of_its_steps() {
        let (bell, id) = (Bell::new(), JobId::new());
        let (mut end, mut other) = (bell.end(id), bell.end(JobId::new()));
        bell.ring_jobs([id]);
        assert!(!end.rang());
        bell.ring_ends([id]);
        assert!(end.rang() && !other.rang());
        bell.ring_all();
        assert!(end.rang() && other.rang());
    }

    #[test]
    fn whether_it_rang_can_be_asked_once_for_each_ring() {
        let bell = Bell::new();
        let mut work = bell.work();
        assert!(!work.rang());
        bell.ring_work();
        assert!(work.rang());
        assert!(!work.rang() && work.heard().now_or_never().is_none());
    }

    #[test]
    fn who_waits_looks_again_after_five_seconds_and_not_all_at_once() {
        let mut pauses: Vec<_> = (0..10_000).map(|_| pause()).collect();
        pauses.sort();
        assert!(pauses[0] >= Duration::from_secs(4) && pauses[9_999] <= LOOK, "{:?}..{:?}", pauses[0], pauses[9_999]);
        let most = pauses.windows(100).map(|some| some[99] - some[0]).min().unwrap();
        assert!(most > Duration::from_millis(5), "a hundred look within {most:?}");
    }

    #[test]
    fn a_look_comes_without_a_runtime_and_without_a_ring() {
        let mut work = Bell::new().work();
        work.next_look.0 = Some(Alarm::after(Duration::from_millis(5)));
        futures::executor::block_on(work.heard());
        assert!(!work.rang());
        assert!(work.heard().now_or_never().is_none() && work.next_look.0.is_some(), "the next one is to come");
        let due = work.next_look.0.as_ref().map(Alarm::due);
        assert!(work.heard().now_or_never().is_none());
        assert_eq!(work.next_look.0.as_ref().map(Alarm::due), due, "a wait that was given up puts it off no further");
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_clock_is_paused_nobody_looks_without_a_ring() {
        let (bell, before) = (Bell::new(), tokio::time::Instant::now());
        let mut work = bell.work();
        work.next_look.0 = Some(Alarm::after(Duration::ZERO));
        assert!(work.heard().now_or_never().is_none());
        assert_eq!(before.elapsed(), Duration::ZERO, "nor is the clock moved");
        bell.ring_work();
        assert!(work.heard().now_or_never().is_some());
    }

    #[test]
    fn jobs_that_nobody_listens_to_are_forgotten() {
        let bell = Bell::new();
        for _ in 0..1000 {
            drop(bell.job(JobId::new()));
        }
        assert!(bell.jobs().news.by_job.len() <= 64);
    }
}
