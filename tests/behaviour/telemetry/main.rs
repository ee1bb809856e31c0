//! What is traced and counted: names, kinds, fields and parents of spans, and the numbers.

mod numbers;
mod spans;

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    result,
    sync::Arc,
    time::Duration,
};

use opentelemetry::KeyValue;
use opentelemetry_sdk::metrics::{
    InMemoryMetricExporter, SdkMeterProvider,
    data::{AggregatedMetrics, MetricData},
};
use qtasks::{
    Clock, Scope,
    prelude::*,
    store::{Ask, Memory, Renewed},
};
use qtasks_tests::{
    Place, Stage,
    edge::{Behind, CarryOut, Edge},
    eventually, in_time,
    jobs::ask,
    ledger::Ledger,
};
use tokio::{sync::Mutex, time::sleep};
use tracing::{Instrument as _, Level};

use self::{numbers::Counted, spans::Recorded};

/// All tests of this program hear the same, so one runs at a time.
static TURN: Mutex<()> = Mutex::const_new(());

async fn refuses_odd(value: u32) -> result::Result<u32, String> {
    if value % 2 == 1 { Err("an odd one".to_owned()) } else { Ok(value) }
}

#[qtask(generate_handler = refuses_odd, on_error = "skip")]
async fn counted(n: u32) -> Vec<u32> {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask(queue = "other", retry = 1, backoff = "1ms..1ms")]
async fn fails_then_dies(secret: String) -> result::Result<u32, String> {
    _ = secret;
    Err("on purpose".to_owned())
}

#[qtask(retry = 0)]
async fn panics_once(secret: String) -> u32 {
    _ = secret;
    panic!("{}", "out of order")
}

#[qtask(echo = true)]
async fn enqueues_one(ctx: TaskContext) -> result::Result<(), String> {
    ctx.enqueue(counted(1)).await.map(drop).map_err(|error| error.to_string())
}

