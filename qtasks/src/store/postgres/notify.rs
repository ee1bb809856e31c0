//! Notifications between processes. They are sent apart from the statements that they are about: within these, a notification
//! would hold up all other processes that send one, until the commit.

use std::{
    collections::HashSet,
    fmt::Write as _,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::sleep};
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{error::Fault, pool::Database, watermark::Watermark};
use crate::{
    model::job::JobId,
    store::{Changes, Notifier},
};

/// Notifications are sent no more often than once in this time.
const PAUSE: Duration = Duration::from_millis(10);
/// When more jobs than this have changed, the notification does not name each.
const MANY: usize = 200;
/// When this many texts have come in and not been handled yet, they are dropped, and all listeners look for themselves.
const MOST_RECEIVED: usize = 1_000;
/// The text which says that anything may have changed.
const ANYTHING: &str = "- all";

/// The channel, for [`StoreUrl::sql`](super::url::StoreUrl::sql).
pub(super) const CHANNEL: &str = "qtasks.news";

/// Notifies this process at once, and the others a little later.
pub(super) struct Broadcast {
    pub(super) notifier: Notifier,
    /// Marks the notifications of this process, so that it passes over its own.
    sender: String,
    unsent: Mutex<Unsent>,
    some_unsent: Notify,
    /// The texts that other processes have sent, until they are handled.
    received: Mutex<Vec<String>>,
    some_received: Notify,
}

#[derive(Default)]
struct Unsent {
    /// Whether a worker has left that held jobs.
    lost: bool,
    /// Whether there is work, and the first of the fresh jobs, if there are some.
    work: Option<Option<Uuid>>,
    /// Whether the others are to look at everything, since there is too much to name.
    all: bool,
    /// Whether notes have changed.
    notes: bool,
    jobs: HashSet<JobId>,
    ended: HashSet<JobId>,
}

impl Broadcast {
    pub(super) fn new() -> Self {
        let sender = Uuid::now_v7().simple().to_string();
        Self {
            notifier: Notifier::new(),
            sender,
            unsent: Mutex::default(),
            some_unsent: Notify::new(),
            received: Mutex::default(),
            some_received: Notify::new(),
        }
    }

    /// Notifies that a worker is gone, and its jobs can be taken over.
    pub(super) fn of_loss(&self) {
        self.notifier.notify_lost();
        self.unsent().lost = true;
        self.some_unsent.notify_one();
    }

    /// Notifies that there is work: jobs in line, or fresh ones from `first` on.
    pub(super) fn of_work(&self, first: Option<Uuid>) {
        self.notifier.notify_work();
        let mut unsent = self.unsent();
        let before = unsent.work.flatten();
        unsent.work = Some(before.into_iter().chain(first).min());
        drop(unsent);
        self.some_unsent.notify_one();
    }

    /// Notifies of these changes. If fresh jobs are among them, [`of_work`](Self::of_work) names the first.
    pub(super) fn of(&self, changes: &Changes) {
        self.notifier.notify(changes);
        let mut unsent = self.unsent();
        if changes.work {
            unsent.work.get_or_insert_default();
        }
        unsent.notes |= changes.notes;
        unsent.jobs.extend(&changes.jobs);
        unsent.ended.extend(&changes.ended);
        drop(unsent);
        self.some_unsent.notify_one();
    }

    /// Sends notifications to the other processes, for as long as the store is open.
    pub(super) async fn publish(&self, database: &Database) {
        loop {
            self.some_unsent.notified().await;
            let unsent = mem::take(&mut *self.unsent());
            if let Err(fault) = self.send(database, &unsent).await {
                tracing::debug!(%fault, "other processes were not told of news; trying again");
                self.of_all_again(&unsent);
                sleep(Duration::from_secs(1)).await;
            }
            sleep(PAUSE).await;
        }
    }

    /// Has all other processes look for themselves, since this notification could not be sent.
    fn of_all_again(&self, unsent: &Unsent) {
        let mut next = self.unsent();
        next.all = true;
        next.lost |= unsent.lost;
        drop(next);
        self.some_unsent.notify_one();
    }

    async fn send(&self, database: &Database, unsent: &Unsent) -> Result<(), Fault> {
        // The other processes look at the tables anyway, so the notification need not be durable.
        const NOTIFY: &str = "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)";
        let (channel, text) = (database.place.sql(CHANNEL), unsent.text(&self.sender));
        database.query(NOTIFY, &[(&channel, Type::TEXT), (&text, Type::TEXT)]).await?;
        Ok(())
    }

    /// Takes in a text that another process has sent. It is handled elsewhere: there may be many, and no answer must wait
    /// behind them.
    pub(super) fn take_in(&self, text: &str) {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        if received.len() >= MOST_RECEIVED {
            received.clear();
            received.push(ANYTHING.to_owned());
        }
        received.push(text.to_owned());
        drop(received);
        self.some_received.notify_one();
    }

    /// Takes in that anything may have changed.
    pub(super) fn take_in_anything(&self) {
        self.take_in(ANYTHING);
    }

    /// Handles the texts that were taken in, for as long as the store is open.
    pub(super) async fn listen(&self, watermark: &Watermark) {
        loop {
            self.some_received.notified().await;
            let received = mem::take(&mut *self.received.lock().unwrap_or_else(PoisonError::into_inner));
            for text in &received {
                self.handle(text, watermark);
            }
        }
    }

