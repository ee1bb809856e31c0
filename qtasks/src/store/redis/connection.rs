//! The connection to the server. Calls that are under way share it, and it is made again when it is lost.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, PushInfo, PushKind, Script, Value, aio::MultiplexedConnection,
    cmd, from_redis_value,
};
use tokio::time::timeout;

use super::{
    account,
    error::Fault,
    scripts::{self, Scripts},
    url::StoreUrl,
};
use crate::{error::chain, model::job::JobId, store::Notifier};

type Asked<T> = std::result::Result<T, Fault>;

/// How many calls may wait to be sent.
const WAITING: usize = 1024;
/// What keys begin with since format 4, behind the name of the application. Programs of older formats know none of them.
const OF_FORMAT: &[u8] = b"4:";
/// How often one call follows keys that have moved, or has scripts loaded.
const DETOURS: usize = 3;

/// The way to the server, which all calls of a store take.
pub(super) struct Link {
    pub(super) url: StoreUrl,
    pub(super) notifier: Arc<Notifier>,
    /// Marks the notifications of this store, so that it passes over its own.
    pub(super) caller: [u8; 8],
    scripts: Scripts,
    line: Arc<Mutex<Line>>,
    /// When the last try to connect failed, and why. One call tries, for all calls that wait for a connection.
    connecting: tokio::sync::Mutex<Option<(Instant, Fault)>>,
}

#[derive(Default)]
struct Line {
    connection: Option<MultiplexedConnection>,
    /// How many connections have been made.
    count: u64,
    /// The node that has the keys, if it is not the server of the URL.
    node: Option<(String, u16)>,
}

impl Link {
    pub(super) fn new(url: StoreUrl, notifier: Arc<Notifier>) -> Self {
        let caller = fastrand::u64(..).to_be_bytes();
        let (line, connecting) = Default::default();
        Self { url, notifier, caller, scripts: Scripts::new(), line, connecting }
    }

    /// A way of its own to the server, on which calls may take so long. Its notifier has no listeners.
    pub(super) fn patient(&self, patience: Duration) -> Self {
        let mut url = self.url.clone();
        url.patience = patience;
        Self::new(url, Arc::new(Notifier::new()))
    }

    /// Begins a call of a script.
    pub(super) fn call(&self, script: impl FnOnce(&Scripts) -> &Script) -> Cmd {
        scripts::call(script(&self.scripts), &self.url.prefix, self.caller)
    }

    /// Begins a command for the value of this kind that belongs to a job.
    pub(super) fn command(&self, name: &str, kind: &str, id: JobId) -> Cmd {
        let mut command = cmd(name);
        command.arg(self.key(kind, id));
        command
    }

    /// The key of the value of this kind that belongs to a job.
    pub(super) fn key(&self, kind: &str, id: JobId) -> Vec<u8> {
        [self.url.prefix.as_bytes(), OF_FORMAT, kind.as_bytes(), b":", &id.to_bytes()].concat()
    }

    /// The key of the notes of a kind.
    pub(super) fn key_of_notes(&self, kind: &str) -> Vec<u8> {
        [self.url.prefix.as_bytes(), OF_FORMAT, b"notes:", kind.as_bytes()].concat()
    }

    /// The key of the keys of jobs.
    pub(super) fn key_of_keys(&self) -> Vec<u8> {
        [self.url.prefix.as_bytes(), OF_FORMAT, b"keys"].concat()
    }

