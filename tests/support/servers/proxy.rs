//! A line between clients and a server, on which bytes take their time, or get lost without anybody being told.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// As many bytes are carried at a time.
const CHUNK: usize = 1 << 14;

/// A line to one server, for as long as the runtime lives that it was laid on.
#[derive(Debug)]
pub struct Proxy {
    /// Where clients find it.
    pub port: u16,
    connections: Arc<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    /// How many there were.
    count: AtomicUsize,
    /// What is sent over those with a smaller number gets lost.
    dead: AtomicUsize,
    /// How often something was.
    lost: AtomicUsize,
    /// At this word of a client they all go dead.
    last_word: Mutex<Option<&'static str>>,
    /// At the answer to this word the connection is cut on which a client has said it,
    cut_word: Mutex<Option<&'static str>>,
    /// which is known from that moment on.
    to_cut: Mutex<Option<usize>>,
    /// How often one was.
    cuts: AtomicUsize,
    /// How long each byte is under way.
    latency: Duration,
}

impl Proxy {
    /// Lays a line to the server at `port`, over which each byte takes so long.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn to(port: u16, latency: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("there is a free port");
        let own = listener.local_addr().expect("a bound socket has an address").port();
        let connections = Arc::new(Connections { latency, ..Connections::default() });
        tokio::spawn(serve(listener, port, connections.clone()));
        Self { port: own, connections }
    }

    /// From now on nothing comes through the connections that there are, in neither direction, and neither end is told:
    /// to both of them it seems as if the other had nothing to say. New connections are good.
    pub fn swallow(&self) {
        self.connections.swallow();
    }

    /// The same from the moment on at which a client says `word`, which does not come through any more.
    pub fn swallow_at(&self, word: &'static str) {
        *lock(&self.connections.last_word) = Some(word);
    }

    /// The next time that a client says `word`, it comes through, and at its answer the connection is cut: the server has done
    /// what it was asked to, and the client is not told.
    pub fn cut_at_answer_to(&self, word: &'static str) {
        *lock(&self.connections.cut_word) = Some(word);
    }

    /// How many connections were cut at an answer.
    pub fn cuts(&self) -> usize {
        self.connections.cuts.load(Relaxed)
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.connections.count.load(Relaxed)
    }

    /// How many of them have lost something, counting each direction.
    pub fn lost(&self) -> usize {
        self.connections.lost.load(Relaxed)
    }
}

impl Connections {
    fn swallow(&self) {
        self.dead.store(self.count.load(Relaxed), Relaxed);
    }

    /// Looks for the last word in what a client says on this connection, and for the one whose answer is cut.
    fn hear(&self, number: usize, bytes: &[u8]) {
        let is_said = |word: &str| bytes.windows(word.len()).any(|part| part == word.as_bytes());
        let said = |word: &Mutex<Option<&'static str>>| lock(word).take_if(|word| is_said(word)).is_some();
        if said(&self.last_word) {
            self.swallow();
        }
        if said(&self.cut_word) {
            *lock(&self.to_cut) = Some(number);
        }
    }

    /// Whether this connection is to be cut now that the server answers on it.
    fn is_cut(&self, number: usize) -> bool {
        let is_cut = lock(&self.to_cut).take_if(|to_cut| *to_cut == number).is_some();
        self.cuts.fetch_add(is_cut.into(), Relaxed);
        is_cut
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, port: u16, connections: Arc<Connections>) {
    while let Ok((client, _)) = listener.accept().await {
        let number = connections.count.fetch_add(1, Relaxed);
        let connections = connections.clone();
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
            for end in [&client, &server] {
                end.set_nodelay(true).expect("a socket can be told to wait for nothing");
            }
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            tokio::join!(
                carry(from_client, to_server, number, &connections, |bytes| {
                    connections.hear(number, bytes);
                    false
                }),
                carry(from_server, to_client, number, &connections, |_| connections.is_cut(number))
            );
        });
    }
}

/// Carries what comes from one end to the other, until something that `cut` gives true for, which does not come through. Of
/// a connection that is dead, neither end is closed.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    number: usize,
    connections: &Connections,
    cut: impl Fn(&[u8]) -> bool,
) {
    let (send, mut under_way) = mpsc::unbounded_channel();
    let read = async move {
        loop {
            let mut bytes = vec![0; CHUNK];
            let count = from.read(&mut bytes).await.unwrap_or(0);
            bytes.truncate(count);
            if send.send((Instant::now() + connections.latency, bytes)).is_err() || count == 0 {
                return from;
            }
        }
    };
    let write = async move {
        while let Some((arrival, bytes)) = under_way.recv().await {
            sleep_until(arrival).await;
            if cut(&bytes) {
                return;
            }
            if number < connections.dead.load(Relaxed) {
                connections.lost.fetch_add(1, Relaxed);
                std::future::pending::<()>().await;
            }
            let written: io::Result<()> = match &bytes[..] {
                [] => to.shutdown().await,
                bytes => to.write_all(bytes).await,
            };
            if written.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}
