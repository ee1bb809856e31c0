//! Which file, and how: `sqlite:PATH?synchronous=normal&busy=10`.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::error::{Error, Result};

pub(super) const OPENING: &str = "open its file";

/// What the URL of a store says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoreUrl {
    pub(super) path: PathBuf,
    /// The path as the program gave it, which may be a link that is later made to lead elsewhere.
    pub(super) named: PathBuf,
    /// Whether a file is made where there is none.
    pub(super) creates: bool,
    pub(super) synchronous: Synchronous,
    /// How long a lock of another connection is waited out.
    pub(super) patience: Duration,
}

/// The values of SQLite's `PRAGMA synchronous`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Synchronous {
    Off = 0,
    Normal = 1,
    Full = 2,
}

impl StoreUrl {
    pub(super) fn parse(url: &str) -> Result<Self> {
        let (rest, encoded) = match url.strip_prefix("sqlite:") {
            Some(rest) => (rest.strip_prefix("//").unwrap_or(rest), true),
            None => (url, false),
        };
        let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        if path.is_empty() || path == ":memory:" {
            return refuse(format!("`{url}` names no file; say `sqlite:qtasks.db`, or `memory:` to keep nothing"));
        }
        if let Some(path) = path.strip_prefix("file:") {
            return refuse(format!("a path does not begin with `file:`; say `sqlite:{path}`"));
        }
        let path = if encoded { decoded(path)? } else { path.into() };
        let mut parsed = Self {
            named: path.clone(),
            path,
            creates: true,
            synchronous: Synchronous::Full,
            patience: Duration::from_secs(30),
        };
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            parsed.set(parameter)?;
        }
        Ok(parsed)
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
            ("mode", "rwc") => self.creates = true,
            ("mode", "rw") => self.creates = false,
            ("mode", "ro") => {
                return refuse("`mode=ro` will not do: a store writes, also to be read; say `mode=rw`".into());
            }
            ("mode", "memory") => {
                return refuse("`mode=memory` keeps nothing; say `memory:` in place of the URL".into());
            }
            ("mode", _) => {
                return refuse(format!("`mode` is `rwc`, which makes a missing file, or `rw`, not `{value}`"));
            }
            _ => {
                return refuse(format!(
                    "no parameter `{name}`; there are `synchronous=full|normal`, `busy=SECONDS` and `mode=rwc|rw`, and a \
                     `?` in the name of a file is written `%3F`"
                ));
            }
        }
        Ok(())
    }

    /// The folder of the file.
    pub(super) fn folder(&self) -> PathBuf {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or(Path::new(".")).to_owned()
    }

    /// The write-ahead log beside the file.
    pub(super) fn log(&self) -> PathBuf {
        self.beside("-wal")
    }

    /// The index of the log, which all processes share.
    pub(super) fn index(&self) -> PathBuf {
        self.beside("-shm")
    }

    /// The folder in which workers show that they live.
    pub(super) fn workers(&self) -> PathBuf {
        self.beside("-workers")
    }

    fn beside(&self, end: &str) -> PathBuf {
        beside(&self.path, end)
    }
}

/// The path with `end` behind it.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut path = path.to_owned().into_os_string();
    path.push(end);
    path.into()
}

/// The path that a URL writes with `%3F` for `?`, and so on. A `%` that no two hex digits follow is itself.
fn decoded(path: &str) -> Result<PathBuf> {
    let (mut bytes, mut rest) = (Vec::with_capacity(path.len()), path.as_bytes());
    while let Some((&first, behind)) = rest.split_first() {
        let code = behind.get(..2).filter(|_| first == b'%').and_then(hex);
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &behind[2..] } else { behind };
    }
    if bytes.contains(&0) {
        return refuse(format!("`{path}` names no file: there is a `%00` in it"));
    }
    of_bytes(bytes).ok_or(()).or_else(|()| refuse(format!("`{path}` is no text, and here names of files are")))
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digits = digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)?;
    u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(unix)]
pub(super) fn of_bytes(bytes: Vec<u8>) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    Some(OsString::from_vec(bytes).into())
}

#[cfg(not(unix))]
pub(super) fn of_bytes(bytes: Vec<u8>) -> Option<PathBuf> {
    Some(OsString::from(String::from_utf8(bytes).ok()?).into())
}

