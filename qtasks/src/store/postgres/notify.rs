//! What other processes are told of, apart from the statements that it is about: within them it would hold up all others
//! that tell something, until the commit.

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
use crate::{model::job::JobId, store::Notifier};

/// News are told no more often than this.
const PAUSE: Duration = Duration::from_millis(10);
/// What more jobs than these have come to is not told of each.
const MANY: usize = 200;
/// Where so many texts have come in that none has been heard yet, they are dropped, and everything is looked at anew.
const UNHEARD: usize = 1_000;
/// Tells that there may be anything new.
const ANYTHING: &str = "- all";

/// The channel, for [`StoreUrl::sql`](super::url::StoreUrl::sql).
pub(super) const CHANNEL: &str = "qtasks.news";

/// Rings for this process at once, and has the others told.
pub(super) struct Broadcast {
    pub(super) notifier: Notifier,
    /// By which this process knows what it told itself.
    teller: String,
    untold: Mutex<Untold>,
    some: Notify,
    /// What others have told, until it is heard.
    unheard: Mutex<Vec<String>>,
    some_unheard: Notify,
}

#[derive(Default)]
struct Untold {
    /// A worker has left that held jobs.
    lost: bool,
    /// There is work, and the first of the fresh jobs, if there are some.
    work: Option<Option<Uuid>>,
    /// There is too much to tell.
    all: bool,
    jobs: HashSet<JobId>,
    ended: HashSet<JobId>,
}

impl Broadcast {
    pub(super) fn new() -> Self {
        let teller = Uuid::now_v7().simple().to_string();
        Self {
            notifier: Notifier::new(),
            teller,
            untold: Mutex::default(),
            some: Notify::new(),
            unheard: Mutex::default(),
            some_unheard: Notify::new(),
        }
    }

    /// A worker is gone, and its jobs can be taken over.
    pub(super) fn of_loss(&self) {
        self.notifier.notify_lost();
        self.untold().lost = true;
        self.some.notify_one();
    }

    /// There is work: jobs in line, or fresh ones from this one on.
    pub(super) fn of_work(&self, first: Option<Uuid>) {
        self.notifier.notify_work();
        let mut untold = self.untold();
        let before = untold.work.flatten();
        untold.work = Some(before.into_iter().chain(first).min());
        drop(untold);
        self.some.notify_one();
    }

    /// There is news of these jobs.
    pub(super) fn of_jobs(&self, ids: impl IntoIterator<Item = JobId> + Clone) {
        self.notifier.notify_jobs(ids.clone());
        self.untold().jobs.extend(ids);
        self.some.notify_one();
    }

    /// These jobs have ended, which is news of them too, told beside this.
    pub(super) fn of_ends(&self, ids: impl IntoIterator<Item = JobId> + Clone) {
        self.notifier.notify_ends(ids.clone());
        self.untold().ended.extend(ids);
        self.some.notify_one();
    }

    /// Tells the others, for as long as there is anybody to do so.
    pub(super) async fn tell(&self, database: &Database) {
        loop {
            self.some.notified().await;
            let untold = mem::take(&mut *self.untold());
            if let Err(fault) = self.say(database, &untold).await {
                tracing::debug!(%fault, "other processes were not told of news; trying again");
                self.of_all_again(&untold);
                sleep(Duration::from_secs(1)).await;
            }
            sleep(PAUSE).await;
        }
    }

    /// All others are to look for themselves, since they were not told of this.
    fn of_all_again(&self, untold: &Untold) {
        let mut next = self.untold();
        next.all = true;
        next.lost |= untold.lost;
        drop(next);
        self.some.notify_one();
    }

    async fn say(&self, database: &Database, untold: &Untold) -> Result<(), Fault> {
        // They find out what is there, so that it need not last.
        const SAY: &str = "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)";
        let (channel, text) = (database.place.sql(CHANNEL), untold.text(&self.teller));
        database.query(SAY, &[(&channel, Type::TEXT), (&text, Type::TEXT)]).await?;
        Ok(())
    }

