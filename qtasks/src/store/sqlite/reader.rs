//! Connections that only read, each on a thread for blocking work.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{fault::Fault, place::Place};
use crate::error::Result;

/// A few read connections, opened when they are first needed.
pub(super) struct Readers {
    place: Place,
    idle: Mutex<Vec<Connection>>,
    seats: Semaphore,
}

/// How many read at once.
const SEATS: usize = 4;

impl Readers {
    pub(super) fn new(place: Place) -> Arc<Self> {
        Arc::new(Self { place, idle: Mutex::default(), seats: Semaphore::new(SEATS) })
    }

    /// Runs `read` on one of the connections; it sees all that was committed before.
    pub(super) async fn read<T, F>(self: &Arc<Self>, doing: &'static str, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let _seat = self.seats.acquire().await.expect("the semaphore is never closed");
        let readers = Arc::clone(self);
        let found = spawn_blocking(move || readers.with_connection(read)).await;
        found
            .unwrap_or_else(|panic| Err(Fault::Panicked(panic.to_string().into())))
            .map_err(|fault| fault.into_error(doing))
    }

    fn with_connection<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Fault> {
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.place.connect_reader()?,
        };
        // After an error the connection is closed: the next one may fare better.
        let found = read(&connection)?;
        self.idle().push(connection);
        Ok(found)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
