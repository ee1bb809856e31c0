//! How an attempt stands to the span that enqueued its job, over processes and machines.

use std::{fmt, sync::Arc};

use tracing::Span;

use crate::model::job::Job;

/// How an attempt stands to the span that enqueued its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TraceRelation {
    /// The attempt is a part of the same trace, below that span.
    Child,
    /// The attempt begins a trace of its own, which names that span as one it follows from.
    Link,
}

/// Which attempts are parts of the trace that enqueued their job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Traces {
    /// The first attempt at a job that is due at once, if it was not enqueued by a task nor with more than 100 others. All other
    /// attempts are linked: they would make a trace of hours, or of thousands of spans.
    #[default]
    Auto,
    /// All attempts.
    Parent,
    /// None: all are linked.
    Link,
}

/// Gives the W3C `traceparent` of the current span, if it has one.
pub(crate) type Inject = dyn Fn() -> Option<String> + Send + Sync;
/// Puts the span of an attempt where its `traceparent` says.
pub(crate) type Extract = dyn Fn(&Span, &str, TraceRelation) + Send + Sync;

/// How the context of a trace goes with a job.
#[derive(Clone, Default)]
pub(crate) struct TraceContext {
    pub(crate) traces: Traces,
    functions: Option<Functions>,
}

/// What takes the context of a trace from a span, and gives it to one.
pub(crate) type Functions = (Arc<Inject>, Arc<Extract>);

impl TraceContext {
    pub(crate) fn set(
        &mut self,
        inject: impl Fn() -> Option<String> + Send + Sync + 'static,
        extract: impl Fn(&Span, &str, TraceRelation) + Send + Sync + 'static,
    ) {
        self.functions = Some((Arc::new(inject), Arc::new(extract)));
    }

    /// The same, with these functions where the program has named none.
    pub(crate) fn or(self, functions: Option<Functions>) -> Self {
        Self { functions: self.functions.or(functions), ..self }
    }

    /// The `traceparent` of the current span, for a job that it enqueues. What is none is left out.
    pub(crate) fn current(&self) -> Option<String> {
        let (inject, _) = self.functions.as_ref()?;
        inject().filter(|text| is_traceparent(text))
    }

    /// Puts the span of an attempt where it belongs.
    pub(crate) fn relate(&self, span: &Span, job: &Job) {
        let (Some((_, extract)), Some(trace)) = (&self.functions, &job.call.trace) else { return };
        let (parent, only_linked) = match trace.strip_prefix(LINKED) {
            Some(parent) => (parent, true),
            None => (&**trace, false),
        };
        let is_first = job.standing.attempt == 1;
        let relation = match self.traces {
            Traces::Parent => TraceRelation::Child,
            Traces::Auto if is_first && !only_linked => TraceRelation::Child,
            Traces::Auto | Traces::Link => TraceRelation::Link,
        };
        extract(span, parent, relation);
    }
}

/// What stands before the `traceparent` of a job whose attempts are to be linked.
const LINKED: &str = ">";

/// The `traceparent` of a job whose attempts are to be linked only.
pub(crate) fn linked(trace: Option<String>) -> Option<String> {
    trace.map(|trace| format!("{LINKED}{trace}"))
}

/// Whether a text is a `traceparent` as [W3C's Trace Context](https://www.w3.org/TR/trace-context/#traceparent-header) has it:
/// version, trace, span and flags.
fn is_traceparent(text: &str) -> bool {
    let is_hex = |part: &str| part.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let lengths = text.split('-').map(|part| (part.len(), is_hex(part)));
    lengths.eq([(2, true), (32, true), (16, true), (2, true)])
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceContext").field("traces", &self.traces).finish_non_exhaustive()
    }
}
