//! The one connection of a store that is its own: on it, other processes are heard, and workers show that they live.
//!
//! A worker has a lock of the server's on it, which is free at the moment when the connection ends, whatever ends it.
//! A connection may also end by itself, and be made again at once; until then the leases of its workers are in doubt. So
//! whoever sees that a lock is free looks again after 0.4 s, and only when it is still free takes the worker for gone: its
//! row says so from then on.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream::poll_fn};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_postgres::{AsyncMessage, Client};
use uuid::Uuid;

use super::{database::in_time, fault::Fault, news::CHANNEL, row, store::Inner, tls};
use crate::job::WorkerId;

/// How often the locks of others are looked at.
const EVERY: Duration = Duration::from_millis(400);
/// At each so many looks everybody looks for what they were not told.
const POLLED_EVERY: u32 = 12;
/// So many looks after the connection was lost nobody is taken for gone: others may have lost theirs too, as when the server
/// was started again.
const FORBEARING: u32 = 8;
/// How long an answer may take before the connection is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// The `until` of a worker that was found to be gone.
pub(super) const LOST: i64 = i64::MIN;

/// The number of the lock of a worker.
pub(super) fn sign(worker: WorkerId) -> i64 {
    let [.., a, b, c, d, e, f, g, h] = worker.to_bytes();
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

macro_rules! unlocked {
    () => {
        "w.signed AND NOT EXISTS (
            SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND l.classid::bigint = (w.sign >> 32) & 4294967295 AND l.objid::bigint = w.sign & 4294967295)"
    };
}

const WATCH: &str = concat!("SELECT w.id, w.until = $1 FROM qtasks.workers w WHERE ", unlocked!());

const JUDGE: &str = concat!(
    "UPDATE qtasks.workers w SET until = $1 WHERE w.id = ANY($2) AND w.until <> $1 AND ",
    unlocked!(),
    " RETURNING w.id"
);

/// Of workers that are gone nothing is left once nobody has their jobs.
const FORGET: &str = "
    DELETE FROM qtasks.workers w WHERE w.until = $1
        AND NOT EXISTS (SELECT FROM qtasks.jobs j WHERE j.state = 2 AND j.worker = w.id)";

/// Which workers of this process show that they live.
pub(super) struct Signs {
    wanted: Mutex<HashSet<WorkerId>>,
    changed: Notify,
    /// Those who do; nothing while there is no connection.
    shown: watch::Sender<Option<HashSet<WorkerId>>>,
}

impl Signs {
    pub(super) fn new() -> Self {
        Self { wanted: Mutex::default(), changed: Notify::new(), shown: watch::Sender::new(None) }
    }