    /// Notifies listeners of what another process has sent, and lets the watermark know of new jobs.
    fn handle(&self, text: &str, watermark: &Watermark) {
        let mut words = text.split(' ');
        if words.next() == Some(&self.sender) {
            return;
        }
        for word in words {
            match (word.split_once(':'), word) {
                (Some(("job", id)), _) if let Ok(id) = Uuid::parse_str(id) => {
                    self.notifier.notify_jobs([JobId::from_bytes(id.into_bytes())]);
                }
                (Some(("end", id)), _) if let Ok(id) = Uuid::parse_str(id) => {
                    self.notifier.notify_ends([JobId::from_bytes(id.into_bytes())]);
                }
                (Some(("work", first)), _) if let Ok(first) = Uuid::parse_str(first) => {
                    watermark.came(first);
                    self.notifier.notify_work();
                }
                (None, "lost") => self.notifier.notify_lost(),
                (None, "work") => self.notifier.notify_work(),
                (None, "notes") => self.notifier.notify_notes(),
                _ => {
                    watermark.forget();
                    self.notifier.notify_all();
                }
            }
        }
    }

    fn unsent(&self) -> MutexGuard<'_, Unsent> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unsent {
    fn text(&self, sender: &str) -> String {
        let mut text = sender.to_owned();
        if self.lost {
            text.push_str(" lost");
        }
        if self.all || self.jobs.len() + self.ended.len() > MANY {
            text.push_str(" all");
            return text;
        }
        match self.work {
            Some(Some(first)) => _ = write!(text, " work:{}", first.simple()),
            Some(None) => text.push_str(" work"),
            None => {}
        }
        if self.notes {
            text.push_str(" notes");
        }
        for (kind, ids) in [("job", &self.jobs), ("end", &self.ended)] {
            for id in ids {
                _ = write!(text, " {kind}:{}", Uuid::from_bytes(id.to_bytes()).simple());
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn what_one_process_tells_another_hears_and_it_does_not_hear_itself() {
        let (one, other) = (Broadcast::new(), Broadcast::new());
        let (first, second) = (JobId::new(), JobId::new());
        one.of(&Changes::progressed([first]));
        one.of(&Changes { ended: vec![second], ..Changes::default() });
        let text = one.unsent().text(&one.sender);
        let (mut broadcast, mut end, mut work) =
            (other.notifier.job(first), other.notifier.end(second), other.notifier.work());
        other.handle(&text, &Watermark::default());
        assert!(broadcast.take_notification() && end.take_notification() && !work.take_notification(), "{text}");
        let mut own = one.notifier.job(first);
        one.handle(&text, &Watermark::default());
        assert!(own.notification().now_or_never().is_none());
        other.handle("- work", &Watermark::default());
        assert!(work.take_notification() && !broadcast.take_notification());
        let mut notes = other.notifier.notes();
        one.of(&Changes { notes: true, ..Changes::default() });
        let text = mem::take(&mut *one.unsent()).text(&one.sender);
        other.handle(&text, &Watermark::default());
        assert!(notes.take_notification() && !work.take_notification(), "{text}");
        other.handle("- all", &Watermark::default());
        assert!(notes.take_notification());
    }

    #[test]
    fn news_of_many_jobs_fit_into_what_postgres_takes() {
        let broadcast = Broadcast::new();
        broadcast.of(&Changes::progressed((0..MANY).map(|_| JobId::new())));
        broadcast.of_work(Some(Uuid::nil()));
        let text = broadcast.unsent().text(&broadcast.sender);
        assert!(text.len() < 8_000 && text.contains(" job:"));
        broadcast.of(&Changes::progressed([JobId::new()]));
        assert_eq!(broadcast.unsent().text("me"), "me all");
        let other = Broadcast::new();
        let (mut job, mut work) = (other.notifier.job(JobId::new()), other.notifier.work());
        other.handle("me all", &Watermark::default());
        assert!(job.take_notification() && work.take_notification());
    }

    #[test]
    fn a_flood_of_news_filled_the_memory() {
        let broadcast = Broadcast::new();
        let (mut job, mut work) = (broadcast.notifier.job(JobId::new()), broadcast.notifier.work());
        for _ in 0..3 * MOST_RECEIVED {
            broadcast.take_in(&format!("they job:{}", Uuid::now_v7().simple()));
        }
        assert!(broadcast.received.lock().unwrap().len() <= MOST_RECEIVED);
        assert!(!job.take_notification(), "it is heard elsewhere");
        assert!(broadcast.listen(&Watermark::default()).now_or_never().is_none());
        assert!(job.take_notification() && work.take_notification(), "what was dropped may have been about anything");
        assert!(broadcast.received.lock().unwrap().is_empty());
    }

    #[test]
    fn a_worker_that_left_is_told_of_whatever_else_there_is() {
        let (broadcast, other) = (Broadcast::new(), Broadcast::new());
        let (mut here, mut there) = (broadcast.notifier.lost(), other.notifier.lost());
        broadcast.of(&Changes::progressed((0..=MANY).map(|_| JobId::new())));
        broadcast.of_loss();
        let unsent = mem::take(&mut *broadcast.unsent());
        // It could not be sent, and is sent again.
        broadcast.of_all_again(&unsent);
        let text = broadcast.unsent().text("they");
        assert_eq!(text, "they lost all");
        other.handle(&text, &Watermark::default());
        assert!(here.take_notification() && there.take_notification());
    }
}
