//! A server of either kind, to which the same things happen.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use qtasks::postgres::tokio_postgres::{self, Client, NoTls};
use qtasks_tests::servers::{postgres::Postgres, redis::Redis};

/// A server that keeps all that it has acknowledged, unless it was told otherwise.
pub(crate) enum Server {
    Redis(Redis),
    Postgres(Postgres),
}

/// So few connections a Postgres server has that others can have them all.
const ROOM: usize = 60;

/// Which kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Redis,
    Postgres,
}

impl Kind {
    pub(crate) const BOTH: [Self; 2] = [Self::Redis, Self::Postgres];
}

impl Server {
    pub(crate) fn start(kind: Kind) -> Self {
        match kind {
            Kind::Redis => Self::Redis(Redis::start(&["--appendonly", "yes", "--appendfsync", "always"])),
            Kind::Postgres => Self::Postgres(Postgres::start(&["-c", &format!("max_connections={ROOM}")])),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Redis(redis) => redis.port,
            Self::Postgres(postgres) => postgres.port,
        }
    }

    /// The URL of the store on it, for clients that find it at this port.
    pub(crate) fn url(&self, port: u16) -> String {
        match self {
            Self::Redis(_) => format!("redis://127.0.0.1:{port}?app=outages"),
            Self::Postgres(_) => format!("postgres://tests:secret@127.0.0.1:{port}/postgres?schema=outages"),
        }
    }

    pub(crate) fn kill(&self) {
        match self {
            Self::Redis(redis) => redis.server.kill(),
            Self::Postgres(postgres) => postgres.kill(),
        }
    }

    pub(crate) fn restart(&self) {
        match self {
            Self::Redis(redis) => redis.restart(),
            Self::Postgres(postgres) => postgres.restart(),
        }
    }

    pub(crate) fn freeze(&self) {
        match self {
            Self::Redis(redis) => redis.server.freeze(),
            Self::Postgres(postgres) => postgres.freeze(),
        }
    }

    pub(crate) fn thaw(&self) {
        match self {
            Self::Redis(redis) => redis.server.thaw(),
            Self::Postgres(postgres) => postgres.thaw(),
        }
    }

    /// Ends every connection, as an operator can.
    pub(crate) fn cut_all(&self) {
        match self {
            Self::Redis(redis) => {
                for kind in ["normal", "pubsub"] {
                    redis.tell(&format!("CLIENT KILL TYPE {kind}")).expect("connections are cut");
                }
            }
            Self::Postgres(postgres) => postgres.cut_all(),
        }
    }

    /// Lets others have all connections of the server, until what this gives is dropped: ours are cut, and there are none
    /// to be had.
    pub(crate) async fn crowd(&self) -> Crowd {
        match self {
            Self::Redis(redis) => Crowd::Redis(Only::client(redis.port)),
            Self::Postgres(postgres) => Crowd::Postgres(push_out(&postgres.database()).await),
        }
    }
}

/// Who has all connections of a server.
pub(crate) enum Crowd {
    #[expect(dead_code, reason = "there is room again when it is dropped")]
    Redis(Only),
    #[expect(dead_code, reason = "they leave when they are dropped")]
    Postgres(Vec<Client>),
}

/// The only client of a Redis server.
pub(crate) struct Only(TcpStream);

impl Only {
    fn client(port: u16) -> Self {
        let mut only = Self(TcpStream::connect(("127.0.0.1", port)).expect("there is room for one more"));
        for command in ["CONFIG SET maxclients 1", "CLIENT KILL TYPE normal", "CLIENT KILL TYPE pubsub"] {
            only.tell(command);
        }
        only
    }

    fn tell(&mut self, command: &str) {
        self.0.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket can wait");
        self.0.write_all(format!("{command}\r\n").as_bytes()).expect("the server listens");
        let mut answer = [0; 64];
        let length = self.0.read(&mut answer).expect("the server answers");
        assert!(matches!(answer[..length].first(), Some(b'+' | b':')), "{command}: {answer:?}");
    }
}

impl Drop for Only {
    fn drop(&mut self) {
        self.tell("CONFIG SET maxclients 10000");
    }
}

/// Cuts our connections to a Postgres server, and takes what can be had, until nobody else has any.
async fn push_out(url: &str) -> Vec<Client> {
    const CUT: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'qtasks'";
    let mut crowd = vec![enter(url).await.expect("there is room for one more")];
    while crowd.len() < ROOM {
        crowd[0].execute(CUT, &[]).await.expect("connections are cut");
        while let Ok(client) = enter(url).await {
            crowd.push(client);
        }
    }
    crowd
}

async fn enter(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
