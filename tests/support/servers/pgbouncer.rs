//! PgBouncer, before a Postgres server.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use super::{
    Server, free_port,
    postgres::{Postgres, give_away, tell, unprivileged},
};

/// How long it may take to be there.
const PATIENCE: Duration = Duration::from_secs(30);

/// A pooler that gives each transaction another session: of three, one after the other.
#[derive(Debug)]
pub struct PgBouncer {
    server: Server,
    port: u16,
}

impl PgBouncer {
    /// Starts one before `postgres`, with more lines for its configuration.
    ///
    /// # Panics
    ///
    /// When PgBouncer is not installed, or does not answer.
    pub fn start(postgres: &Postgres, more: &str) -> Self {
        let port = free_port();
        let behind = postgres.port;
        let server = Server::start(|folder| {
            let [users, settings] = ["users", "settings"].map(|name| folder.join(name));
            fs::write(&users, r#""tests" "secret""#).expect("a file is written");
            let text = format!(
                "[databases]\npostgres = host=127.0.0.1 port={behind}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                 listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\n\
                 pool_mode = transaction\nmin_pool_size = 3\ndefault_pool_size = 3\nserver_round_robin = 1\n{more}\n",
                users.display()
            );
            fs::write(&settings, text).expect("a file is written");
            give_away(&[folder, &users, &settings]);
            unprivileged("pgbouncer").into_iter().chain([settings.display().to_string()]).collect::<Vec<_>>()
        });
        let pooler = Self { server, port };
        let end = Instant::now() + PATIENCE;
        while tell(&pooler.database(), "SELECT 1").is_err() {
            assert!(Instant::now() < end, "PgBouncer does not answer\n{}", pooler.server.log());
            thread::sleep(Duration::from_millis(20));
        }
        pooler
    }

    /// The URL of the database behind it.
    pub fn database(&self) -> String {
        format!("postgres://tests:secret@127.0.0.1:{}/postgres", self.port)
    }
}