    /// Asks the server, in bounded time. Where the server refuses, the error says what mends that.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Asked<T> {
        match self.ask_plainly(command).await {
            Ok(answer) => Ok(answer),
            Err(fault) => Err(Box::pin(self.explained(fault)).await),
        }
    }

    /// The fault together with what mends it, where that is known.
    pub(super) async fn explained(&self, fault: Fault) -> Fault {
        let Fault::Redis(error) = fault else { return fault };
        let detail = error.detail().unwrap_or_default();
        let mend = match account::right(detail, &self.url) {
            _ if error.code() == Some("OOM") => Some(account::FULL.to_owned()),
            Some(right) => Some(account::line(&self.url, &right)),
            None if account::is_of_a_script(detail) => Some(account::line(&self.url, &self.lacking().await)),
            None => None,
        };
        match mend {
            Some(mend) => Fault::Refused { error, mend },
            None => Fault::Redis(error),
        }
    }

    /// The commands that the account may not call in scripts; where the server cannot be asked, all that scripts call.
    async fn lacking(&self) -> String {
        let mut call = self.call(|scripts| &scripts.rights);
        account::OF_SCRIPTS.split(' ').for_each(|command| _ = call.arg(command));
        let lacking: Vec<String> = self.ask_plainly(&call).await.unwrap_or_default();
        let all = account::OF_SCRIPTS.split(' ').map(str::to_owned);
        let commands = if lacking.is_empty() { all.collect() } else { lacking };
        commands.iter().map(|command| format!("+{command}")).collect::<Vec<_>>().join(" ")
    }

    /// Asks the server, in bounded time.
    async fn ask_plainly<T: FromRedisValue>(&self, command: &Cmd) -> Asked<T> {
        let mut asked_on = 0;
        let answer = match timeout(self.url.patience, self.try_ask(command, &mut asked_on)).await {
            Ok(answer) => answer?,
            Err(_) => {
                // The connection may be half open: then nothing that is asked on it is ever answered.
                hang_up(&self.line, asked_on);
                return Err(self.silent());
            }
        };
        Ok(from_redis_value(answer).map_err(redis::RedisError::from)?)
    }

    /// Asks the server, and sets `asked_on` to the number of the connection.
    async fn try_ask(&self, command: &Cmd, asked_on: &mut u64) -> Asked<Value> {
        let mut detours = 0;
        loop {
            let (count, mut connection) = self.connection().await?;
            *asked_on = count;
            let fault = match command.query_async(&mut connection).await {
                Ok(answer) => return Ok(answer),
                Err(error) => Fault::from(error),
            };
            if fault.ends_connection() {
                hang_up(&self.line, count);
            }
            detours += 1;
            match fault.moved_to() {
                _ if detours > DETOURS => return Err(fault),
                Some(node) => self.line().node = Some(node),
                None if fault.is_unknown_script() => Box::pin(self.scripts.load(&mut connection)).await?,
                None => return Err(fault),
            }
        }
    }

    async fn connection(&self) -> Asked<(u64, MultiplexedConnection)> {
        let connected = self.line().connected();
        match connected {
            Some(connected) => Ok(connected),
            None => Box::pin(self.reconnected()).await,
        }
    }

    async fn reconnected(&self) -> Asked<(u64, MultiplexedConnection)> {
        let asked = Instant::now();
        let mut failed = self.connecting.lock().await;
        if let Some(connected) = self.line().connected() {
            return Ok(connected);
        }
        if let Some((failed_at, fault)) = &*failed
            && *failed_at >= asked
        {
            return Err(fault.clone());
        }
        let count = self.line().count + 1;
        let line = Arc::clone(&self.line);
        let connected = self.connect(move |push| {
            if push.kind == PushKind::Disconnection {
                hang_up(&line, count);
            }
        });
        match connected.await {
            Ok(connection) => {
                let mut line = self.line();
                line.count = count;
                line.connection = Some(connection.clone());
                drop(line);
                if count > 1 {
                    // Notifications that came while the last connection was lost have not arrived.
                    self.notifier.notify_all();
                }
                Ok((count, connection))
            }
            Err(fault) => {
                // Where the keys are is for the server of the URL to say again.
                self.line().node = None;
                *failed = Some((Instant::now(), fault.clone()));
                Err(fault)
            }
        }
    }

    /// Makes a connection of its own. Messages that come on it without being asked for are handed to `on_push`.
    pub(super) async fn connect(
        &self,
        on_push: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Asked<MultiplexedConnection> {
        let on_push = move |push| -> Result<(), ()> {
            on_push(push);
            Ok(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(WAITING)
            .set_push_sender(on_push);
        let unreachable = |error: redis::RedisError| {
            let hint = account::of_connecting(&error, &self.url).or_else(|| self.url.hint(&error).map(str::to_owned));
            let why = chain(&error) + &hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            Fault::Unreachable { place: self.url.to_string(), why }
        };
        let client = Client::open(self.url.info(self.line().node.as_ref())).map_err(unreachable)?;
        match timeout(self.url.patience, client.get_multiplexed_async_connection_with_config(&config)).await {
            Ok(connected) => connected.map_err(unreachable),
            Err(_) => Err(self.silent_from_the_start()),
        }
    }

    /// The fault of a server that has not even begun to answer.
    fn silent_from_the_start(&self) -> Fault {
        let hint = if self.url.is_encrypted() { "; does the server speak TLS? if not, write `redis://`" } else { "" };
        Fault::Silent { place: self.url.to_string(), patience: self.url.patience, hint }
    }

    /// The fault of a server that has not answered in time.
    pub(super) fn silent(&self) -> Fault {
        Fault::Silent { place: self.url.to_string(), patience: self.url.patience, hint: "" }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        lock(&self.line)
    }
}

impl Line {
    fn connected(&self) -> Option<(u64, MultiplexedConnection)> {
        Some((self.count, self.connection.clone()?))
    }
}

/// Forgets the connection of this number.
fn hang_up(line: &Mutex<Line>, count: u64) {
    let mut line = lock(line);
    if line.count == count {
        line.connection = None;
    }
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}