    /// Has `worker` show that it lives, from now on; gives whether it does. If not, only time tells that it is gone.
    pub(super) async fn show(&self, worker: WorkerId) -> bool {
        if self.wanted().insert(worker) {
            self.changed.notify_one();
        }
        let mut shown = self.shown.subscribe();
        let known = shown.wait_for(|shown| shown.as_ref().is_none_or(|shown| shown.contains(&worker)));
        match timeout(EVERY, known).await {
            Ok(Ok(shown)) => shown.is_some(),
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// Has `worker` show it no more.
    pub(super) fn hide(&self, worker: WorkerId) {
        self.wanted().remove(&worker);
        self.changed.notify_one();
    }

    fn wanted(&self) -> MutexGuard<'_, HashSet<WorkerId>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the connection, and makes it anew when it is lost.
pub(super) async fn keep(inner: Arc<Inner>, first: Session) {
    let mut session = Some(first);
    let mut pause = Duration::from_millis(50);
    loop {
        let next = match session.take() {
            Some(session) => Ok(session),
            None => Session::open(&inner).await.map(|session| Session { forbearing: FORBEARING, ..session }),
        };
        let fault = match next {
            Ok(session) => {
                pause = Duration::from_millis(50);
                // Much may have been told meanwhile.
                inner.look_anew();
                let fault = session.serve(&inner).await;
                inner.signs.shown.send_replace(None);
                inner.news.bell.ring_doubt();
                fault
            }
            Err(fault) => fault,
        };
        tracing::warn!(?fault, "the connection on which news come in is lost; making it anew");
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

/// A connection on which others are heard.
pub(super) struct Session {
    client: Client,
    heard: mpsc::UnboundedReceiver<String>,
    shown: HashSet<WorkerId>,
    /// Workers whose lock was free when it was last looked at,
    missing: HashSet<WorkerId>,
    /// and those of them that are known to be gone.
    lost: HashSet<WorkerId>,
    /// At how many more looks nobody is taken for gone.
    forbearing: u32,
}

impl Session {
    pub(super) async fn open(inner: &Inner) -> Result<Self, Fault> {
        let place = &inner.database.place;
        let connector = tls::connector(&place.trust).map_err(Fault::away)?;
        let (client, mut connection) = in_time(place.patience, async {
            place.config.connect(connector).await.map_err(|error| Fault::connecting(error, place))
        })
        .await?;
        let (hear, heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut messages = poll_fn(move |context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notification(notification) = message
                    && hear.send(notification.payload().to_owned()).is_err()
                {
                    return;
                }
            }
        });
        let channel = place.sql(CHANNEL).replace('"', "\"\"");
        in_time(PATIENCE, async { Ok(client.batch_execute(&format!("LISTEN \"{channel}\"")).await?) }).await?;
        Ok(Self { client, heard, shown: HashSet::new(), missing: HashSet::new(), lost: HashSet::new(), forbearing: 0 })
    }

    /// Serves until the connection is lost, and says why.
    async fn serve(mut self, inner: &Inner) -> Fault {
        let mut looks = interval(EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked = 0_u32;
        loop {
            let came = tokio::select! {
                biased;
                () = inner.signs.changed.notified() => self.show(inner).await,
                told = self.heard.recv() => match told {
                    Some(text) => { inner.news.hear(&text, &inner.front); Ok(()) }
                    None => Err(Fault::away("the server has closed it")),
                },
                _ = looks.tick() => {
                    looked = looked.wrapping_add(1);
                    if looked.is_multiple_of(POLLED_EVERY) {
                        inner.look_anew();
                    }
                    self.look(inner).await
                }
            };
            if let Err(fault) = came {
                return fault;
            }
        }
    }

    /// Takes the locks of workers that are to show that they live, and frees those of others.
    async fn show(&mut self, inner: &Inner) -> Result<(), Fault> {
        let wanted = inner.signs.wanted().clone();
        let hidden: Vec<_> = self.shown.difference(&wanted).copied().collect();
        for worker in hidden {
            self.ask("SELECT pg_advisory_unlock($1)", worker).await?;
            self.shown.remove(&worker);
        }
        for worker in wanted {
            // Where the connection was lost, the server may not know of that yet; then this is tried again.
            if !self.shown.contains(&worker) && self.ask("SELECT pg_try_advisory_lock($1)", worker).await? {
                self.shown.insert(worker);
            }
        }
        inner.signs.shown.send_replace(Some(self.shown.clone()));
        Ok(())
    }

    async fn ask(&self, sql: &str, worker: WorkerId) -> Result<bool, Fault> {
        let asked = async { Ok(self.client.query_one(sql, &[&sign(worker)]).await?) };
        row::get(&in_time(PATIENCE, asked).await?, 0)
    }

    /// Looks for workers of others that are gone, if there is a worker here that could take their jobs.
    async fn look(&mut self, inner: &Inner) -> Result<(), Fault> {
        let wanted = inner.signs.wanted().len();
        if wanted != self.shown.len() || inner.signs.shown.borrow().is_none() {
            self.show(inner).await?;
        }
        if wanted == 0 || self.forbearing > 0 {
            self.forbearing = self.forbearing.saturating_sub(1);
            return Ok(());
        }
        let sql = inner.database.place.sql(WATCH);
        let rows = in_time(PATIENCE, async { Ok(self.client.query(&*sql, &[&LOST]).await?) }).await?;
        let (mut missing, mut lost) = (HashSet::new(), HashSet::new());
        for row in &rows {
            let set = if row::get(row, 1)? { &mut lost } else { &mut missing };
            set.insert(row::worker(row, 0)?);
        }
        let still: Vec<_> = missing.intersection(&self.missing).map(|worker| row::worker_id(*worker)).collect();
        if !still.is_empty() {
            lost.extend(self.judge(inner, &still).await?);
        }
        if !lost.is_subset(&self.lost) {
            inner.news.bell.ring_lost();
        }
        if !lost.is_empty() {
            let sql = inner.database.place.sql(FORGET);
            in_time(PATIENCE, async { Ok(self.client.execute(&*sql, &[&LOST]).await?) }).await?;
        }
        (self.missing, self.lost) = (missing, lost);
        Ok(())
    }

    async fn judge(&self, inner: &Inner, workers: &[Uuid]) -> Result<Vec<WorkerId>, Fault> {
        let sql = inner.database.place.sql(JUDGE);
        let rows = in_time(PATIENCE, async { Ok(self.client.query(&*sql, &[&LOST, &workers]).await?) }).await?;
        rows.iter().map(|row| row::worker(row, 0)).collect()
    }
}

/// Looks for news now and then, where they cannot come in.
pub(super) async fn poll(inner: Arc<Inner>) {
    loop {
        sleep(EVERY * POLLED_EVERY).await;
        inner.look_anew();
    }
}