/// Has a worker run until all jobs have ended.
async fn ended<T>(app: &QueueTasks, jobs: impl IntoIterator<Item = JobHandle<T>>) {
    let worker = app.worker().start().await.unwrap();
    for job in jobs {
        eventually("it ends", async || job.status().await.unwrap().state.is_ended()).await;
    }
    worker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_have_the_names_kinds_fields_and_parents_of_the_conventions() {
    let _turn = TURN.lock().await;
    let recorded = Recorded::listen();
    let app = QueueTasks::open("memory:").await.unwrap();
    let request = tracing::info_span!(target: "test", "request");
    let job = app.enqueue(counted(3)).instrument(request.clone()).await.unwrap();
    ended(&app, [job.clone()]).await;
    let [send] = &recorded.spans("send")[..] else { panic!("one enqueue") };
    let [process] = &recorded.spans("process")[..] else { panic!("one attempt") };
    for span in [send, process] {
        assert_eq!(span.fields["messaging.message.id"], job.id().to_string());
    }
    let receive =
        recorded.spans("receive").into_iter().find(|span| span.fields["messaging.batch.message_count"] == "1");
    let settle = recorded.spans("settle").remove(0);
    let shown = [send.shown(), receive.unwrap().shown(), process.shown(), settle.shown()];
    insta::assert_snapshot!(shown.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_sent_in_one_span_and_each_attempt_is_one_of_its_own() {
    let _turn = TURN.lock().await;
    let recorded = Recorded::listen();
    let app = QueueTasks::open("memory:").await.unwrap();
    let jobs = app.enqueue_all((0..101).map(counted)).await.unwrap();
    app.enqueue_all([counted(1).queue("a"), counted(1).queue("b")]).await.unwrap();
    ended(&app, jobs).await;
    let [one, mixed] = &recorded.spans("send")[..] else { panic!("two enqueues") };
    assert_eq!(one.fields["messaging.batch.message_count"], "101");
    assert_eq!((&*one.fields["otel.name"], &*one.fields["messaging.destination.name"]), ("send default", "default"));
    assert!(!one.fields.contains_key("messaging.message.id"));
    assert_eq!((&*mixed.fields["otel.name"], mixed.fields.get("messaging.destination.name")), ("send", None));
    let attempts = recorded.spans("process");
    assert_eq!(attempts.len(), 101);
    assert!(attempts.iter().all(|span| span.parent.is_none()), "no job has the context of its enqueue with it");
    app.enqueue(enqueues_one()).await.unwrap();
    in_time(app.worker().run_until_idle()).await.unwrap();
    assert_eq!(recorded.spans("process").len(), 103);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_fails_says_how_and_the_next_one_is_another_span() {
    let _turn = TURN.lock().await;
    let recorded = Recorded::listen();
    let app = QueueTasks::open("memory:").await.unwrap();
    ended(&app, [app.enqueue(fails_then_dies("hunter2".into())).await.unwrap()]).await;
    ended(&app, [app.enqueue(panics_once("hunter2".into())).await.unwrap()]).await;
    let attempts = recorded.spans("process");
    let seen = attempts.iter().map(|span| {
        ["qtasks.task", "qtasks.attempt", "qtasks.failures", "qtasks.outcome", "error.type", "otel.status_code"]
            .map(|name| &*span.fields[name])
    });
    assert_eq!(
        seen.collect::<Vec<_>>(),
        [
            ["fails_then_dies", "1", "0", "waiting", "failed", "ERROR"],
            ["fails_then_dies", "2", "1", "dead", "failed", "ERROR"],
            ["panics_once", "1", "0", "dead", "panicked", "ERROR"],
        ]
    );
    assert!(recorded.text(Level::INFO).contains("on purpose"), "of an error, the text that its author wrote");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_argument_is_in_no_span_and_no_event_at_any_level() {
    let _turn = TURN.lock().await;
    let recorded = Recorded::listen();
    let app = QueueTasks::open(&Place::memory().url).await.unwrap();
    ended(&app, [app.enqueue(fails_then_dies("hunter2".into())).await.unwrap()]).await;
    ended(&app, [app.enqueue(panics_once("hunter2".into())).await.unwrap()]).await;
    let text = recorded.text(Level::TRACE);
    assert!(text.contains("fails_then_dies") && text.contains("receive") && !text.contains("hunter2"), "{text}");
    let at_info = recorded.text(Level::INFO);
    assert!(at_info.contains("the job is dead") && !at_info.contains("hunter2"), "{at_info}");
}

/// Answers no call.
#[derive(Debug)]
struct Away;

impl Edge for Away {
    async fn pass<T: Send + 'static>(&self, call: &'static str, carry_out: CarryOut<T>) -> qtasks::Result<T> {
        match call {
            "enqueue" => Err(qtasks::Error::Store { doing: "hear us", source: "the cable is out".into() }),
            _ => carry_out().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_enqueue_that_fails_says_how() {
    let _turn = TURN.lock().await;
    let (recorded, counted_here) = (Recorded::listen(), Counted::listen());
    let stage = Stage::on(Arc::new(Behind::new(Away, Arc::new(Memory::new()), &Ledger::default()))).await;
    stage.app.enqueue(counted(1)).await.unwrap_err();
    let send = recorded.spans("send").remove(0);
    assert_eq!((&*send.fields["error.type"], &*send.fields["otel.status_code"]), ("in_doubt", "ERROR"));
    assert_eq!(counted_here.lines(), "qtasks_commit_seconds{operation=send} 1\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_attempts_values_and_slots_are_counted() {
    let _turn = TURN.lock().await;
    let counted_here = Counted::listen();
    let app = QueueTasks::open("memory:").await.unwrap();
    let worker = app.worker().concurrency(7).start().await.unwrap();
    in_time(app.enqueue(counted(5)).await.unwrap().result()).await.unwrap();
    in_time(app.enqueue(fails_then_dies(String::new())).await.unwrap().result()).await.unwrap_err();
    in_time(app.enqueue(panics_once(String::new())).await.unwrap().result()).await.unwrap_err();
    app.enqueue_json("nobody_knows_it", &serde_json::json!({})).await.unwrap();
    in_time(app.enqueue_json("counted", &serde_json::json!({ "n": 1 })).await.unwrap().result()).await.unwrap();
    let slots = async || counted_here.lines().contains("qtasks_slots{} 7");
    eventually("the slots are counted", slots).await;
    worker.shutdown().await.unwrap();
    let lines = counted_here.lines();
    // How many calls there are depends on how jobs fall together, and what the store has on when it is asked.
    let by_chance =
        ["qtasks_commit_seconds", "qtasks_waiting", "qtasks_running", "qtasks_dead", "qtasks_oldest_due_seconds"];
    let is_certain = |line: &&str| !by_chance.iter().any(|name| line.starts_with(name));
    let lines: Vec<_> = lines.lines().filter(is_certain).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn the_jobs_of_the_whole_store_are_told_and_what_is_paused() {
    let _turn = TURN.lock().await;
    let counted_here = Counted::listen();
    let stage = Stage::in_memory(|builder| builder.clock(Clock::tokio())).await;
    let app = &stage.app;
    app.enqueue(panics_once(String::new()).queue("first")).await.unwrap();
    app.enqueue_json("nobody_knows_it", &serde_json::json!({})).await.unwrap();
    app.enqueue_json("nor_that", &serde_json::json!({})).await.unwrap();
    in_time(app.worker().queues(["first"]).run_until_idle()).await.unwrap();
    app.pause(Scope::Queue("later")).await.unwrap();
    let job = app.enqueue(counted(1).queue("later")).await.unwrap();
    let worker = app.worker().queues(["later"]).start().await.unwrap();
    sleep(Duration::from_secs(15)).await;
    let told = counted_here.lines();
    let has = |line: &str| told.lines().any(|found| found == line);
    assert!(has("qtasks_dead{queue=first,task=panics_once} 1"), "{told}");
    assert!(has("qtasks_waiting{queue=later,task=counted} 1") && has("qtasks_paused{scope=queue:later} 1"), "{told}");
    assert!(has("qtasks_waiting{queue=default,task=other} 2"), "tasks that the program does not know are one");
    let oldest = counted_here
        .lines()
        .lines()
        .find_map(|line| line.strip_prefix("qtasks_oldest_due_seconds{queue=later,task=counted} ")?.parse().ok());
    assert!(oldest.is_some_and(|oldest: f64| (5.0..=15.0).contains(&oldest)), "{oldest:?}");
    app.resume(Scope::Queue("later")).await.unwrap();
    job.result().await.unwrap();
    sleep(Duration::from_secs(11)).await;
    let gone = ["qtasks_waiting{queue=later,task=counted}", "qtasks_oldest_due_seconds{queue=later", "qtasks_paused"];
    assert!(gone.iter().all(|name| !counted_here.lines().contains(name)), "{}", counted_here.lines());
    worker.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn how_long_a_job_was_lost_is_timed() {
    let _turn = TURN.lock().await;
    let counted_here = Counted::listen();
    let stage = Stage::in_memory(|builder| builder.clock(Clock::tokio())).await;
    let job = stage.app.enqueue(counted(1)).await.unwrap();
    // By a worker that is never heard of again.
    let leased = stage
        .store
        .lease(Ask { tasks: ["counted"].into(), now: qtasks::jiff::Timestamp::MAX, ..ask(1) })
        .await
        .unwrap();
    assert_eq!(leased.jobs.len(), 1);
    let worker = stage.app.worker().start().await.unwrap();
    job.result().await.unwrap();
    let lines = counted_here.lines();
    assert!(lines.contains("qtasks_recovery_seconds{queue=default,task=counted} 1\n"), "{lines}");
    worker.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn how_long_a_job_waited_is_timed_from_when_it_was_due() {
    let _turn = TURN.lock().await;
    let counted_here = Counted::listen();
    let stage = Stage::in_memory(|builder| builder.clock(Clock::tokio())).await;
    stage.app.enqueue(counted(1).delay(Duration::from_secs(5))).await.unwrap();
    sleep(Duration::from_secs(7)).await;
    in_time(stage.app.worker().run_until_idle()).await.unwrap();
    let waited = counted_here.longest("qtasks_wait_seconds{queue=default,task=counted}").unwrap();
    assert!((waited - 2.0).abs() < 0.1, "{waited}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_says_which_schedule_has_enqueued_its_job() {
    let _turn = TURN.lock().await;
    let recorded = Recorded::listen();
    let stage = Stage::in_memory(|builder| {
        builder.clock(Clock::tokio()).schedule("by-the-minute", counted(1), "* * * * *", "UTC")
    });
    let stage = stage.await;
    stage.app.schedule("at-run-time", counted(1), "* * * * *").await.unwrap();
    stage.app.enqueue(counted(1)).await.unwrap();
    let worker = stage.app.worker().start().await.unwrap();
    sleep(Duration::from_secs(60)).await;
    eventually("all have run", async || recorded.spans("process").len() >= 3).await;
    worker.shutdown().await.unwrap();
    let attempts = recorded.spans("process");
    let schedules: BTreeSet<_> =
        attempts.iter().map(|span| span.fields.get("qtasks.schedule").map(|name| &**name)).collect();
    assert_eq!(schedules, BTreeSet::from([None, Some("at-run-time"), Some("by-the-minute")]));
}

/// Behind a store whose server's clock stands seven seconds before that of this machine.
#[derive(Debug)]
struct SlowClock;

impl Edge for SlowClock {
    async fn pass<T: Send + 'static>(&self, _call: &'static str, carry_out: CarryOut<T>) -> qtasks::Result<T> {
        let mut answer: Box<dyn Any + Send> = Box::new(carry_out().await?);
        if let Some(renewed) = answer.downcast_mut::<Renewed>() {
            renewed.now = Some(qtasks::jiff::Timestamp::now() - Duration::from_secs(7));
        }
        Ok(*answer.downcast().expect("it is what was carried out"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_far_from_that_of_the_server_is_told_and_said_once() {
    let _turn = TURN.lock().await;
    let (recorded, counted_here) = (Recorded::listen(), Counted::listen());
    let store = Behind::new(SlowClock, Arc::new(Memory::new()), &Ledger::default());
    let app = QueueTasks::builder().store_at(Arc::new(store)).build().await.unwrap();
    let worker = app.worker().start().await.unwrap();
    let skew = || {
        counted_here.lines().lines().find_map(|line| line.strip_prefix("qtasks_clock_skew_seconds{} ")?.parse().ok())
    };
    eventually("it is told", async || skew().is_some()).await;
    assert!(skew().is_some_and(|skew: f64| (skew - 7.0).abs() < 0.5), "{:?}", skew());
    worker.shutdown().await.unwrap();
    let said = recorded.text(Level::WARN);
    assert_eq!(said.matches(" ahead of that of the store's server").count(), 1, "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_traced_where_that_is_asked_for() {
    let _turn = TURN.lock().await;
    let recorded = Recorded::listen();
    let open = async |share| QueueTasks::builder().store("memory:").trace_values(share).build().await.unwrap();
    let app = open(0.0).await;
    ended(&app, [app.enqueue(counted(3)).await.unwrap()]).await;
    assert!(recorded.spans("handle").is_empty());
    let app = open(0.5).await;
    ended(&app, [app.enqueue(counted(4)).await.unwrap()]).await;
    let numbers = |recorded: &Recorded| {
        recorded.spans("handle").iter().map(|span| span.fields["qtasks.step"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&recorded), ["0", "2"]);
    app.run(counted(3)).await.unwrap();
    assert_eq!(numbers(&recorded), ["0", "2", "0", "2"], "of a task that is run here and now too");

    let recorded = Recorded::listen();
    let app = open(1.0).await;
    ended(&app, [app.enqueue(counted(2)).await.unwrap()]).await;
    let shown: Vec<_> = recorded.spans("handle").iter().map(|span| span.shown()).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[tokio::test]
async fn a_share_of_values_that_is_none_is_refused() {
    let error = QueueTasks::builder().store("memory:").trace_values(100.0).build().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the share of values that are traced (`.trace_values(..)`, or `QTASKS_TRACE_VALUES`) is a number from 0, none, to 1, \
         all: `0.001` traces each thousandth value of a job"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_values_the_first_and_some_later_ones_are_timed() {
    let _turn = TURN.lock().await;
    let counted_here = Counted::listen();
    let app = QueueTasks::open("memory:").await.unwrap();
    ended(&app, [app.enqueue(counted(640)).await.unwrap()]).await;
    let lines = counted_here.lines();
    assert!(lines.contains("qtasks_handler_seconds{task=counted} 73\n"), "64, and 9 of the other 576: {lines}");
}

fn attributes<'a>(all: impl Iterator<Item = &'a KeyValue>) -> String {
    let mut all: Vec<_> = all.map(|pair| format!("{}={}", pair.key, pair.value)).collect();
    all.sort();
    all.join(" ")
}

/// The numbers of one metric: how often, by the attributes.
fn counts(data: &AggregatedMetrics) -> Vec<(String, u64)> {
    match data {
        AggregatedMetrics::U64(MetricData::Sum(sum)) => {
            sum.data_points().map(|point| (attributes(point.attributes()), point.value())).collect()
        }
        AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
            histogram.data_points().map(|point| (attributes(point.attributes()), point.count())).collect()
        }
        other => panic!("{other:?} is no number of the conventions"),
    }
}

/// The provider is set once, before anything else is done: it is for this process.
fn exporter() -> (SdkMeterProvider, InMemoryMetricExporter) {
    let exporter = InMemoryMetricExporter::default();
    let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter.clone()).build();
    opentelemetry::global::set_meter_provider(provider.clone());
    (provider, exporter)
}

/// No test, but the other process: this one has set no provider in time.
#[test]
fn numbers_by_the_conventions() {
    if std::env::var_os("QTASKS_TELEMETRY_CHILD").is_none() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "numbers_by_the_conventions"]).env("QTASKS_TELEMETRY_CHILD", "1");
        let output = child.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let (provider, exporter) = exporter();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let app = QueueTasks::open("memory:").await.unwrap();
        ended(&app, app.enqueue_all((0..3).map(counted)).await.unwrap()).await;
        ended(&app, [app.enqueue(panics_once(String::new())).await.unwrap()]).await;
    });
    provider.force_flush().unwrap();
    let exported = exporter.get_finished_metrics().unwrap();
    let metrics = exported.last().unwrap().scope_metrics().flat_map(|scope| scope.metrics());
    let found: BTreeMap<_, _> = metrics.map(|metric| ((metric.name(), metric.unit()), counts(metric.data()))).collect();
    let names: Vec<_> = found.keys().copied().collect();
    assert_eq!(
        names,
        [
            ("messaging.client.consumed.messages", "{message}"),
            ("messaging.client.operation.duration", "s"),
            ("messaging.client.sent.messages", "{message}"),
            ("messaging.process.duration", "s"),
        ]
    );
    let send = "messaging.destination.name=default messaging.operation.name=send messaging.operation.type=send messaging.system=qtasks";
    assert_eq!(found[&names[2]], [(send.to_owned(), 4)]);
    let process = |task: &str, error: &str| {
        format!(
            "{error}messaging.destination.name=default messaging.operation.name=process messaging.system=qtasks qtasks.task={task}"
        )
    };
    let mut ended = found[&names[3]].clone();
    ended.sort();
    assert_eq!(ended, [(process("panics_once", "error.type=panicked "), 1), (process("counted", ""), 3)]);
    let operations: Vec<_> = found[&names[1]].iter().map(|(attributes, _)| attributes.clone()).collect();
    for operation in ["send", "receive", "settle"] {
        let name = format!("messaging.operation.name={operation} ");
        assert!(operations.iter().any(|attributes| attributes.contains(&name)), "{operations:?}");
    }
}
