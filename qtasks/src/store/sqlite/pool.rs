//! Connections that only read, each on a thread of the store's own: neither a busy runtime nor blocking work of the
//! application holds up a read.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{
    error::{Error, Result},
    runtime::threads::Pool,
    store::sqlite::{error::Fault, files::Files, holding::Holding},
};

/// A few read connections, opened when they are first needed.
pub(crate) struct Readers {
    files: Arc<Files>,
    idle: Mutex<Vec<Connection>>,
    threads: Pool,
    pub(crate) holding: Holding,
}

/// How many reads are made at once.
const SEATS: usize = 4;

impl Readers {
    pub(crate) fn new(files: Arc<Files>) -> Arc<Self> {
        Arc::new(Self {
            files,
            idle: Mutex::default(),
            threads: Pool::new("qtasks-reader", SEATS),
            holding: Holding::default(),
        })
    }

    /// Runs `read` on one of the connections; it sees all that was committed before.
    ///
    /// # Cancel safety
    ///
    /// A read that has not begun when the future is dropped is not made.
    pub(crate) async fn read<T, F>(self: &Arc<Self>, doing: &'static str, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let _hold = self.holding.hold();
        let (answer, found) = oneshot::channel();
        let readers = Arc::clone(self);
        let work = move || {
            if !answer.is_closed() {
                // The caller may have stopped waiting.
                _ = answer.send(readers.with_connection(read));
            }
        };
        self.threads.run(work).map_err(|error| Error::store(doing, error))?;
        found.await.unwrap_or(Err(Fault::Gone)).map_err(|fault| self.files.explain(fault, doing))
    }

    fn with_connection<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Fault> {
        let found = self.found(read);
        // The check comes first: if the files have changed, that may be why nothing was found, and what was found is no answer.
        self.files.check()?;
        found
    }

    fn found<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Fault> {
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => {
                // Where its log was taken away, a connection would make another one: then the writer could not save what the
                // old one holds.
                self.files.look()?;
                self.files.url.connect_reader()?
            }
        };
        // After an error or a panic the connection is closed: the next one may fare better.
        let found = catch_unwind(AssertUnwindSafe(|| read(&connection)));
        let found = found.map_err(|panic| Fault::panicked(&*panic))??;
        self.idle().push(connection);
        Ok(found)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        sync::mpsc,
        task::{Context, Waker},
        time::Duration,
    };

    use super::*;
    use crate::{
        error::chain,
        store::{
            Budget, Find, Store,
            sqlite::fixture::{soon, store},
        },
    };

    #[test]
    fn blocking_work_of_the_application_holds_up_no_read() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(2).build().unwrap();
        let (end, ended) = mpsc::channel::<()>();
        let ended = Arc::new(Mutex::new(ended));
        runtime.block_on(async {
            for _ in 0..520 {
                let ended = Arc::clone(&ended);
                #[expect(clippy::disallowed_methods, reason = "what an application may do")]
                tokio::task::spawn_blocking(move || _ = ended.lock().unwrap().recv());
            }
            let (_folder, store) = store().await;
            assert_eq!(soon(store.find(Find::default().oldest_first(), None, Budget::jobs(9))).await.unwrap().jobs, []);
            drop(end);
        });
    }

    #[test]
    fn a_read_needs_no_runtime() {
        let (_folder, store) = futures::executor::block_on(store());
        assert_eq!(
            futures::executor::block_on(store.find(Find::default().oldest_first(), None, Budget::jobs(9)))
                .unwrap()
                .jobs,
            []
        );
    }

    type Read<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

    /// A read that waits until the other end of the channel is dropped, and was polled once.
    fn held_up<T: Send + 'static>(
        readers: &Arc<Readers>,
        gate: &Arc<Mutex<mpsc::Receiver<()>>>,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> Read<T> {
        let (readers, gate) = (Arc::clone(readers), Arc::clone(gate));
        let mut call: Read<T> = Box::pin(async move {
            let read = move |_: &Connection| {
                _ = gate.lock().unwrap().recv();
                Ok(read())
            };
            readers.read("test", read).await
        });
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        call
    }

    fn gate() -> (mpsc::Sender<()>, Arc<Mutex<mpsc::Receiver<()>>>) {
        let (open, gate) = mpsc::channel();
        (open, Arc::new(Mutex::new(gate)))
    }

    #[tokio::test]
    async fn a_read_whose_future_is_not_polled_again_holds_up_no_other() {
        let (_folder, store) = store().await;
        let ((open, gate), (report, reports)) = (gate(), mpsc::channel());
        let begin = |number| {
            let report = report.clone();
            held_up(&store.readers, &gate, move || report.send(number).unwrap())
        };
        let asked: Vec<_> = (0..2 * SEATS).map(begin).collect();
        drop(open);
        let done = asked.iter().map(|_| reports.recv_timeout(Duration::from_secs(20)).unwrap());
        let mut done: Vec<_> = done.collect();
        done.sort_unstable();
        assert_eq!(done, (0..asked.len()).collect::<Vec<_>>(), "no call has been polled since");
        assert_eq!(soon(store.readers.read("test", |_| Ok(9))).await.unwrap(), 9);
        for call in asked {
            soon(call).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_read_that_was_given_up_in_line_is_left_out() {
        let (_folder, store) = store().await;
        let ((open, gate), (report, reports)) = (gate(), mpsc::channel());
        let begin = |_| held_up(&store.readers, &gate, || ());
        let stuck: Vec<_> = (0..SEATS).map(begin).collect();
        drop(held_up(&store.readers, &gate, move || report.send(()).unwrap()));
        drop(open);
        for call in stuck {
            soon(call).await.unwrap();
        }
        let reported = reports.recv_timeout(Duration::from_secs(20));
        assert_eq!(reported, Err(mpsc::RecvTimeoutError::Disconnected), "it is dropped without being run");
        soon(store.readers.read("test", |_| Ok(()))).await.unwrap();
    }

    #[tokio::test]
    async fn a_read_that_panics_says_so_and_hurts_no_other() {
        let (_folder, store) = store().await;
        for _ in 0..2 * SEATS {
            let error = soon(store.readers.read("test", |_| -> rusqlite::Result<()> { panic!("on purpose") })).await;
            let path = store.readers.files.url.path.display();
            let said = format!("the store could not test: `{path}`: the store panicked: on purpose");
            assert_eq!(chain(&error.unwrap_err()), said);
        }
        assert_eq!(soon(store.find(Find::default().oldest_first(), None, Budget::jobs(9))).await.unwrap().jobs, []);
    }
}
