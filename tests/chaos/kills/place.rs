//! Where the jobs are kept, and the rows that handlers insert beside them.

use std::path::Path;

use anyhow::{Context as _, bail};
use qtasks::sqlite::rusqlite::Connection;
use qtasks_tests::servers::{
    postgres::{Postgres, tell},
    redis::Redis,
};

use crate::kinds::{Kind, TABLE};

/// A store that nobody else uses meanwhile.
pub(crate) struct Place {
    pub(crate) url: String,
    /// One that ends with this.
    _server: Option<Server>,
}

enum Server {
    Redis { _server: Redis },
    Postgres { _server: Postgres },
}

const ROWS: &str = "SELECT count(*), count(DISTINCT value) FROM handled";

impl Place {
    /// What `store` names: a file in `folder`, a server of its own that syncs every write, or what is at a URL.
    pub(crate) fn find(store: &str, folder: &Path) -> Self {
        match store {
            "sqlite" => Self { url: format!("sqlite:{}", folder.join("jobs.db").display()), _server: None },
            "redis" => {
                let server = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]);
                Self { url: server.url(), _server: Some(Server::Redis { _server: server }) }
            }
            "postgres" => {
                let server = Postgres::start(&[]);
                Self { url: server.database(), _server: Some(Server::Postgres { _server: server }) }
            }
            url => Self { url: url.to_owned(), _server: None },
        }
    }

    /// The program of a worker, and the tasks that it runs here. Those that are transactional insert their rows into a new
    /// table.
    pub(crate) fn cast(&self, transactional: bool) -> anyhow::Result<(&'static str, &'static [Kind])> {
        if !transactional {
            return Ok(("portable", &Kind::ALL));
        }
        let cast: (_, &[_]) = match self.url.split_once(':') {
            Some(("sqlite", _)) => ("sqlite_worker", &[Kind::SavesOnSqlite]),
            Some(("postgres" | "postgresql", _)) => ("postgres_worker", &[Kind::SavesOnPostgres]),
            _ => bail!("handlers cannot take part in the transactions of this store"),
        };
        match self.file() {
            Some(file) => Connection::open(file)?.execute_batch(TABLE)?,
            None => _ = tell(self.database(), TABLE).map_err(anyhow::Error::msg)?,
        }
        Ok(cast)
    }

    /// How many rows handlers have inserted, and how many values stand in them.
    pub(crate) fn rows(&self) -> anyhow::Result<(u64, u64)> {
        if let Some(file) = self.file() {
            let row = |row: &qtasks::sqlite::rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
            let (rows, distinct) = Connection::open(file)?.query_row(ROWS, [], row)?;
            return Ok((rows.cast_unsigned(), distinct.cast_unsigned()));
        }
        let told = tell(self.database(), ROWS).map_err(anyhow::Error::msg)?;
        let (rows, distinct) = told.split_once('|').context("there are two counts")?;
        Ok((rows.parse()?, distinct.parse()?))
    }

    fn file(&self) -> Option<&str> {
        self.url.strip_prefix("sqlite:")
    }

    /// The URL without what only qtasks understands.
    fn database(&self) -> &str {
        self.url.split('?').next().unwrap_or_default()
    }
}
