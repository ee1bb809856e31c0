//! The store that is measured: a SQLite file, one on a server that is started for it, or one that is there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use qtasks_tests::servers::{postgres::Postgres, redis::Redis};

/// A kind of store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Redis,
    Postgres,
}

pub(crate) struct Target {
    /// Where all files are.
    folder: PathBuf,
    place: Place,
}

enum Place {
    File,
    OwnRedis(Redis),
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
            None if store == "redis" => Place::OwnRedis(redis("always")),
            None if store == "redis-everysec" => Place::OwnRedis(redis("everysec")),
            None if store == "postgres" => Place::OwnPostgres(Postgres::start(&[])),
            Some(("sqlite", _)) => Place::Url(Kind::Sqlite, store.to_owned()),
            Some(("redis" | "rediss", _)) => Place::Url(Kind::Redis, store.to_owned()),
            Some(("postgres" | "postgresql", _)) => Place::Url(Kind::Postgres, store.to_owned()),
            _ => bail!("`--store` is `sqlite`, `redis`, `redis-everysec`, `postgres`, or a URL of one, not `{store}`"),
        };
        Ok(Self { folder, place })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.place {
            Place::File => Kind::Sqlite,
            Place::OwnRedis(_) => Kind::Redis,
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
            Place::OwnRedis(server) => server.url(),
            Place::OwnPostgres(server) => server.url(),
            Place::Url(_, url) => {
                let name = folder.file_name().unwrap_or_default().to_string_lossy();
                url.replace("{}", &name.replace('-', "_").to_lowercase())
            }
        }
    }

    /// The Redis server that was started for this.
    pub(crate) fn redis(&self) -> Option<&Redis> {
        if let Place::OwnRedis(server) = &self.place { Some(server) } else { None }
    }

    /// The Postgres server that was started for this.
    pub(crate) fn postgres(&self) -> Option<&Postgres> {
        if let Place::OwnPostgres(server) = &self.place { Some(server) } else { None }
    }
}

/// A server that syncs what it writes as it is told to.
fn redis(appendfsync: &str) -> Redis {
    Redis::start(&["--appendonly", "yes", "--appendfsync", appendfsync])
}
