//! A connection of its own, which is given up as soon as it does not answer in time.

use std::time::Duration;

use futures::{StreamExt as _, stream::poll_fn};
use tokio::{sync::watch, task::AbortHandle, time::timeout};
use tokio_postgres::{AsyncMessage, Client, Row};

use super::{
    error::Fault,
    pool::{Statement, in_time},
    tls,
    url::StoreUrl,
};

/// A connection to a server, for as long as that answers in time.
pub(super) struct Line {
    client: Client,
    patience: Duration,
    /// Why it has ended, when it has.
    end: watch::Sender<Option<Fault>>,
    connection: AbortHandle,
}

impl Line {
    /// Makes a connection; what is told on it goes to `hear`, which must not take long: answers come after it.
    pub(super) async fn open(
        place: &StoreUrl,
        patience: Duration,
        hear: impl Fn(&str) + Send + 'static,
    ) -> Result<Self, Fault> {
        let connector = tls::connector(&place.trust).map_err(Fault::away)?;
        let (client, mut connection) = in_time(patience, async {
            place.of_sessions.connect(connector).await.map_err(|error| Fault::connecting(error, place))
        })
        .await?;
        let end = watch::Sender::new(None);
        let ended = end.clone();
        let connection = tokio::spawn(async move {
            let mut messages = poll_fn(move |context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notification(notification) = message {
                    hear(notification.payload());
                }
            }
            note(&ended, Fault::away("the server has closed it"));
        });
        Ok(Self { client, patience, end, connection: connection.abort_handle() })
    }

    /// Lets an answer take no longer than this, from now on.
    pub(super) fn limit(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Carries out a statement, which names the schema `qtasks`.
    pub(super) async fn query(&self, place: &StoreUrl, statement: &Statement<'_>) -> Result<Vec<Row>, Fault> {
        self.ask(self.send(place, statement)).await.map_err(|fault| fault.explained(place))
    }

    /// Carries out statements without parameters.
    pub(super) async fn execute(&self, sql: &str) -> Result<(), Fault> {
        self.ask(async { Ok(self.client.batch_execute(sql).await?) }).await
    }

    /// What `work` comes to, which is about what was [sent](Self::send). Where no answer comes in time, or the server cannot
    /// be written to any more, this ends.
    pub(super) async fn ask<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let came = tokio::select! {
            biased;
            came = timeout(self.patience, work) => came.unwrap_or(Err(Fault::Silent(self.patience))),
            fault = self.ended() => Err(fault),
        };
        if let Err(fault) = &came
            && (matches!(fault, Fault::Silent(_)) || fault.is_read_only() || self.client.is_closed())
        {
            self.give_up(fault.clone());
        }
        came
    }

    /// Sends a statement when this is first polled; gives the answer.
    ///
    /// It is not prepared: that would take a round trip more on each new connection.
    pub(super) async fn send(&self, place: &StoreUrl, statement: &Statement<'_>) -> Result<Vec<Row>, Fault> {
        Ok(self.client.query_typed(&place.sql(statement.sql), statement.parameters).await?)
    }

    /// Ends it; those who wait for an answer get `why`.
    pub(super) fn give_up(&self, why: Fault) {
        note(&self.end, why);
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Waits for its end, and says why.
    pub(super) async fn ended(&self) -> Fault {
        let mut end = self.end.subscribe();
        let ended = end.wait_for(Option::is_some).await.ok().and_then(|fault| fault.clone());
        ended.unwrap_or_else(|| Fault::away("it was given up"))
    }
}

impl Drop for Line {
    /// A server that does not answer is not taken leave of.
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The first reason counts.
fn note(end: &watch::Sender<Option<Fault>>, why: Fault) {
    end.send_if_modified(|end| {
        let first = end.is_none();
        end.get_or_insert(why);
        first
    });
}
