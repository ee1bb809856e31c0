//! A subscriber that keeps all spans and events of qtasks.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, Once, PoisonError},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

/// A span of qtasks or of a test.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) name: &'static str,
    pub(crate) level: Level,
    pub(crate) parent: Option<&'static str>,
    pub(crate) fields: Fields,
}

/// The fields of a span, as texts.
pub(crate) type Fields = BTreeMap<&'static str, String>;

impl Span {
    /// The fields without those that are others in each run, and these as marks.
    pub(crate) fn shown(&self) -> String {
        let own = |name: &str| ["messaging.message.id", "messaging.client.id"].contains(&name);
        let fields = self.fields.iter().map(|(name, value)| match own(name) {
            true => format!("  {name} = [id]\n"),
            false => format!("  {name} = {value}\n"),
        });
        let parent = self.parent.unwrap_or("none");
        format!("{} ({}, parent {parent})\n{}", self.name, self.level, fields.collect::<String>())
    }
}

/// All spans that were made, by their ids, and the texts of events.
#[derive(Default)]
struct Kept {
    spans: Vec<(u64, Span)>,
    events: Vec<(Level, String)>,
}

static KEPT: Mutex<Kept> = Mutex::new(Kept { spans: Vec::new(), events: Vec::new() });

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is said in this process from now on.
pub(crate) struct Recorded;

impl Recorded {
    pub(crate) fn listen() -> Self {
        static LISTEN: Once = Once::new();
        LISTEN.call_once(|| tracing_subscriber::registry().with(Keep).init());
        *kept() = Kept::default();
        Self
    }

    /// The spans of this name, in the order in which they were made.
    pub(crate) fn spans(&self, name: &str) -> Vec<Span> {
        kept().spans.iter().map(|(_, span)| span).filter(|span| span.name == name).cloned().collect()
    }

    /// All that is said at this level and above, as text.
    pub(crate) fn text(&self, level: Level) -> String {
        let kept = kept();
        let spans = kept.spans.iter().filter(|(_, span)| span.level <= level).map(|(_, span)| format!("{span:?}\n"));
        let events = kept.events.iter().filter(|(of, _)| *of <= level).map(|(_, text)| format!("{text}\n"));
        spans.chain(events).collect()
    }
}

/// The spans and events of qtasks, and the spans of tests.
struct Keep;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Keep {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target() == "qtasks" || metadata.target() == "test"
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Texts::default();
        attributes.record(&mut fields);
        let parent = context.span(id).and_then(|span| span.parent()).map(|parent| parent.name());
        let metadata = attributes.metadata();
        let span = Span { name: metadata.name(), level: *metadata.level(), parent, fields: fields.0 };
        kept().spans.push((id.into_u64(), span));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut fields = Texts::default();
        values.record(&mut fields);
        // Ids are used again, by later spans.
        if let Some((_, span)) = kept().spans.iter_mut().rev().find(|(of, _)| *of == id.into_u64()) {
            span.fields.extend(fields.0);
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Texts::default();
        event.record(&mut fields);
        kept().events.push((*event.metadata().level(), format!("{:?}", fields.0)));
    }
}

#[derive(Default)]
struct Texts(Fields);

impl Visit for Texts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}
