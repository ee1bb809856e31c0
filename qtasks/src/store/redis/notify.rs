//! Notifications of what other processes write. They come on a channel of the server, so no process polls.

use std::{pin::pin, sync::Arc, time::Duration};

use redis::{PushInfo, PushKind, Value, aio::MultiplexedConnection, cmd};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{connection::Link, encoding, error::Fault, server};
use crate::{model::job::JobId, store::Notifier};

/// After this time without a message, the store checks whether the connection still works.
const CALM: Duration = Duration::from_secs(5);
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A connection on which notifications come in.
pub(super) struct Subscription {
    connection: MultiplexedConnection,
    pushes: mpsc::UnboundedReceiver<PushInfo>,
}

impl Subscription {
    pub(super) async fn open(link: &Link) -> Result<Self, Fault> {
        let (sender, pushes) = mpsc::unbounded_channel();
        let mut connection = link.connect(move |push| _ = sender.send(push)).await?;
        let channel = link.url.channel();
        let listening = async {
            connection.subscribe(channel).await?;
            // A server that still loads its data takes subscribers, but has nothing to look at yet.
            cmd("PING").query_async::<Value>(&mut connection).await
        };
        match timeout(link.url.patience, listening).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(link.explained(error.into()).await),
            Err(_) => return Err(link.silent()),
        }
        Ok(Self { connection, pushes })
    }

    /// Listens for ever. Notifications are lost while there is no connection, so after a new connection all listeners are
    /// notified.
    pub(super) async fn listen(mut self, link: Arc<Link>) {
        loop {
            self.receive(&link).await;
            tracing::warn!(server = %link.url, "the connection for news was lost; connecting again");
            self = reopened(&link).await;
            // A server that has lost its last second may have lost the change to this format too.
            if let Err(error) = server::migrate(&link).await {
                tracing::debug!(server = %link.url, %error, "the format of the store is not known yet");
            }
            link.notifier.notify_all();
        }
    }

    /// Notifies listeners of what comes in, until the connection is lost.
    async fn receive(&mut self, link: &Link) {
        loop {
            let mut calm = pin!(sleep(CALM));
            let push = tokio::select! {
                push = self.pushes.recv() => push,
                () = &mut calm => {
                    let ping = cmd("PING");
                    match timeout(link.url.patience, ping.query_async::<Value>(&mut self.connection)).await {
                        Ok(Ok(_)) => continue,
                        _ => return,
                    }
                }
            };
            match push {
                Some(PushInfo { kind: PushKind::Message, data }) => {
                    if let Some(Value::BulkString(message)) = data.get(1) {
                        notify(message, link.caller, &link.notifier);
                    }
                }
                Some(PushInfo { kind: PushKind::Disconnection, .. }) | None => return,
                Some(_) => {}
            }
        }
    }
}

async fn reopened(link: &Link) -> Subscription {
    let mut pause = SHORTEST_PAUSE;
    loop {
        match Subscription::open(link).await {
            Ok(subscription) => return subscription,
            Err(error) => tracing::debug!(server = %link.url, %error, "no connection for news yet"),
        }
        // At random, so that not all processes connect at the same time.
        sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Notifies listeners of a message: the store that sent it, a flag 1 for work, 2 for a worker that is gone and 4 for notes, the
/// number of jobs that have changed, their ids, and the ids of the jobs that have ended.
fn notify(message: &[u8], own: [u8; 8], notifier: &Notifier) {
    let Some((head, ids)) = message.split_first_chunk::<13>() else { return };
    let [caller @ .., flags, _, _, _, _] = *head;
    if caller == own {
        return;
    }
    let count = u32::from_be_bytes([head[9], head[10], head[11], head[12]]) as usize;
    let Some((jobs, ended)) = ids.split_at_checked(count.saturating_mul(16)) else { return };
    notifier.notify_jobs(ids_of(jobs));
    notifier.notify_ends(ids_of(ended));
    if flags & 1 != 0 {
        notifier.notify_work();
    }
    if flags & 2 != 0 {
        notifier.notify_lost();
    }
    if flags & 4 != 0 {
        notifier.notify_notes();
    }
}

fn ids_of(bytes: &[u8]) -> impl Iterator<Item = JobId> {
    bytes.chunks_exact(16).filter_map(|id| encoding::job_id(id).ok())
}
