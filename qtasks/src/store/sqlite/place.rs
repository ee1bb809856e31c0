//! Which file, and how: `sqlite:PATH?synchronous=normal&busy=10`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use super::fault::is_busy;
use crate::error::{Error, Result};

const OPENING: &str = "open its file";

/// What the URL of a store says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    synchronous: Synchronous,
    /// How long a lock of another connection is waited out.
    pub(super) patience: Duration,
}

/// The values of SQLite's `PRAGMA synchronous`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Synchronous {
    Off = 0,
    Normal = 1,
    Full = 2,
}

impl Place {
    pub(super) fn parse(url: &str) -> Result<Self> {
        let rest = url.strip_prefix("sqlite:").unwrap_or(url);
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        if path.is_empty() || path == ":memory:" {
            return refuse(format!("`{url}` names no file; say `sqlite:qtasks.db`, or `memory:` to keep nothing"));
        }
        let mut place = Self { path: path.into(), synchronous: Synchronous::Full, patience: Duration::from_secs(30) };
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            place.set(parameter)?;
        }
        Ok(place)
    }

    fn set(&mut self, parameter: &str) -> Result<()> {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match (name, value) {
            ("synchronous", "full") => self.synchronous = Synchronous::Full,
            ("synchronous", "normal") => self.synchronous = Synchronous::Normal,
            ("synchronous", "off") => self.synchronous = Synchronous::Off,
            ("synchronous", _) => return refuse(format!("`synchronous` is `full` or `normal`, not `{value}`")),
            ("busy", _) => match value.parse() {
                Ok(seconds) => self.patience = Duration::from_secs(seconds),
                Err(_) => return refuse(format!("`busy` is a number of seconds, not `{value}`")),
            },
            _ => {
                return refuse(format!(
                    "no parameter `{name}`; there are `synchronous=full|normal` and `busy=SECONDS`"
                ));
            }
        }
        Ok(())
    }

    /// Opens the connection that writes, and makes the file where there is none.
    pub(super) fn connect(&self) -> Result<Connection> {
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()) {
            return refuse(format!("the folder `{}` does not exist", folder.display()));
        }
        if self.path.is_dir() {
            return refuse(format!("`{}` is a folder", self.path.display()));
        }
        self.connected().map_err(|error| self.explain(error))
    }

    fn connected(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open(&self.path)?;
        connection.busy_timeout(self.patience.min(Duration::from_secs(86_400)))?;
        connection.pragma_update(None, "synchronous", self.synchronous as i64)?;
        connection.pragma_update(None, "temp_store", "memory")?;
        // Balancing a tree makes SQLite look through its whole cache at the commit: a large one costs more than it saves.
        connection.pragma_update(None, "cache_size", -8_192)?;
        // A rare checkpoint writes a page once that was changed a thousand times; the log stays below 64 MiB or so.
        connection.pragma_update(None, "wal_autocheckpoint", 8_000)?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        Ok(connection)
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
        // Else SQLite compiles a statement anew whenever values are bound to it, in case they make a partial index fit.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok(connection)
    }

    /// The same place, from whichever folder the program works later.
    pub(super) fn absolute(self) -> Result<Self> {
        let path = fs::canonicalize(&self.path).map_err(|error| Error::store(OPENING, error))?;
        Ok(Self { path, ..self })
    }

    /// The write-ahead log beside the file.
    pub(super) fn log(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push("-wal");
        path.into()
    }

    /// The folder in which workers show that they live.
    pub(super) fn workers(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push("-workers");
        path.into()
    }

    pub(super) fn explain(&self, error: rusqlite::Error) -> Error {
        explain(&self.path, error)
    }
}

/// Says what kept the file from being opened.
fn explain(path: &Path, error: rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => Error::ForeignStore {
            place: path.display().to_string(),
            why: "the file is not a SQLite database, or it is encrypted".to_owned(),
        },
        _ if is_busy(&error) => {
            Error::store(OPENING, format!("`{}` is locked by another process: {error}", path.display()))
        }
        _ => Error::store(OPENING, format!("`{}`: {error}", path.display())),
    }
}

fn refuse<T>(why: String) -> Result<T> {
    Err(Error::store(OPENING, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    fn refused(url: &str) -> String {
        chain(&Place::parse(url).and_then(|place| place.connect()).unwrap_err())
    }

    #[test]
    fn urls_and_plain_paths_name_a_file() {
        for url in ["sqlite:qtasks.db", "sqlite://qtasks.db", "qtasks.db", "sqlite:qtasks.db?synchronous=full&busy=30"]
        {
            let place = Place::parse(url).unwrap();
            assert_eq!(place.path, Path::new("qtasks.db"), "{url}");
            assert_eq!((place.synchronous, place.patience), (Synchronous::Full, Duration::from_secs(30)), "{url}");
        }
        assert_eq!(Place::parse("sqlite:/a/x.db").unwrap().path, Path::new("/a/x.db"));
        assert_eq!(Place::parse("sqlite:///a/x.db").unwrap().path, Path::new("/a/x.db"));
        let place = Place::parse("sqlite:x.db?synchronous=normal&busy=2").unwrap();
        assert_eq!((place.synchronous, place.patience), (Synchronous::Normal, Duration::from_secs(2)));
    }

    #[test]
    fn commits_wait_for_the_disk_unless_told_otherwise() {
        let folder = tempfile::TempDir::new().unwrap();
        for (parameters, level) in [("", 2), ("?synchronous=full", 2), ("?synchronous=normal", 1)] {
            let url = format!("sqlite:{}{parameters}", folder.path().join("jobs.db").display());
            let connection = Place::parse(&url).unwrap().connect().unwrap();
            let found: i64 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
            assert_eq!(found, level, "{parameters}");
        }
    }

    #[test]
    fn what_a_url_cannot_mean_is_said() {
        for (url, said) in [
            ("sqlite:x.db?sync=off", "no parameter `sync`; there are `synchronous=full|normal` and `busy=SECONDS`"),
            ("sqlite:x.db?synchronous=maybe", "`synchronous` is `full` or `normal`, not `maybe`"),
            ("sqlite:x.db?busy=long", "`busy` is a number of seconds, not `long`"),
            ("sqlite:", "`sqlite:` names no file; say `sqlite:qtasks.db`, or `memory:` to keep nothing"),
            (
                "sqlite::memory:",
                "`sqlite::memory:` names no file; say `sqlite:qtasks.db`, or `memory:` to keep nothing",
            ),
            ("sqlite:/no/such/x.db", "the folder `/no/such` does not exist"),
            ("sqlite:/", "`/` is a folder"),
        ] {
            assert_eq!(refused(url), format!("the store could not open its file: {said}"));
        }
    }
}