pub(super) fn refuse<T>(why: String) -> Result<T> {
    Err(Error::store(OPENING, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    fn refused(url: &str) -> String {
        chain(&StoreUrl::parse(url).and_then(|parsed| parsed.connect()).unwrap_err())
    }

    #[test]
    fn urls_and_plain_paths_name_a_file() {
        for url in ["sqlite:qtasks.db", "sqlite://qtasks.db", "qtasks.db", "sqlite:qtasks.db?synchronous=full&busy=30"]
        {
            let parsed = StoreUrl::parse(url).unwrap();
            assert_eq!(parsed.path, Path::new("qtasks.db"), "{url}");
            assert_eq!((parsed.synchronous, parsed.patience), (Synchronous::Full, Duration::from_secs(30)), "{url}");
        }
        assert_eq!(StoreUrl::parse("sqlite:/a/x.db").unwrap().path, Path::new("/a/x.db"));
        assert_eq!(StoreUrl::parse("sqlite:///a/x.db").unwrap().path, Path::new("/a/x.db"));
        // As sqlx writes it.
        assert_eq!(StoreUrl::parse("sqlite:x.db?mode=rwc").unwrap(), StoreUrl::parse("sqlite:x.db").unwrap());
        let parsed = StoreUrl::parse("sqlite:x.db?synchronous=normal&busy=2").unwrap();
        assert_eq!((parsed.synchronous, parsed.patience), (Synchronous::Normal, Duration::from_secs(2)));
    }

    #[test]
    fn commits_wait_for_the_disk_unless_the_url_says_otherwise() {
        let folder = tempfile::TempDir::new().unwrap();
        for (parameters, level) in [("", 2), ("?synchronous=full", 2), ("?synchronous=normal", 1)] {
            let url = format!("sqlite:{}{parameters}", folder.path().join("jobs.db").display());
            let connection = StoreUrl::parse(&url).unwrap().connect().unwrap();
            let found: i64 = connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
            assert_eq!(found, level, "{parameters}");
        }
    }

    #[test]
    fn any_name_of_a_file_can_be_said() {
        for (url, path) in [
            ("sqlite:a%3Fb.db?busy=1", "a?b.db"),
            ("sqlite:a%3fb.db", "a?b.db"),
            ("sqlite:a%23b#c.db", "a#b#c.db"),
            ("sqlite:a%20b c.db", "a b c.db"),
            ("sqlite:100%25.db", "100%.db"),
            ("sqlite:100%.db", "100%.db"),
            ("sqlite:%", "%"),
            ("sqlite:a%4", "a%4"),
            ("sqlite:a%+1b.db", "a%+1b.db"),
            ("sqlite:a%253F.db", "a%3F.db"),
            ("sqlite:%D1%8F&я.db", "я&я.db"),
            ("a%3Fb.db", "a%3Fb.db"),
        ] {
            assert_eq!(StoreUrl::parse(url).unwrap().path, Path::new(path), "{url}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn files_of_any_name_are_opened() {
        use crate::store::{
            Store as _,
            sqlite::{Sqlite, fixture::new_job},
        };
        let folder = tempfile::TempDir::new().unwrap();
        for name in ["a%3Fb.db", "a#b.db", "a b.db", "%25%41.db", "я.db", "%FF.db", "file%3Ax.db", "a;'\"\\.db"] {
            let (url, job) = (format!("sqlite:{}/{name}", folder.path().display()), new_job());
            Sqlite::open(&url).await.unwrap().enqueue(vec![job.clone()]).await.unwrap();
            let again = Sqlite::open(&format!("{url}?mode=rw")).await.unwrap();
            assert!(again.job(job.call.id).await.unwrap().is_some(), "{url}");
            assert!(decoded(url.strip_prefix("sqlite:").unwrap()).unwrap().is_file(), "{url}");
        }
    }

    #[test]
    fn what_a_url_cannot_mean_is_said() {
        for (url, said) in [
            (
                "sqlite:x.db?sync=off",
                "no parameter `sync`; there are `synchronous=full|normal`, `busy=SECONDS` and `mode=rwc|rw`, and a `?` in \
                 the name of a file is written `%3F`",
            ),
            ("sqlite:x.db?mode=ro", "`mode=ro` will not do: a store writes, also to be read; say `mode=rw`"),
            ("sqlite:x.db?mode=memory", "`mode=memory` keeps nothing; say `memory:` in place of the URL"),
            ("sqlite:x.db?mode=w", "`mode` is `rwc`, which makes a missing file, or `rw`, not `w`"),
            (
                "sqlite:/no-such.db?mode=rw",
                "`/no-such.db` does not exist; with `mode=rwc`, or without `mode`, it is made",
            ),
            ("sqlite:file:x.db", "a path does not begin with `file:`; say `sqlite:x.db`"),
            ("sqlite:x%00.db", "`x%00.db` names no file: there is a `%00` in it"),
            ("sqlite:/dev/null", "`/dev/null` is no file"),
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
