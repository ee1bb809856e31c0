//! The context of a trace goes with a job: an attempt is a part of the trace that enqueued it, or linked to it. By OpenTelemetry,
//! and by functions of a program's own.

use std::{
    result,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use opentelemetry::trace::{SpanId, TraceId, TracerProvider as _};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use qtasks::{TraceRelation, Traces, prelude::*};
use qtasks_tests::in_time;
use tracing::{Instrument as _, Span, info_span};
use tracing_subscriber::{filter::LevelFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

#[qtask]
async fn quiet(n: u32) -> u32 {
    n
}

#[qtask(retry = 1, backoff = "1ms..1ms")]
async fn fails_once() -> result::Result<(), String> {
    if TaskContext::current().attempt() == 1 { Err("on purpose".to_owned()) } else { Ok(()) }
}

#[qtask(echo = true)]
async fn enqueues_another(ctx: TaskContext) -> result::Result<(), String> {
    ctx.enqueue(quiet(1)).await.map(drop).map_err(|error| error.to_string())
}

/// All spans of this program that have ended.
static SPANS: LazyLock<(SdkTracerProvider, InMemorySpanExporter)> = LazyLock::new(|| {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    tracing_subscriber::registry().with(LevelFilter::INFO).with(layer).init();
    (provider, exporter)
});

/// A span that a program has for a request, and where it is in its trace.
fn request() -> Span {
    LazyLock::force(&SPANS);
    info_span!("request", number = fastrand::u64(..))
}

/// The attempts at a job, the first in front.
fn attempts(job: JobId) -> Vec<SpanData> {
    let id = job.to_string();
    let is_of_job = |span: &SpanData| {
        span.attributes.iter().any(|field| field.key.as_str() == "messaging.message.id" && field.value.as_str() == id)
    };
    let mut spans = SPANS.1.get_finished_spans().unwrap();
    spans.retain(|span| span.name.starts_with("process") && is_of_job(span));
    spans.sort_by_key(|span| span.start_time);
    spans
}

/// The ids of a span that is under way.
fn place(span: &Span) -> (TraceId, SpanId) {
    use opentelemetry::trace::TraceContextExt as _;
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;
    let context = span.context();
    let context = context.span().span_context().clone();
    (context.trace_id(), context.span_id())
}

fn is_child(attempt: &SpanData, (trace, span): (TraceId, SpanId)) -> bool {
    attempt.span_context.trace_id() == trace && attempt.parent_span_id == span && attempt.links.is_empty()
}

fn is_linked(attempt: &SpanData, (trace, span): (TraceId, SpanId)) -> bool {
    let links: Vec<_> =
        attempt.links.iter().map(|link| (link.span_context.trace_id(), link.span_context.span_id())).collect();
    attempt.span_context.trace_id() != trace && attempt.parent_span_id == SpanId::INVALID && links == [(trace, span)]
}

async fn work(app: &QueueTasks) {
    in_time(app.worker().run_until_idle()).await.unwrap();
}

#[tokio::test]
async fn the_first_attempt_is_a_part_of_the_trace_and_the_next_one_is_linked() {
    let app = QueueTasks::open("memory:").await.unwrap();
    let request = request();
    let job = app.enqueue(fails_once()).instrument(request.clone()).await.unwrap();
    let worker = app.worker().start().await.unwrap();
    in_time(job.result()).await.unwrap();
    in_time(worker.shutdown()).await.unwrap();
    let [first, second] = &attempts(job.id())[..] else { panic!("two attempts") };
    assert!(is_child(first, place(&request)), "{first:?}");
    assert!(is_linked(second, place(&request)), "{second:?}");
}

#[tokio::test]
async fn what_would_make_a_trace_too_long_or_too_large_is_linked() {
    let app = QueueTasks::open("memory:").await.unwrap();
    let request = request();
    let place = place(&request);
    let delayed = app.enqueue(quiet(0).delay(Duration::from_millis(1))).instrument(request.clone()).await.unwrap();
    let many = app.enqueue_all((0..101).map(quiet)).instrument(request.clone()).await.unwrap();
    let few = app.enqueue_all((0..100).map(quiet)).instrument(request.clone()).await.unwrap();
    let parent = app.enqueue(enqueues_another()).instrument(request).await.unwrap();
    let worker = app.worker().start().await.unwrap();
    in_time(delayed.result()).await.unwrap();
    in_time(parent.result()).await.unwrap();
    in_time(worker.shutdown()).await.unwrap();
    work(&app).await;
    for job in many.iter().chain([&delayed]) {
        assert!(is_linked(&attempts(job.id())[0], place), "{job:?}");
    }
    for job in few {
        assert!(is_child(&attempts(job.id())[0], place), "{job:?}");
    }
    let above = attempts(parent.id()).remove(0);
    assert!(is_child(&above, place));
    let page = app.find("task:quiet order:newest").await.unwrap();
    let child = page.jobs.into_iter().max_by_key(|job| job.call.id).unwrap();
    let below = attempts(child.call.id).remove(0);
    assert!(is_linked(&below, (above.span_context.trace_id(), above.span_context.span_id())), "{below:?}");
}

#[tokio::test]
async fn a_job_that_no_span_enqueued_begins_a_trace() {
    LazyLock::force(&SPANS);
    let app = QueueTasks::open("memory:").await.unwrap();
    let job = app.enqueue(quiet(0)).await.unwrap();
    work(&app).await;
    let attempt = attempts(job.id()).remove(0);
    assert!(attempt.links.is_empty() && attempt.parent_span_id == SpanId::INVALID);
    assert_eq!(app.find_job(job.id()).await.unwrap().unwrap().call.trace, None);
}

#[tokio::test]
async fn a_program_may_want_all_in_one_trace_or_none() {
    for (traces, in_one) in [(Traces::Parent, true), (Traces::Link, false)] {
        let app = QueueTasks::builder().store("memory:").traces(traces).build().await.unwrap();
        let request = request();
        let jobs = app.enqueue_all((0..101).map(quiet)).instrument(request.clone()).await.unwrap();
        let one = app.enqueue(quiet(0)).instrument(request.clone()).await.unwrap();
        work(&app).await;
        for job in [&jobs[0], &one] {
            let attempt = attempts(job.id()).remove(0);
            assert_eq!(is_child(&attempt, place(&request)), in_one, "{traces:?}");
            assert_eq!(is_linked(&attempt, place(&request)), !in_one, "{traces:?}");
        }
    }
}

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn a_program_may_say_itself_how_a_trace_goes_on() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    for given in [TRACE, "", "no trace", &TRACE.to_uppercase(), &TRACE.replace('-', "_")] {
        let (texts, given) = (seen.clone(), given.to_owned());
        let app = QueueTasks::builder().store("memory:").trace_context(
            move || Some(given.clone()),
            move |_span, parent, relation| texts.lock().unwrap().push((parent.to_owned(), relation)),
        );
        let app = app.build().await.unwrap();
        app.enqueue(quiet(0)).await.unwrap();
        app.enqueue(quiet(0).delay(Duration::ZERO)).await.unwrap();
        work(&app).await;
    }
    let child = || (TRACE.to_owned(), TraceRelation::Child);
    assert_eq!(*seen.lock().unwrap(), [child(), child()], "what is no `traceparent` is left out");
}