    /// Takes in what another process has told. It is heard elsewhere: much may be told, and nothing must wait behind it.
    pub(super) fn take_in(&self, text: &str) {
        let mut unheard = self.unheard.lock().unwrap_or_else(PoisonError::into_inner);
        if unheard.len() >= UNHEARD {
            unheard.clear();
            unheard.push(ANYTHING.to_owned());
        }
        unheard.push(text.to_owned());
        drop(unheard);
        self.some_unheard.notify_one();
    }

    /// Takes in that there may be anything new.
    pub(super) fn take_in_anything(&self) {
        self.take_in(ANYTHING);
    }

    /// Hears what was taken in, as long as there is anything to come.
    pub(super) async fn listen(&self, watermark: &Watermark) {
        loop {
            self.some_unheard.notified().await;
            let unheard = mem::take(&mut *self.unheard.lock().unwrap_or_else(PoisonError::into_inner));
            for text in &unheard {
                self.hear(text, watermark);
            }
        }
    }

    /// Rings for what another process has told, and has it known where work waits.
    fn hear(&self, text: &str, watermark: &Watermark) {
        let mut words = text.split(' ');
        if words.next() == Some(&self.teller) {
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
                _ => {
                    watermark.forget();
                    self.notifier.notify_all();
                }
            }
        }
    }

    fn untold(&self) -> MutexGuard<'_, Untold> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Untold {
    fn text(&self, teller: &str) -> String {
        let mut text = teller.to_owned();
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
        one.of_jobs([first]);
        one.of_ends([second]);
        let text = one.untold().text(&one.teller);
        let (mut broadcast, mut end, mut work) =
            (other.notifier.job(first), other.notifier.end(second), other.notifier.work());
        other.hear(&text, &Watermark::default());
        assert!(broadcast.take_notification() && end.take_notification() && !work.take_notification(), "{text}");
        let mut own = one.notifier.job(first);
        one.hear(&text, &Watermark::default());
        assert!(own.notification().now_or_never().is_none());
        other.hear("- work", &Watermark::default());
        assert!(work.take_notification() && !broadcast.take_notification());
    }

    #[test]
    fn news_of_many_jobs_fit_into_what_postgres_takes() {
        let broadcast = Broadcast::new();
        broadcast.of_jobs((0..MANY).map(|_| JobId::new()).collect::<Vec<_>>());
        broadcast.of_work(Some(Uuid::nil()));
        let text = broadcast.untold().text(&broadcast.teller);
        assert!(text.len() < 8_000 && text.contains(" job:"));
        broadcast.of_jobs([JobId::new()]);
        assert_eq!(broadcast.untold().text("me"), "me all");
        let other = Broadcast::new();
        let (mut job, mut work) = (other.notifier.job(JobId::new()), other.notifier.work());
        other.hear("me all", &Watermark::default());
        assert!(job.take_notification() && work.take_notification());
    }

    #[test]
    fn a_flood_of_news_filled_the_memory() {
        let broadcast = Broadcast::new();
        let (mut job, mut work) = (broadcast.notifier.job(JobId::new()), broadcast.notifier.work());
        for _ in 0..3 * UNHEARD {
            broadcast.take_in(&format!("they job:{}", Uuid::now_v7().simple()));
        }
        assert!(broadcast.unheard.lock().unwrap().len() <= UNHEARD);
        assert!(!job.take_notification(), "it is heard elsewhere");
        assert!(broadcast.listen(&Watermark::default()).now_or_never().is_none());
        assert!(job.take_notification() && work.take_notification(), "what was dropped may have been about anything");
        assert!(broadcast.unheard.lock().unwrap().is_empty());
    }

    #[test]
    fn a_worker_that_left_is_told_of_whatever_else_there_is() {
        let (broadcast, other) = (Broadcast::new(), Broadcast::new());
        let (mut here, mut there) = (broadcast.notifier.lost(), other.notifier.lost());
        broadcast.of_jobs((0..=MANY).map(|_| JobId::new()).collect::<Vec<_>>());
        broadcast.of_loss();
        let untold = mem::take(&mut *broadcast.untold());
        // It could not be told, and is told again.
        broadcast.of_all_again(&untold);
        let text = broadcast.untold().text("they");
        assert_eq!(text, "they lost all");
        other.hear(&text, &Watermark::default());
        assert!(here.take_notification() && there.take_notification());
    }
}
