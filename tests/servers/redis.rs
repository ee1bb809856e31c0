//! Redis servers.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Server, free_port};

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
        let port = free_port();
        let server = Server::start(|folder| {
            let own = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--maxmemory-policy", "noeviction"];
            let own = own.map(str::to_owned).into_iter();
            let where_ = ["--port".into(), port.to_string(), "--dir".into(), folder.display().to_string()];
            own.chain(where_).chain(arguments.iter().map(|&argument| argument.to_owned())).collect()
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

    /// Tells it a command, and gives the first line that it answers.
    pub fn tell(&self, command: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(format!("{command}\r\n").as_bytes())?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            answer.extend(byte);
        }
        Ok(String::from_utf8_lossy(&answer).trim_end().to_owned())
    }

    fn answers(&self) {
        let end = Instant::now() + PATIENCE;
        while !self.tell("PING").is_ok_and(|answer| answer == "+PONG") {
            assert!(Instant::now() < end, "redis-server does not answer; is it installed?\n{}", self.server.log());
            thread::sleep(Duration::from_millis(5));
        }
    }
}
