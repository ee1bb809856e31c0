//! Numbers by OpenTelemetry's
//! [conventions for messaging](https://opentelemetry.io/docs/specs/semconv/messaging/messaging-metrics/), to the meter
//! `qtasks` of the global provider. The program sets the provider before it opens its application.

use std::sync::LazyLock;

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram, Meter},
};

use super::event::{Called, EndOfAttempt, Event, Lane, Operation};

pub(super) const IS_ON: bool = true;

const SYSTEM: &str = "messaging.system";
const DESTINATION: &str = "messaging.destination.name";
const OPERATION_NAME: &str = "messaging.operation.name";
const OPERATION_TYPE: &str = "messaging.operation.type";
const ERROR_TYPE: &str = "error.type";
const TASK: &str = "qtasks.task";

/// The bounds that the conventions ask for, in seconds.
const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

struct Instruments {
    operation: Histogram<f64>,
    process: Histogram<f64>,
    sent: Counter<u64>,
    consumed: Counter<u64>,
}

static INSTRUMENTS: LazyLock<Instruments> = LazyLock::new(|| Instruments::of(&global::meter("qtasks")));

impl Instruments {
    fn of(meter: &Meter) -> Self {
        let seconds = |name, what| {
            let histogram = meter.f64_histogram(name).with_unit("s").with_description(what);
            histogram.with_boundaries(BOUNDS.to_vec()).build()
        };
        let messages = |name, what| meter.u64_counter(name).with_unit("{message}").with_description(what).build();
        Self {
            operation: seconds(
                "messaging.client.operation.duration",
                "Duration of messaging operation initiated by a producer or consumer client.",
            ),
            process: seconds("messaging.process.duration", "Duration of processing operation."),
            sent: messages(
                "messaging.client.sent.messages",
                "Number of messages producer attempted to send to the broker.",
            ),
            consumed: messages(
                "messaging.client.consumed.messages",
                "Number of messages that were delivered to the application.",
            ),
        }
    }
}

pub(super) fn note(event: &Event<'_>) {
    match event {
        Event::Started(lane, _) => INSTRUMENTS.consumed.add(1, &of_lane("process", lane, None)),
        Event::Ended(lane, EndOfAttempt { took, error_type, .. }) => {
            INSTRUMENTS.process.record(took.as_secs_f64(), &of_lane("process", lane, *error_type));
        }
        // Within an attempt; the conventions know no such operation.
        Event::Called(Operation::Record, _) => {}
        Event::Called(operation, called) => answered(*operation, called),
        Event::Enqueued(_)
        | Event::Lost(..)
        | Event::Handled { .. }
        | Event::Stored(..)
        | Event::Paused { .. }
        | Event::Fired { .. }
        | Event::ClockAhead(_)
        | Event::Slots(_)
        | Event::SlotsUsed(_) => {}
    }
}

fn answered(operation: Operation, called: &Called<'_>) {
    let mut attributes = of_operation(operation.name(), called.error_type);
    attributes.push(KeyValue::new(OPERATION_TYPE, operation.name()));
    attributes.extend(called.queue.map(|queue| KeyValue::new(DESTINATION, queue.to_owned())));
    INSTRUMENTS.operation.record(called.took.as_secs_f64(), &attributes);
    if operation == Operation::Send {
        INSTRUMENTS.sent.add(called.jobs as u64, &attributes);
    }
}

fn of_lane(operation: &'static str, lane: &Lane<'_>, error_type: Option<&'static str>) -> Vec<KeyValue> {
    let mut attributes = of_operation(operation, error_type);
    attributes.push(KeyValue::new(DESTINATION, lane.queue.to_owned()));
    attributes.push(KeyValue::new(TASK, lane.task.to_owned()));
    attributes
}

fn of_operation(name: &'static str, error_type: Option<&'static str>) -> Vec<KeyValue> {
    let mut attributes = vec![KeyValue::new(SYSTEM, "qtasks"), KeyValue::new(OPERATION_NAME, name)];
    attributes.extend(error_type.map(|how| KeyValue::new(ERROR_TYPE, how)));
    attributes
}
