//! How the thread that writes begins and ends.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    queue::{Closing, Queue},
    tables::Tables,
    wal::Wal,
    writer::{Writer, patiently},
};
use crate::{
    error::{Error, Result},
    store::{
        Notifier,
        sqlite::{
            error::{Fault, is_busy},
            files::{Files, identity_at},
            identity::Identity,
            notify::{Look, watch},
            presence::Workers,
            schema,
            url::StoreUrl,
        },
        waiters::Waiters,
    },
};

/// The store's side of the writer. When the handle is dropped, the writer ends once it has carried out its commands, and the
/// workers of the store are gone for other processes.
pub(crate) struct Handle {
    pub(crate) queue: Arc<Queue>,
    pub(crate) files: Arc<Files>,
    pub(crate) workers: Arc<Workers>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.close();
        self.workers.let_go();
    }
}

/// Starts the thread, and waits until the file is open and its tables are there.
pub(crate) async fn start(url: StoreUrl, notifier: Arc<Notifier>) -> Result<Handle> {
    const STARTING: &str = "start its writer";
    let ((ready, opened), path) = (oneshot::channel(), url.path.clone());
    let body = move || match open(url) {
        Ok(opened) => write(&opened, &notifier, ready),
        Err(error) => _ = ready.send(Err(error)),
    };
    let spawned = thread::Builder::new().name("qtasks-sqlite".to_owned()).spawn(body);
    spawned.map_err(|error| Error::store(STARTING, error))?;
    opened.await.unwrap_or_else(|_| Err(Fault::Gone.into_error(STARTING, &path)))
}

/// The connection that writes, and the file that it has open.
struct Opened {
    connection: Connection,
    url: StoreUrl,
    database: Identity,
}

fn open(url: StoreUrl) -> Result<Opened> {
    let mut connection = url.connect()?;
    let database = identity_at(&url.path)?;
    turn_on_log(&connection, &url)?;
    schema::migrate(&mut connection, &url, schema::MIGRATIONS)?;
    // From here on the thread itself waits for locks, and looks around while it does.
    connection.busy_timeout(Duration::ZERO).map_err(|error| url.explain(error))?;
    Ok(Opened { connection, url: url.absolute()?, database })
}

/// Switches to the write-ahead log. SQLite does not wait here for others that do the same.
fn turn_on_log(connection: &Connection, url: &StoreUrl) -> Result<()> {
    let turned_on = patiently(Instant::now(), url.patience, is_busy, || {
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0))
    });
    match turned_on.map_err(|error| url.explain(error))? {
        mode if mode == "wal" => Ok(()),
        mode => Err(Error::store(
            "turn on the write-ahead log",
            format!(
                "`{}` keeps its journal as `{mode}`; its volume may lack the shared memory that the log needs: move the \
                 file to a local one",
                url.path.display()
            ),
        )),
    }
}

fn write(opened: &Opened, notifier: &Arc<Notifier>, ready: oneshot::Sender<Result<Handle>>) {
    let workers = Arc::new(Workers::new(opened.url.workers()));
    let Prepared { tables, version, files } = match prepare(opened, &workers, notifier) {
        Ok(prepared) => prepared,
        Err(error) => {
            _ = ready.send(Err(error));
            return;
        }
    };
    let queue = Arc::new(Queue::new(Arc::clone(&files)));
    queue.serve();
    let _closing = Closing(&queue);
    let watcher = watch(&files.url.log(), Arc::clone(&queue));
    let look = Look::new(watcher.is_some(), Instant::now());
    // If the caller has stopped waiting, the handle is dropped at once, and the writer ends.
    _ = ready.send(Ok(Handle { queue: Arc::clone(&queue), files: Arc::clone(&files), workers }));
    let wal = Wal::new(&files.url, Instant::now());
    Writer {
        tables,
        queue: &queue,
        notifier,
        files: &files,
        look,
        wal,
        log: 0,
        is_over: false,
        waiters: Waiters::default(),
        version,
    }
    .run();
}

/// What the writer needs before it can take commands.
struct Prepared<'c> {
    tables: Tables<'c>,
    version: i64,
    files: Arc<Files>,
}

fn prepare<'c>(opened: &'c Opened, workers: &Arc<Workers>, notifier: &Arc<Notifier>) -> Result<Prepared<'c>> {
    let Opened { connection, url, database } = opened;
    let explain = |error| url.explain(error);
    let mut tables = Tables::new(connection, Arc::clone(workers)).map_err(explain)?;
    let version = tables.data_version().map_err(explain)?;
    Ok(Prepared { tables, version, files: Files::of(url.clone(), *database, Arc::clone(notifier))? })
}
