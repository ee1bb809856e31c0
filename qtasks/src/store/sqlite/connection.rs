//! How a connection to the file is opened, and what keeps it from being opened.

use std::{
    fs,
    path::{self, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use super::{
    access,
    batcher::wal,
    error::is_busy,
    files::about,
    url::{OPENING, StoreUrl, refuse},
};
use crate::error::{Error, Result};

impl StoreUrl {
    /// Opens the connection that writes, and makes the file where there is none.
    pub(super) fn connect(&self) -> Result<Connection> {
        let path = self.path.display();
        if !self.folder().is_dir() {
            return refuse(format!("the folder `{}` does not exist", self.folder().display()));
        }
        match fs::metadata(&self.path) {
            Ok(found) if found.is_dir() => return refuse(format!("`{path}` is a folder")),
            Ok(found) if !found.is_file() => return refuse(format!("`{path}` is no file")),
            Err(_) if !self.creates => {
                return refuse(format!("`{path}` does not exist; with `mode=rwc`, or without `mode`, it is made"));
            }
            _ => {}
        }
        if access::is_mount_point(&self.path) {
            return refuse(format!(
                "`{path}` is mounted by itself, so that SQLite's log beside it is not that of the programs which see the \
                 file elsewhere, and jobs are lost; mount its folder instead"
            ));
        }
        let connection = self.connected().map_err(|error| self.explain(error))?;
        self.check_rights(&connection)?;
        let names = access::names(&self.path);
        if names > 1 {
            tracing::warn!(
                %path,
                names,
                "the database has a second name, a hard link; programs that open it by different names lose jobs"
            );
        }
        Ok(connection)
    }

    /// Checks that this program may write to the file and to its log.
    fn check_rights(&self, connection: &Connection) -> Result<()> {
        let url = Self { path: self.resolved()?, ..self.clone() };
        match access::refusal(&url) {
            Some(why) => refuse(why),
            None if connection.is_readonly(rusqlite::MAIN_DB).map_err(|error| self.explain(error))? => {
                refuse(format!("`{}` can be read, and not be written to", self.path.display()))
            }
            None => Ok(()),
        }
    }

    fn connected(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(&self.path, self.flags())?;
        connection.busy_timeout(self.patience.min(Duration::from_secs(86_400)))?;
        connection.pragma_update(None, "synchronous", self.synchronous as i64)?;
        connection.pragma_update(None, "temp_store", "memory")?;
        // Balancing a tree makes SQLite look through its whole cache at the commit: a large one costs more than it saves.
        connection.pragma_update(None, "cache_size", -8_192)?;
        // A rare checkpoint writes a page once that was changed a thousand times.
        connection.pragma_update(None, "wal_autocheckpoint", wal::TOO_MANY_PAGES)?;
        connection.pragma_update(None, "journal_size_limit", wal::LARGEST)?;
        keep_plans(&connection)?;
        Ok(connection)
    }

    fn flags(&self) -> OpenFlags {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        if self.creates { flags | OpenFlags::SQLITE_OPEN_CREATE } else { flags }
    }

    /// Opens a connection that only reads.
    pub(super) fn connect_reader(&self) -> rusqlite::Result<Connection> {
        let connection = self.connect_to_existing(self.patience)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }

    /// Opens a connection that reads, and waits for no lock. It may take the write lock, but writes nothing.
    pub(super) fn connect_renewer(&self) -> rusqlite::Result<Connection> {
        self.connect_to_existing(Duration::ZERO)
    }

    fn connect_to_existing(&self, patience: Duration) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(patience.min(Duration::from_secs(86_400)))?;
        keep_plans(&connection)?;
        Ok(connection)
    }

    /// The URL with absolute paths, which hold whatever folder the program works in later.
    pub(super) fn absolute(self) -> Result<Self> {
        let named = path::absolute(&self.named).map_err(|error| Error::store(OPENING, about(&self.named, error)))?;
        Ok(Self { path: self.resolved()?, named, ..self })
    }

    /// Where the file is, whatever links lead there. SQLite has its log there too.
    fn resolved(&self) -> Result<PathBuf> {
        fs::canonicalize(&self.path).map_err(|error| Error::store(OPENING, about(&self.path, error)))
    }

    /// Says what kept the file from being opened.
    pub(super) fn explain(&self, error: rusqlite::Error) -> Error {
        let path = self.path.display();
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Error::ForeignStore {
                store: path.to_string(),
                why: "the file is not a SQLite database, or it is encrypted".to_owned(),
            },
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly) => {
                Error::store(OPENING, access::refusal(self).unwrap_or_else(|| format!("`{path}`: {error}")))
            }
            _ if is_busy(&error) => Error::store(OPENING, format!("`{path}` is locked by another process: {error}")),
            _ => Error::store(OPENING, format!("`{path}`: {error}")),
        }
    }
}

/// Keeps SQLite from compiling a statement anew when values are bound to it, in case these make another plan better.
fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop)
}
