//! Wake-ups: a listener is notified when there may be something new in a store, and looks again by itself only rarely.

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

use super::Changes;
use crate::{
    model::job::JobId,
    runtime::alarm::{Alarm, is_clock_paused},
};

/// Notifies listeners when there may be something new: work to lease, a change of a job, its end, a change of notes, a worker that
/// is gone, or a doubt about the leases of this process.
///
/// A notification says to look again, nothing more; there may be one too many, never one too few.
#[derive(Debug)]
pub struct Notifier {
    work: watch::Sender<()>,
    lost: watch::Sender<()>,
    doubt: watch::Sender<()>,
    notes: watch::Sender<()>,
    jobs: Mutex<Jobs>,
}

/// The listeners of jobs: those that wait for a result are not notified of each step.
#[derive(Debug, Default)]
struct Jobs {
    changes: Listened,
    ends: Listened,
}

#[derive(Debug, Default)]
struct Listened {
    by_job: HashMap<JobId, watch::Sender<()>>,
    sweep_at: usize,
}

impl Notifier {
    /// A notifier without listeners.
    pub fn new() -> Self {
        let [work, lost, doubt, notes] = std::array::from_fn(|_| watch::Sender::new(()));
        Self { work, lost, doubt, notes, jobs: Mutex::default() }
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

    /// Listens for changes of notes.
    pub fn notes(&self) -> Listener {
        Listener::of(&self.notes)
    }

    /// Listens for changes of a job: steps, progress, its state.
    pub fn job(&self, id: JobId) -> Listener {
        self.jobs().changes.listen(id)
    }

    /// Listens for the end of a job.
    pub fn end(&self, id: JobId) -> Listener {
        self.jobs().ends.listen(id)
    }

    /// Notifies the listeners that these changes concern.
    pub fn notify(&self, changes: &Changes) {
        if changes.work {
            self.notify_work();
        }
        if changes.notes {
            self.notify_notes();
        }
        self.notify_jobs(changes.jobs.iter().copied());
        self.notify_ends(changes.ended.iter().copied());
    }

    /// Notifies of work that there may be to lease.
    pub fn notify_work(&self) {
        self.work.send_replace(());
    }

    /// Notifies that a worker may be gone. A store that cannot know never calls this; then the leases run out.
    pub fn notify_lost(&self) {
        self.lost.send_replace(());
    }

    /// Notifies that others may take the leases of this process's workers before they have run out, as when the connection
    /// is lost that shows that it lives. Workers then call no handler until they have renewed them.
    pub fn notify_doubt(&self) {
        self.doubt.send_replace(());
    }

    /// Notifies of notes that may have changed.
    pub fn notify_notes(&self) {
        self.notes.send_replace(());
    }

    /// Notifies of changes of these jobs.
    pub fn notify_jobs(&self, ids: impl IntoIterator<Item = JobId>) {
        self.jobs().changes.notify(ids);
    }

    /// Notifies of the end of these jobs. Their end is a change too: the store also calls [`notify_jobs`](Self::notify_jobs).
    pub fn notify_ends(&self, ids: impl IntoIterator<Item = JobId>) {
        self.jobs().ends.notify(ids);
    }

    /// Notifies all listeners to work, to notes and to jobs, as after a change by another process.
    pub fn notify_all(&self) {
        self.notify_work();
        self.notify_notes();
        let jobs = self.jobs();
        for sender in jobs.changes.by_job.values().chain(jobs.ends.by_job.values()) {
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

    fn notify(&self, ids: impl IntoIterator<Item = JobId>) {
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

impl Default for Notifier {
    fn default() -> Self {
        Self::new()
    }
}

/// Waits for notifications of a [`Notifier`].
#[derive(Debug)]
pub struct Listener {
    receiver: watch::Receiver<()>,
    next_look: NextLook,
}

impl Listener {
    fn of(sender: &watch::Sender<()>) -> Self {
        Self { receiver: sender.subscribe(), next_look: NextLook(None) }
    }

    /// Whether there was a notification since the last call; does not wait.
    pub fn take_notification(&mut self) -> bool {
        let notified = self.receiver.has_changed().unwrap_or(false);
        // Not otherwise, or a notification that comes just now would be passed over.
        if notified {
            self.receiver.mark_unchanged();
        }
        notified
    }

    /// Waits until it is time to look again: for a notification since the last call, or since the listener was made; and for
    /// 5 seconds at most, since a notification may get lost with a server. While tokio's clock is paused, it waits for a
    /// notification alone.
    ///
    /// It needs no runtime.
    ///
    /// # Cancel safety
    ///
    /// A notification that comes between two calls is kept for the next one.
    pub async fn wait(&mut self) {
        let Self { receiver, next_look } = self;
        select(pin!(notified(receiver)), pin!(next_look.come())).await;
    }

    /// Waits for a notification, and for nothing else: where nothing is to be done without one, and to test a store.
    ///
    /// # Cancel safety
    ///
    /// As [`wait`](Self::wait).
    pub async fn notification(&mut self) {
        notified(&mut self.receiver).await;
    }
}

async fn notified(receiver: &mut watch::Receiver<()>) {
    // The sender lives in the store, which the listener's owner holds on to.
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A listener looks at least this often.
const LOOK: Duration = Duration::from_secs(5);

/// When a listener looks next without a notification; known from its first wait on.
#[derive(Debug)]
struct NextLook(Option<Alarm>);

impl NextLook {
    async fn come(&mut self) {
        loop {
            self.0.get_or_insert_with(|| Alarm::after(pause())).await;
            self.0 = None;
            // A test that has paused the clock moves the time itself.
            if !is_clock_paused() {
                return;
            }
        }
    }
}

/// From four fifths of a [`LOOK`] to a whole one, evenly spread over listeners: thousands of them do not look at once.
fn pause() -> Duration {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    // Multiples of the golden section fall into the largest gaps between the multiples before them.
    let share = COUNT.fetch_add(1, Relaxed).wrapping_mul(2_654_435_769);
    LOOK.mul_f64(0.8 + 0.2 * f64::from(share) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_notification_is_kept_until_it_is_taken_and_taken_once() {
        let notifier = Notifier::new();
        let (one, other) = (JobId::new(), JobId::new());
        let (mut first, mut second, mut work) = (notifier.job(one), notifier.job(other), notifier.work());
        let mut lost = notifier.lost();
        notifier.notify_jobs([one]);
        notifier.notify_jobs([one]);
        assert!(first.wait().now_or_never().is_some());
        assert!(first.wait().now_or_never().is_none());
        assert!(second.wait().now_or_never().is_none() && work.wait().now_or_never().is_none());
        notifier.notify_all();
        assert!(lost.wait().now_or_never().is_none(), "what others write tells of no lost worker");
        notifier.notify_lost();
        assert!(lost.wait().now_or_never().is_some());
        let mut doubt = notifier.doubt();
        notifier.notify_lost();
        notifier.notify_all();
        assert!(doubt.wait().now_or_never().is_none());
        notifier.notify_doubt();
        assert!(doubt.wait().now_or_never().is_some());
        assert!(second.wait().now_or_never().is_some() && work.wait().now_or_never().is_some());
    }

    #[test]
    fn a_listener_for_the_end_of_a_job_is_not_notified_of_its_steps() {
        let (notifier, id) = (Notifier::new(), JobId::new());
        let (mut end, mut other) = (notifier.end(id), notifier.end(JobId::new()));
        notifier.notify_jobs([id]);
        assert!(!end.take_notification());
        notifier.notify_ends([id]);
        assert!(end.take_notification() && !other.take_notification());
        notifier.notify_all();
        assert!(end.take_notification() && other.take_notification());
    }

    #[test]
    fn each_notification_is_taken_once() {
        let notifier = Notifier::new();
        let mut work = notifier.work();
        assert!(!work.take_notification());
        notifier.notify_work();
        assert!(work.take_notification());
        assert!(!work.take_notification() && work.wait().now_or_never().is_none());
    }

    #[test]
    fn listeners_look_again_after_five_seconds_and_not_all_at_once() {
        let mut pauses: Vec<_> = (0..10_000).map(|_| pause()).collect();
        pauses.sort();
        assert!(pauses[0] >= Duration::from_secs(4) && pauses[9_999] <= LOOK, "{:?}..{:?}", pauses[0], pauses[9_999]);
        let most = pauses.windows(100).map(|some| some[99] - some[0]).min().unwrap();
        assert!(most > Duration::from_millis(5), "a hundred look within {most:?}");
    }

    #[test]
    fn a_look_comes_without_a_runtime_and_without_a_notification() {
        let mut work = Notifier::new().work();
        work.next_look.0 = Some(Alarm::after(Duration::from_millis(5)));
        futures::executor::block_on(work.wait());
        assert!(!work.take_notification());
        assert!(work.wait().now_or_never().is_none() && work.next_look.0.is_some(), "the next one is to come");
        let due = work.next_look.0.as_ref().map(Alarm::due);
        assert!(work.wait().now_or_never().is_none());
        assert_eq!(work.next_look.0.as_ref().map(Alarm::due), due, "a wait that was given up puts it off no further");
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_clock_is_paused_no_listener_looks_without_a_notification() {
        let (notifier, before) = (Notifier::new(), tokio::time::Instant::now());
        let mut work = notifier.work();
        work.next_look.0 = Some(Alarm::after(Duration::ZERO));
        assert!(work.wait().now_or_never().is_none());
        assert_eq!(before.elapsed(), Duration::ZERO, "nor is the clock moved");
        notifier.notify_work();
        assert!(work.wait().now_or_never().is_some());
    }

    #[test]
    fn jobs_without_listeners_are_forgotten() {
        let notifier = Notifier::new();
        for _ in 0..1000 {
            drop(notifier.job(JobId::new()));
        }
        assert!(notifier.jobs().changes.by_job.len() <= 64);
    }
}
