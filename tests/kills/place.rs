//! Where the jobs are kept, and the rows that handlers insert beside them.

use std::path::Path;

use qtasks::sqlite::rusqlite::Connection;
use qtasks_tests::servers::{postgres::Postgres, redis::Redis};

use crate::kinds::{Kind, TABLE};

/// A store of the storm's own.
pub(crate) struct Place {
    pub(crate) url: String,
    server: Server,
}

enum Server {
    None,
    Redis { _server: Redis },
    Postgres(Postgres),
}

const ROWS: &str = "SELECT count(*), count(DISTINCT value) FROM handled";

impl Place {
    /// A file in `folder`.
    pub(crate) fn sqlite(folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join("jobs.db");
        Connection::open(&file)?.execute_batch(TABLE)?;
        Ok(Self { url: format!("sqlite:{}", file.display()), server: Server::None })
    }

    /// A server that syncs every write.
    pub(crate) fn redis() -> Self {
        let server = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]);
        Self { url: server.url(), server: Server::Redis { _server: server } }
    }

    /// A server that syncs every commit.
    pub(crate) fn postgres() -> anyhow::Result<Self> {
        let server = Postgres::start(&[]);
        server.tell(TABLE).map_err(anyhow::Error::msg)?;
        Ok(Self { url: server.database(), server: Server::Postgres(server) })
    }

    /// The program of a worker, and the tasks that it runs here.
    pub(crate) fn cast(&self, transactional: bool) -> (&'static str, &'static [Kind]) {
        match (&self.server, transactional) {
            (Server::None, true) => ("sqlite_worker", &[Kind::SavesOnSqlite]),
            (Server::Postgres(_), true) => ("postgres_worker", &[Kind::SavesOnPostgres]),
            _ => ("portable", &Kind::ALL),
        }
    }

    /// How many rows handlers have inserted, and how many values stand in them.
    pub(crate) fn rows(&self) -> anyhow::Result<(u64, u64)> {
        match &self.server {
            Server::None => {
                let file = self.url.trim_start_matches("sqlite:");
                let counted = Connection::open(file)?
                    .query_row(ROWS, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
                Ok((counted.0.cast_unsigned(), counted.1.cast_unsigned()))
            }
            Server::Redis { .. } => Ok((0, 0)),
            Server::Postgres(server) => {
                let told = server.tell(ROWS).map_err(anyhow::Error::msg)?;
                let (rows, distinct) = told.split_once('|').unwrap_or_default();
                Ok((rows.parse()?, distinct.parse()?))
            }
        }
    }
}
