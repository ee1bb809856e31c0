//! Of a server that may lose jobs a store warns when it is opened, by `tracing`; of a good one it says nothing.

use std::{
    io::{self, Write},
    sync::{Mutex, Once, PoisonError},
};

use qtasks::store;
use qtasks_tests::servers::{postgres::Postgres, redis::Redis};

/// All that this process has said.
static SAID: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Said;

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        SAID.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens the store at `url`, and gives the lines that are said of the server on this port.
async fn said_of(port: u16, url: &str) -> Vec<String> {
    static LISTEN: Once = Once::new();
    LISTEN.call_once(|| tracing_subscriber::fmt().with_ansi(false).with_writer(|| Said).init());
    store::open(url).await.unwrap();
    let said = String::from_utf8(SAID.lock().unwrap_or_else(PoisonError::into_inner).clone()).unwrap();
    said.lines().filter(|line| line.contains(&format!("127.0.0.1:{port}"))).map(str::to_owned).collect()
}

/// The lines are warnings, one for each of these texts, in order.
fn warn_of(said: &[String], texts: &[&str]) {
    assert_eq!(said.len(), texts.len(), "{said:#?}");
    for (line, text) in said.iter().zip(texts) {
        assert!(line.contains(" WARN ") && line.contains(text), "{line}");
    }
}

#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
#[tokio::test]
async fn redis_that_may_forget_or_evict_is_warned_of() {
    const LASTING: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];
    let forgets = "the server keeps jobs in memory only and forgets them when it ends; to keep them: appendonly yes";
    let snapshots = "the server may lose all that came after its last snapshot; to lose less: appendonly yes";
    let second = "the server may lose the last second when it ends without notice; to lose nothing: appendfsync always";
    let evicts = "the server may delete jobs when its memory is full (maxmemory-policy allkeys-lru)";
    for (arguments, texts) in [
        (&LASTING[..], &[][..]),
        (&[], &[forgets]),
        (&["--save", "3600 1"], &[snapshots]),
        (&["--appendonly", "yes", "--appendfsync", "everysec"], &[second]),
        (&[&LASTING[..], &["--maxmemory-policy", "allkeys-lru"]].concat(), &[evicts]),
        (&["--maxmemory-policy", "allkeys-lru"], &[forgets, evicts]),
        // As services have it, which keep their configuration to themselves.
        (&[&LASTING[..], &["--rename-command", "CONFIG", ""]].concat(), &[]),
        (&["--rename-command", "CONFIG", ""], &[snapshots]),
    ] {
        let server = Redis::start(arguments);
        warn_of(&said_of(server.port, &server.url()).await, texts);
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn postgres_that_may_forget_is_warned_of() {
    let forgets = "Postgres runs with `synchronous_commit = off`: a crash of the server may lose the last commits";
    let breaks =
        "Postgres runs with `fsync = off`: a crash of the server's machine may lose or break the whole database";
    let server = Postgres::start(&[]);
    warn_of(&said_of(server.port, &server.url()).await, &[]);
    server.tell("ALTER ROLE tests SET synchronous_commit = off").unwrap();
    warn_of(&said_of(server.port, &server.url()).await, &[forgets]);
    let server = Postgres::start(&["-c", "fsync=off"]);
    warn_of(&said_of(server.port, &server.url()).await, &[breaks]);
}
