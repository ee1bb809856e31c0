//! The context of a trace, by OpenTelemetry.

use std::sync::Arc;

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::trace::{Functions, TraceRelation};

/// Takes the context of a trace from the current span, and gives it to that of an attempt.
pub(crate) fn functions() -> Option<Functions> {
    Some((Arc::new(inject), Arc::new(extract)))
}

/// The `traceparent` of the current span, or of the context that the program is in.
fn inject() -> Option<String> {
    let of_span = Span::current().context();
    let context = [of_span, Context::current()].into_iter().find(|context| context.span().span_context().is_valid())?;
    let span = context.span();
    let span = span.span_context();
    Some(format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8()))
}

/// Puts the span of an attempt below its parent, or links it.
fn extract(span: &Span, parent: &str, relation: TraceRelation) {
    let Some(parent) = remote(parent) else { return };
    match relation {
        TraceRelation::Child => {
            // Without a layer of OpenTelemetry there is nothing to be put anywhere.
            _ = span.set_parent(Context::new().with_remote_span_context(parent));
        }
        TraceRelation::Link => span.add_link(parent),
    }
}

/// The context of a span elsewhere.
fn remote(traceparent: &str) -> Option<SpanContext> {
    let parts: Vec<_> = traceparent.split('-').collect();
    let [_version, trace, span, flags] = parts[..] else { return None };
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    Some(SpanContext::new(trace, span, flags, true, TraceState::NONE))
}
