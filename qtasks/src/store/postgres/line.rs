//! A connection that calls do not share, which is given up as soon as the server does not answer in time.

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

/// A connection to a server, which lasts as long as the server answers in time.
pub(super) struct Line {
    client: Client,
    patience: Duration,
    /// Why the connection has ended, once it has.
    end: watch::Sender<Option<Fault>>,
    connection: AbortHandle,
}

impl Line {
    /// Makes a connection. Notifications that come on it go to `on_notification`, which must not take long: answers wait for
    /// it.
    pub(super) async fn open(
        url: &StoreUrl,
        patience: Duration,
        on_notification: impl Fn(&str) + Send + 'static,
    ) -> Result<Self, Fault> {
        let connector = tls::connector(&url.trust).map_err(Fault::away)?;
        let (client, mut connection) = in_time(patience, async {
            url.of_sessions.connect(connector).await.map_err(|error| Fault::connecting(error, url))
        })
        .await?;
        let end = watch::Sender::new(None);
        let ended = end.clone();
        let connection = tokio::spawn(async move {
            let mut messages = poll_fn(move |context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notification(notification) = message {
                    on_notification(notification.payload());
                }
            }
            note(&ended, Fault::away("the server has closed it"));
        });
        Ok(Self { client, patience, end, connection: connection.abort_handle() })
    }

    /// Lets an answer take no longer than `patience`, from now on.
    pub(super) fn limit(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Carries out a statement, which names the schema `qtasks`.
    pub(super) async fn query(&self, url: &StoreUrl, statement: &Statement<'_>) -> Result<Vec<Row>, Fault> {
        self.ask(self.send(url, statement)).await.map_err(|fault| fault.explained(url))
    }

    /// Carries out statements without parameters.
    pub(super) async fn execute(&self, sql: &str) -> Result<(), Fault> {
        self.ask(async { Ok(self.client.batch_execute(sql).await?) }).await
    }

    /// The result of `work`, which waits for what was [sent](Self::send). If no answer comes in time, or the server cannot be
    /// written to any more, the connection is given up.
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

    /// Sends a statement when this is first polled, and gives the answer.
    ///
    /// The statement is not prepared: that would take another round trip on each new connection.
    pub(super) async fn send(&self, url: &StoreUrl, statement: &Statement<'_>) -> Result<Vec<Row>, Fault> {
        Ok(self.client.query_typed(&url.sql(statement.sql), statement.parameters).await?)
    }

    /// Ends the connection. Calls that wait for an answer get `why`.
    pub(super) fn give_up(&self, why: Fault) {
        note(&self.end, why);
    }

    /// Whether the connection has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Waits for the end of the connection, and says why it has ended.
    pub(super) async fn ended(&self) -> Fault {
        let mut end = self.end.subscribe();
        let ended = end.wait_for(Option::is_some).await.ok().and_then(|fault| fault.clone());
        ended.unwrap_or_else(|| Fault::away("it was given up"))
    }
}

impl Drop for Line {
    /// Closes the connection without a word to the server, which may not answer.
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Notes why a connection has ended. The first reason counts.
fn note(end: &watch::Sender<Option<Fault>>, why: Fault) {
    end.send_if_modified(|end| {
        let first = end.is_none();
        end.get_or_insert(why);
        first
    });
}
