//! The store that is measured: a SQLite file, one on a server that is started for it, or one that is there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use qtasks_tests::servers::{postgres::Postgres, redis::Redis};

use crate::server::Server;

/// A kind of store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Redis(Syncs),
    Postgres,
}

/// When a Redis server has its disk sync: its `appendfsync`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syncs {
    Always,
    EverySecond,
    /// As the operator of a server has set it that was there before.
    AsSet,
}

pub(crate) struct Target {
    /// Where all files are.
    folder: PathBuf,
    place: Place,
}

enum Place {
    File,
    OwnRedis(Redis, Syncs),
    OwnPostgres(Postgres),
    Url(Kind, String),
}

impl Target {
    /// What `store` names. A server that is started ends with this.
    pub(crate) fn find(store: &str, folder: PathBuf) -> anyhow::Result<Self> {
        if folder != std::env::temp_dir() {
            // The servers make their folders there.
            let taken = tempfile::env::override_temp_dir(&folder);
            taken.ok().context("the folder for temporary files is chosen once")?;
        }
        let place = match store.split_once(':') {
            None if store == "sqlite" => Place::File,
            None if store == "redis" => Place::of_redis(Syncs::Always),
            None if store == "redis-everysec" => Place::of_redis(Syncs::EverySecond),
            None if store == "postgres" => Place::of_postgres(),
            Some(("sqlite", _)) => Place::Url(Kind::Sqlite, store.to_owned()),
            Some(("redis" | "rediss", _)) => Place::Url(Kind::Redis(Syncs::AsSet), store.to_owned()),
            Some(("postgres" | "postgresql", _)) => Place::Url(Kind::Postgres, store.to_owned()),
            _ => bail!("`--store` is `sqlite`, `redis`, `redis-everysec`, `postgres`, or a URL of one, not `{store}`"),
        };
        Ok(Self { folder, place })
    }

    /// Begins on a new server, where servers are started for this: what was left on the last one would be vacuumed or
    /// rewritten while something else is measured.
    pub(crate) fn begin_anew(&mut self) {
        self.place = match &self.place {
            Place::OwnRedis(_, syncs) => Place::of_redis(*syncs),
            Place::OwnPostgres(_) => Place::of_postgres(),
            Place::File | Place::Url(..) => return,
        };
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.place {
            Place::File => Kind::Sqlite,
            Place::OwnRedis(_, syncs) => Kind::Redis(syncs),
            Place::OwnPostgres(_) => Kind::Postgres,
            Place::Url(kind, _) => kind,
        }
    }

    /// Whether nobody else has it.
    pub(crate) fn is_own(&self) -> bool {
        !matches!(self.place, Place::Url(..))
    }

    /// The URL of a store where nothing is yet, for somebody who has `folder` and its name to himself.
    pub(crate) fn url(&self, folder: &Path) -> String {
        match &self.place {
            Place::File => format!("sqlite:{}", folder.join("jobs.db").display()),
            Place::OwnRedis(server, _) => server.url(),
            Place::OwnPostgres(server) => server.url(),
            Place::Url(_, url) => {
                let name = folder.file_name().unwrap_or_default().to_string_lossy();
                url.replace("{}", &name.replace('-', "_").to_lowercase())
            }
        }
    }

    /// The same for a program that knows nothing of qtasks: a file that is not there yet, or a database where nothing is.
    pub(crate) fn address(&self, folder: &Path) -> String {
        match &self.place {
            Place::File | Place::Url(..) => self.url(folder),
            Place::OwnRedis(server, _) => format!("redis://127.0.0.1:{}", server.port),
            Place::OwnPostgres(server) => server.new_database(),
        }
    }

    /// The server that was started for this, as processes of this machine.
    pub(crate) fn server(&self) -> anyhow::Result<Option<Server>> {
        let first = match &self.place {
            Place::File | Place::Url(..) => return Ok(None),
            Place::OwnRedis(server, _) => server.tell("INFO server")?,
            Place::OwnPostgres(server) => {
                let file = server.tell("SELECT pg_read_file('postmaster.pid')").map_err(anyhow::Error::msg)?;
                format!("process_id:{file}")
            }
        };
        let first = first.lines().find_map(|line| line.strip_prefix("process_id:")).context("no process is named")?;
        Ok(Some(Server::of(first.trim().parse()?)))
    }

    /// The Redis server that was started for this.
    pub(crate) fn redis(&self) -> Option<&Redis> {
        if let Place::OwnRedis(server, _) = &self.place { Some(server) } else { None }
    }

    /// The Postgres server that was started for this.
    pub(crate) fn postgres(&self) -> Option<&Postgres> {
        if let Place::OwnPostgres(server) = &self.place { Some(server) } else { None }
    }
}

impl Place {
    fn of_redis(syncs: Syncs) -> Self {
        let appendfsync = if syncs == Syncs::Always { "always" } else { "everysec" };
        Self::OwnRedis(Redis::start(&["--appendonly", "yes", "--appendfsync", appendfsync]), syncs)
    }

    fn of_postgres() -> Self {
        Self::OwnPostgres(Postgres::start(&[]))
    }
}
