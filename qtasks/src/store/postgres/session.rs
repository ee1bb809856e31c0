//! The one connection of a store that its calls do not share. On it workers renew their leases, and notifications of other
//! processes come in.
//!
//! On this connection each worker holds a lock of the server, which is free at the moment when the connection ends, whatever
//! ends it. Other processes [look](super::lookout) for free locks. When the connection is lost it is made again at once, and
//! until then the leases of its workers are in doubt.
//!
//! All of this runs on a thread of its own, so that renewals do not wait for calls.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::join;
use tokio::{
    sync::{Mutex as AsyncMutex, Notify, OwnedMutexGuard, watch},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::{
    encoding,
    error::Fault,
    line::Line,
    lookout::{self, Lookout},
    notify::{Broadcast, CHANNEL},
    pool::{Database, Parameter, Statement, UNLIMITED},
    presence::{instance, sign},
    schema::FORMAT,
    url::StoreUrl,
};
use crate::{
    model::job::{JobId, Lease, WorkerId},
    store::Renewed,
};

/// How often the session looks at the server and at the locks of other workers.
const EVERY: Duration = Duration::from_millis(400);
/// After this many looks all listeners look for themselves, in case a notification was lost.
const POLLED_EVERY: u32 = 12;
/// How long the session waits before it connects again: at first, and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];

/// How long a try to connect again may take. A server that does not answer may have been replaced meanwhile.
const ANEW: Duration = Duration::from_secs(2);

/// Reads the format of the tables.
const TABLES: &str = "SELECT max(format) FROM qtasks.format";

/// Renews a worker, and takes its lock if it is not held on this connection yet; gives whether it is. Nothing is written to
/// tables of another format.
const RENEW: &str = concat!(
    "INSERT INTO qtasks.workers (id, sign, signed, beat, instance, lost)
    SELECT $1, $2, CASE WHEN $3 THEN true ELSE pg_try_advisory_lock($2) END, $4, ",
    instance!(),
    ", false FROM (SELECT max(format) AS format FROM qtasks.format) f WHERE f.format = $5
    ON CONFLICT (id) DO UPDATE
        SET signed = excluded.signed, beat = excluded.beat, instance = excluded.instance, lost = false
    RETURNING signed"
);

/// Gives the time, and the jobs that a worker holds. It is a statement of its own, so that it sees the jobs that another
/// process took while the renewal waited for it.
const HELD: &str = "
    SELECT c.now, j.id, j.attempt
    FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::int8 AS now) c
    LEFT JOIN qtasks.jobs j ON j.id = ANY (ARRAY(SELECT unnest(l.jobs) FROM qtasks.leases l WHERE l.worker = $1))
        AND j.state = 2 AND j.worker = $1";

const LOCK: &str = "SELECT w.id, pg_try_advisory_lock(w.sign) FROM unnest($1::uuid[], $2::int8[]) AS w(id, sign)";
const UNLOCK: &str = "SELECT pg_advisory_unlock(sign) FROM unnest($1::int8[]) AS w(sign)";

/// The sessions of a store, one after the other, and the workers of this process.
pub(super) struct Sessions {
    living: Mutex<HashSet<WorkerId>>,
    /// Held while a worker renews or leaves. Each worker has its own.
    turns: Mutex<HashMap<WorkerId, Arc<AsyncMutex<()>>>>,
    worker_left: Notify,
    /// The present session, or why there is none.
    current: watch::Sender<Result<Arc<Session>, Fault>>,
}

impl Sessions {
    pub(super) fn new() -> Self {
        let current = watch::Sender::new(Err(Fault::away("it is being made")));
        Self { living: Mutex::default(), turns: Mutex::default(), worker_left: Notify::new(), current }
    }

    /// Renews the leases of a worker, which counts as one of this process from now on. If the connection is lost meanwhile,
    /// the leases are renewed on the next one.
    pub(super) async fn renew(&self, url: &StoreUrl, worker: WorkerId, beat: u64) -> Result<Renewed, Fault> {
        let _turn = self.turn(worker).await;
        self.living().insert(worker);
        let (begun, patience) = (Instant::now(), url.patience_of_sessions());
        loop {
            let session = self.session(patience.saturating_sub(begun.elapsed())).await?;
            match session.renew(url, worker, beat).await {
                Err(_) if session.line.has_ended() && begun.elapsed() < patience => {}
                came => return came,
            }
        }
    }

