//! A web service whose pages see a job's values as they come, as server-sent events.
//!
//! Each event's id is the number of its step. A browser that lost its connection says the last one that it got, in
//! `Last-Event-ID`, and gets the rest, without a gap or a repeat, from whichever process it reaches. `Ctrl-C` stops the
//! worker and then the server, which does not wait for streams that are open: their browsers come back.
//!
//! ```sh
//! cargo run -p qtasks-examples --example server_sent_events &
//! job=$(curl --json '{ "to": 100, "pause": 200 }' localhost:3000/jobs | tr -d '"')
//! curl --no-buffer localhost:3000/jobs/$job/events
//! curl --no-buffer --header 'Last-Event-ID: 41' localhost:3000/jobs/$job/events
//! curl localhost:3000/jobs/$job
//! ```

use std::{convert::Infallible, env, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State as Site},
    http::{HeaderMap, StatusCode},
    response::sse::{Event, KeepAlive, Sse},
    routing::{get, post},
};
use futures::stream::{self, Stream};
use qtasks::{Error, Status, prelude::*};
use qtasks_examples::store_url;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Counts from 1, with a pause of so many milliseconds before each number.
#[qtask]
async fn count(to: u32, pause: u64) -> Vec<u32> {
    for number in 1..=to {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        yield_!(number);
    }
}

/// What all requests share.
#[derive(Clone)]
struct Service {
    app: QueueTasks,
    stopping: CancellationToken,
}

type Problem = (StatusCode, String);

/// Starts a job. The request's body is the task's arguments.
async fn start(Site(service): Site<Service>, Json(call): Json<count>) -> Result<Json<JobId>, Problem> {
    let job = service.app.enqueue(call).await.map_err(problem)?;
    Ok(Json(job.id()))
}

/// Where a job stands.
async fn status(Site(service): Site<Service>, Path(id): Path<JobId>) -> Result<Json<Status>, Problem> {
    let job = service.app.job::<count>(id).await.map_err(problem)?;
    job.status().await.map(Json).map_err(problem)
}

/// The values of a job, from after the last one that the browser got, and an event `end`, at which a page closes its
/// `EventSource`.
async fn events(
    Site(service): Site<Service>,
    Path(id): Path<JobId>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let job = service.app.job::<count>(id).await.map_err(problem)?;
    let next = last_event(&headers).map_or(0, |last| last + 1);
    let values = stream::iter(next..).zip(job.stream_from(next)).map(|(seq, value)| event(seq, value));
    let end = stream::once(async { Event::default().event("end").data("") });
    // Or the server would wait for this stream when it stops.
    let events = values.chain(end).take_until(service.stopping.cancelled_owned());
    Ok(Sse::new(events.map(Ok)).keep_alive(KeepAlive::default()))
}

fn last_event(headers: &HeaderMap) -> Option<u64> {
    headers.get("Last-Event-ID")?.to_str().ok()?.parse().ok()
}

fn event(seq: u64, value: qtasks::Result<u32>) -> Event {
    match value {
        Ok(value) => Event::default().id(seq.to_string()).data(value.to_string()),
        Err(error) => Event::default().event("failed").data(error.to_string()),
    }
}

fn problem(error: Error) -> Problem {
    let status = match error {
        Error::NoSuchJob(_) | Error::OtherTask { .. } => StatusCode::NOT_FOUND,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, error.to_string())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let app = QueueTasks::open(&store_url("memory:")).await?;
    let worker = app.worker().start().await?;
    let service = Service { app, stopping: CancellationToken::new() };
    let stopping = service.stopping.clone();

    let routes = Router::new()
        .route("/jobs", post(start))
        .route("/jobs/{id}", get(status))
        .route("/jobs/{id}/events", get(events))
        .with_state(service);
    let listener = TcpListener::bind(env::args().nth(1).as_deref().unwrap_or("127.0.0.1:3000")).await?;
    let signal = worker.until_signal();
    println!("listening on http://{}", listener.local_addr()?);
    let server = axum::serve(listener, routes).with_graceful_shutdown(stopping.clone().cancelled_owned());
    let server = tokio::spawn(server.into_future());

    signal.await?;
    stopping.cancel();
    server.await??;
    Ok(())
}
