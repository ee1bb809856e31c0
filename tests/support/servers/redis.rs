//! Redis servers.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Server, carry_out, free_port, make_certificate};

/// How long a server may take to be there.
const PATIENCE: Duration = Duration::from_secs(30);

/// A Redis server.
#[derive(Debug)]
pub struct Redis {
    /// To kill it, say.
    pub server: Server,
    /// Where it listens.
    pub port: u16,
}

/// The URL of an application of its own on the server that all tests of this process share, which forgets all with it.
pub fn url() -> String {
    static SHARED: OnceLock<Redis> = OnceLock::new();
    SHARED.get_or_init(|| Redis::start(&[])).url()
}

impl Redis {
    /// Starts a server that keeps nothing, unless these arguments say so.
    ///
    /// # Panics
    ///
    /// When `redis-server` is not installed, or does not answer.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_on(|_| arguments.iter().map(|&argument| argument.to_owned()).collect())
    }

    /// Starts a server that takes encrypted connections too, on the port `tls`, with a certificate that nobody knows; it has
    /// a user `tests` whose password is `secret`.
    ///
    /// # Panics
    ///
    /// When `redis-server` or OpenSSL is not installed, or the server does not answer.
    pub fn start_encrypted(tls: u16) -> (Self, PathBuf) {
        let mut certificate = PathBuf::new();
        let server = Self::start_on(|folder| {
            carry_out(&[vec!["openssl".to_owned()], make_certificate(&format!("redis-{tls}"))].concat(), folder);
            certificate = folder.join("server.crt");
            let [certificate, key] = ["server.crt", "server.key"].map(|name| folder.join(name).display().to_string());
            let user = ["--user", "tests", "on", ">secret", "~*", "&*", "+@all", "--tls-auth-clients", "no"];
            let files = ["--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &certificate];
            user.into_iter().chain(files).chain(["--tls-port", &tls.to_string()]).map(str::to_owned).collect()
        });
        (server, certificate)
    }

    fn start_on(arguments: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let port = free_port();
        let server = Server::start(|folder| {
            let own = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--maxmemory-policy", "noeviction"];
            let own = own.map(str::to_owned).into_iter();
            let where_ = ["--port".into(), port.to_string(), "--dir".into(), folder.display().to_string()];
            own.chain(where_).chain(arguments(folder)).collect::<Vec<_>>()
        });
        let redis = Self { server, port };
        redis.answers();
        redis
    }

    /// The URL of an application of its own.
    pub fn url(&self) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        format!("redis://127.0.0.1:{}?app=test-{}", self.port, COUNT.fetch_add(1, Relaxed))
    }

    /// Starts it again after its end, and waits until it answers.
    pub fn restart(&self) {
        self.server.restart();
        self.answers();
    }

    /// Tells it a command, and gives its answer: a line, or what a bulk string holds.
    pub fn tell(&self, command: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(format!("{command}\r\n").as_bytes())?;
        let mut answer = BufReader::new(stream);
        let mut line = String::new();
        answer.read_line(&mut line)?;
        let Some(length) = line.strip_prefix('$') else { return Ok(line.trim_end().to_owned()) };
        let mut bytes = vec![0; length.trim_end().parse().unwrap_or_default()];
        answer.read_exact(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn answers(&self) {
        let end = Instant::now() + PATIENCE;
        while !self.tell("PING").is_ok_and(|answer| answer == "+PONG") {
            assert!(Instant::now() < end, "redis-server does not answer; is it installed?\n{}", self.server.log());
            thread::sleep(Duration::from_millis(5));
        }
    }
}