    /// Stops showing that a worker lives: its lock is freed. The last renewal of the worker may be under way although its caller
    /// is gone, and would bring the worker back. So this waits for it, and other renewals wait for the guard that this gives.
    pub(super) async fn hide(&self, worker: WorkerId) -> OwnedMutexGuard<()> {
        let turn = self.turn(worker).await;
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).remove(&worker);
        self.living().remove(&worker);
        self.worker_left.notify_one();
        turn
    }

    async fn turn(&self, worker: WorkerId) -> OwnedMutexGuard<()> {
        let turn = Arc::clone(self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(worker).or_default());
        turn.lock_owned().await
    }

    async fn session(&self, patience: Duration) -> Result<Arc<Session>, Fault> {
        let mut current = self.current.subscribe();
        let is_good =
            |current: &Result<Arc<Session>, Fault>| current.as_ref().is_ok_and(|session| !session.line.has_ended());
        if let Ok(Ok(current)) = timeout(patience, current.wait_for(is_good)).await {
            return current.clone();
        }
        let fault = self.current.borrow().as_ref().err().cloned();
        Err(fault.unwrap_or(Fault::Silent(patience)))
    }

    fn now_there_is(&self, current: Result<Arc<Session>, Fault>) {
        drop(self.current.send_replace(current));
    }

    fn living(&self) -> MutexGuard<'_, HashSet<WorkerId>> {
        self.living.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves a session, and begins another one when it is lost.
pub(super) async fn keep(sessions: Arc<Sessions>, database: Arc<Database>, broadcast: Arc<Broadcast>, first: Session) {
    let (mut session, mut lookout) = (Arc::new(first), Lookout::default());
    loop {
        sessions.now_there_is(Ok(Arc::clone(&session)));
        // Notifications may have been missed meanwhile.
        broadcast.take_in_anything();
        let fault = session.serve(&sessions, &database.place, &broadcast, lookout).await;
        tracing::warn!(%fault, "the connection on which leases are renewed and news come in is lost; making it anew");
        sessions.now_there_is(Err(fault));
        broadcast.notifier.notify_doubt();
        // The old connection is closed only afterwards: if the server still has it, it has the locks too, and no other
        // process takes the workers for gone.
        let (next, begun) = again(&sessions, &database.place, &broadcast).await;
        if next.instance != session.instance {
            // The other connections may still lead to the old server.
            database.give_up_older(begun);
        }
        (session, lookout) = (Arc::new(next), Lookout::anew());
    }
}

/// Begins a session as soon as the server can be reached. Gives also when the session was begun.
async fn again(sessions: &Sessions, url: &StoreUrl, broadcast: &Arc<Broadcast>) -> (Session, Instant) {
    let [mut pause, longest] = PAUSES;
    loop {
        sleep(pause).await;
        let begun = Instant::now();
        match Session::open(url, url.patience.min(ANEW), broadcast).await {
            Ok(session) => return (session, begun),
            Err(fault) => {
                tracing::debug!(%fault, "the connection on which leases are renewed cannot be made; trying again");
                sessions.now_there_is(Err(fault));
            }
        }
        pause = (pause * 2).min(longest);
    }
}

/// A connection on which workers hold their locks and renew.
pub(super) struct Session {
    line: Line,
    /// The server that the connection leads to.
    instance: String,
    /// The workers whose locks are held on the connection.
    locked: Mutex<HashSet<WorkerId>>,
}

impl Session {
    /// Begins a session on a server that can be written to.
    pub(super) async fn open(url: &StoreUrl, patience: Duration, broadcast: &Arc<Broadcast>) -> Result<Self, Fault> {
        let receiver = Arc::clone(broadcast);
        let mut line = Line::open(url, patience, move |text| receiver.take_in(text)).await?;
        let channel = url.sql(CHANNEL).replace('"', "\"\"");
        line.execute(&format!("{UNLIMITED}; LISTEN \"{channel}\"")).await?;
        let instance = lookout::instance(&line, url).await?;
        line.limit(url.patience_of_sessions());
        Ok(Self { line, instance, locked: Mutex::default() })
    }

