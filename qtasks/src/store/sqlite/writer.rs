//! The one thread that writes: it takes all commands that wait, applies them in one transaction, and answers once they
//! are durable. So a hundred callers share one wait for the disk.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    fault::{Fault, is_busy},
    place::Place,
    queue::{Closing, Command, Queue},
    schema,
    tables::{News, Tables},
    watch::{Look, watch},
};
use crate::{
    error::{Error, Result},
    store::Bell,
};

/// Starts the thread; gives the place with its absolute path once the file is open and its tables are there.
pub(super) async fn start(place: Place, queue: Arc<Queue>, bell: Arc<Bell>) -> Result<Place> {
    let (ready, opened) = oneshot::channel();
    let body = move || {
        let _closing = Closing(&queue);
        match open(place) {
            Ok((connection, place)) => {
                let begun = write(&connection, &place, &queue, &bell, ready);
                if let Err(error) = begun {
                    tracing::error!(%error, "the writer of the store could not start");
                }
            }
            Err(error) => _ = ready.send(Err(error)),
        }
    };
    let spawned = thread::Builder::new().name("qtasks-sqlite".to_owned()).spawn(body);
    spawned.map_err(|error| Error::store("start its writer", error))?;
    opened.await.unwrap_or_else(|_| Err(Fault::Gone.into_error("start its writer")))
}

fn open(place: Place) -> Result<(Connection, Place)> {
    let mut connection = place.connect()?;
    turn_on_log(&connection, place.patience).map_err(|error| place.explain(error))?;
    schema::migrate(&mut connection, &place, schema::MIGRATIONS)?;
    // From here on the thread itself waits for locks, and looks around while it does.
    connection.busy_timeout(Duration::ZERO).map_err(|error| place.explain(error))?;
    Ok((connection, place.absolute()?))
}

/// Switches to the write-ahead log. SQLite does not wait here for others that do the same.
fn turn_on_log(connection: &Connection, patience: Duration) -> rusqlite::Result<()> {
    let since = Instant::now();
    patiently(since, patience, || {
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0)).map(drop)
    })
}

fn write(
    connection: &Connection,
    place: &Place,
    queue: &Arc<Queue>,
    bell: &Bell,
    ready: oneshot::Sender<Result<Place>>,
) -> Result<(), Fault> {
    let mut tables = Tables::new(connection)?;
    let version = tables.data_version()?;
    let watcher = watch(&place.log(), Arc::clone(queue));
    let look = Look::new(watcher.is_some(), Instant::now());
    _ = ready.send(Ok(place.clone()));
    Writer { tables, queue, bell, patience: place.patience, look, version }.run();
    Ok(())
}

struct Writer<'a> {
    tables: Tables<'a>,
    queue: &'a Queue,
    bell: &'a Bell,
    patience: Duration,
    look: Look,
    /// The data version at the last look.
    version: i64,
}

impl Writer<'_> {
    fn run(mut self) {
        let mut expected = 0;
        loop {
            let taken = self.queue.take(self.look.next(), expected, GATHER);
            expected = taken.batch.len();
            if !taken.batch.is_empty() {
                self.carry_out(taken.batch);
            }
            if taken.ended {
                return;
            }
            if taken.touched {
                self.look.soon();
            }
            if self.look.is_due(Instant::now()) {
                self.look();
            }
        }
    }

    /// Makes the changes in one transaction, or, where that fails, each in its own.
    fn carry_out(&mut self, mut batch: Vec<Box<dyn Command>>) {
        match self.transact(&mut batch) {
            Ok(news) => {
                answer(batch, None);
                self.tell(news);
            }
            Err(fault @ Fault::Locked { .. }) => answer(batch, Some(fault)),
            Err(fault) if batch.len() == 1 => answer(batch, Some(fault)),
            Err(_) => batch.into_iter().for_each(|command| self.carry_out(vec![command])),
        }
    }

    fn transact(&mut self, batch: &mut [Box<dyn Command>]) -> Result<News, Fault> {
        let since = batch.iter().map(|command| command.since()).min().unwrap_or_else(Instant::now);
        patiently(since, self.patience, || self.tables.begin())
            .map_err(|error| if is_busy(&error) { Fault::Locked { waited: self.patience } } else { error.into() })?;
        let apply = || batch.iter_mut().try_for_each(|command| command.apply(&mut self.tables));
        let applied = catch_unwind(AssertUnwindSafe(apply)).unwrap_or_else(|panic| Err(Fault::panicked(&*panic)));
        let committed = applied.and_then(|()| self.tables.commit());
        if committed.is_err() {
            self.tables.rollback();
        }
        committed
    }

    fn tell(&self, news: News) {
        if news.work {
            self.bell.ring_work();
        }
        self.bell.ring_jobs(news.jobs);
    }

    /// Rings for everybody when another connection has committed something.
    fn look(&mut self) {
        match self.tables.data_version() {
            Ok(version) if version == self.version => {}
            Ok(version) => {
                self.version = version;
                self.bell.ring_all();
            }
            Err(error) => tracing::debug!(%error, "could not look for changes of other processes"),
        }
    }
}

fn answer(batch: Vec<Box<dyn Command>>, fault: Option<Fault>) {
    for command in batch {
        command.answer(fault.clone());
    }
}

/// How long the writer waits for callers that it has just answered to come back, so that they share the next
/// transaction too.
const GATHER: Duration = Duration::from_micros(100);

/// Tries again while somebody else holds a lock, until `patience` has passed `since` then.
fn patiently<T>(
    since: Instant,
    patience: Duration,
    mut attempt: impl FnMut() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let mut pause = Duration::from_micros(100);
    loop {
        match attempt() {
            Err(error) if is_busy(&error) && since.elapsed() < patience => {
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(5));
            }
            done => return done,
        }
    }
}
