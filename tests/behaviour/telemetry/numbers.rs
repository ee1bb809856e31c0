//! A recorder of the facade `metrics` that keeps what is counted, by name and labels.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

type Numbers = BTreeMap<String, f64>;

static KEPT: Mutex<Numbers> = Mutex::new(Numbers::new());

fn kept() -> MutexGuard<'static, Numbers> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The longest time of each name.
static LONGEST: Mutex<Numbers> = Mutex::new(Numbers::new());

fn longest() -> MutexGuard<'static, Numbers> {
    LONGEST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is counted in this process from now on: of a time, how often one was recorded.
pub(crate) struct Counted;

impl Counted {
    pub(crate) fn listen() -> Self {
        static LISTEN: Once = Once::new();
        LISTEN.call_once(|| metrics::set_global_recorder(Keep).expect("it is the only recorder"));
        kept().clear();
        longest().clear();
        Self
    }

    /// The longest of the times that were recorded under this name, in seconds.
    pub(crate) fn longest(&self, name: &str) -> Option<f64> {
        longest().get(name).copied()
    }

    /// All numbers but 0, a line each.
    pub(crate) fn lines(&self) -> String {
        kept().iter().filter(|(_, number)| **number != 0.0).map(|(name, number)| format!("{name} {number}\n")).collect()
    }
}

struct Keep;

struct Number(String);

impl Number {
    fn of(key: &Key) -> Arc<Self> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Arc::new(Self(format!("{}{{{}}}", key.name(), labels.join(","))))
    }

    fn add(&self, more: f64) {
        *kept().entry(self.0.clone()).or_default() += more;
    }
}

impl CounterFn for Number {
    fn increment(&self, value: u64) {
        self.add(value as f64);
    }

    fn absolute(&self, _value: u64) {
        unreachable!("qtasks only adds")
    }
}

impl GaugeFn for Number {
    fn increment(&self, value: f64) {
        self.add(value);
    }

    fn decrement(&self, value: f64) {
        self.add(-value);
    }

    fn set(&self, value: f64) {
        kept().insert(self.0.clone(), value);
    }
}

impl HistogramFn for Number {
    fn record(&self, value: f64) {
        assert!(value >= 0.0);
        self.add(1.0);
        let mut longest = longest();
        let known = longest.entry(self.0.clone()).or_default();
        *known = known.max(value);
    }
}

impl Recorder for Keep {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Number::of(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Number::of(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Number::of(key))
    }
}