    /// Serves until the connection is lost, and says why it was lost.
    async fn serve(&self, sessions: &Sessions, url: &StoreUrl, broadcast: &Broadcast, mut lookout: Lookout) -> Fault {
        let mut looks = interval(EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked = 0_u32;
        loop {
            let came = tokio::select! {
                biased;
                fault = self.line.ended() => return fault,
                () = sessions.worker_left.notified() => self.lock(sessions, url).await,
                _ = looks.tick() => {
                    looked = looked.wrapping_add(1);
                    if looked.is_multiple_of(POLLED_EVERY) {
                        broadcast.take_in_anything();
                    }
                    self.look(sessions, url, broadcast, &mut lookout).await
                }
            };
            if let Err(fault) = came {
                tracing::debug!(%fault, "other workers could not be looked at");
            }
        }
    }

    async fn look(
        &self,
        sessions: &Sessions,
        url: &StoreUrl,
        broadcast: &Broadcast,
        lookout: &mut Lookout,
    ) -> Result<(), Fault> {
        self.lock(sessions, url).await?;
        let watches = !sessions.living().is_empty();
        if lookout.look(&self.line, &self.instance, url, watches).await? {
            broadcast.notifier.notify_lost();
        }
        Ok(())
    }

    /// Takes the locks of the workers of this process that are not held yet, and frees those of workers that have left.
    async fn lock(&self, sessions: &Sessions, url: &StoreUrl) -> Result<(), Fault> {
        let living = sessions.living().clone();
        let (free, held): (Vec<_>, Vec<_>) = {
            let locked = self.locked();
            let (free, held) = (living.difference(&locked), locked.difference(&living));
            (free.copied().collect(), held.copied().collect())
        };
        if !held.is_empty() {
            let signs: Vec<_> = held.iter().copied().map(sign).collect();
            let unlock = Statement { sql: UNLOCK, parameters: &[(&signs, Type::INT8_ARRAY)] };
            self.line.query(url, &unlock).await?;
            self.locked().retain(|worker| !held.contains(worker));
        }
        if free.is_empty() {
            return Ok(());
        }
        let (ids, signs): (Vec<_>, Vec<_>) =
            free.iter().map(|worker| (encoding::worker_id(*worker), sign(*worker))).unzip();
        let parameters: [Parameter<'_>; 2] = [(&ids, Type::UUID_ARRAY), (&signs, Type::INT8_ARRAY)];
        for row in self.line.query(url, &Statement { sql: LOCK, parameters: &parameters }).await? {
            // If the last connection was lost, the server may not have noticed yet; then the next look tries again.
            if encoding::get(&row, 1)? {
                self.locked().insert(encoding::worker(&row, 0)?);
            }
        }
        Ok(())
    }

    /// Renews the leases of a worker, in a single round trip.
    async fn renew(&self, url: &StoreUrl, worker: WorkerId, beat: u64) -> Result<Renewed, Fault> {
        let (id, sign, beat) = (encoding::worker_id(worker), sign(worker), beat.cast_signed());
        let locked = self.locked().contains(&worker);
        let parameters: [Parameter<'_>; 5] =
            [(&id, Type::UUID), (&sign, Type::INT8), (&locked, Type::BOOL), (&beat, Type::INT8), (&FORMAT, Type::INT8)];
        let tables = Statement { sql: TABLES, parameters: &[] };
        let renew = Statement { sql: RENEW, parameters: &parameters };
        let held = Statement { sql: HELD, parameters: &parameters[..1] };
        let asked = async {
            let (tables, renewed, held) =
                join!(self.line.send(url, &tables), self.line.send(url, &renew), self.line.send(url, &held));
            let found = tables?.first().map_or(Ok(None), |row| encoding::get::<Option<i64>>(row, 0))?;
            if let Some(found) = found.filter(|found| *found > FORMAT) {
                return Err(Fault::Newer { place: url.to_string(), found, known: FORMAT });
            }
            let Some(signed) = renewed?.first().map(|row| encoding::get(row, 0)).transpose()? else {
                return Err(Fault::refused("its tables are those of an older qtasks"));
            };
            Ok((signed, held?))
        };
        let (signed, held) = self.line.ask(asked).await.map_err(|fault| fault.explained(url))?;
        if signed {
            self.locked().insert(worker);
        }
        renewed(worker, &held)
    }

    fn locked(&self) -> MutexGuard<'_, HashSet<WorkerId>> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the rows that [`HELD`] gives.
fn renewed(worker: WorkerId, rows: &[Row]) -> Result<Renewed, Fault> {
    let now = rows.first().map(|row| encoding::get(row, 0)).transpose()?.map(encoding::time);
    let mut leases = Vec::with_capacity(rows.len());
    for row in rows {
        // Where the worker holds nothing, there is a row for the time alone.
        if let Some(job) = encoding::get::<Option<Uuid>>(row, 1)? {
            let job = JobId::from_bytes(job.into_bytes());
            leases.push(Lease { job, attempt: encoding::small(row, 2)?, worker });
        }
    }
    Ok(Renewed { leases, now })
}

/// Has all listeners look for themselves now and then, where notifications cannot come in.
pub(super) async fn poll(broadcast: Arc<Broadcast>) {
    loop {
        sleep(EVERY * POLLED_EVERY).await;
        broadcast.take_in_anything();
    }
}
