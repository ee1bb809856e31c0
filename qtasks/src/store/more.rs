//! What few calls have, as one text: the column `more` of SQLite and Postgres, and a part of the bytes in Redis.
//!
//! There is none for most jobs. Where there is only a trace, the text is the trace, as older versions have written it; else it is an
//! object in JSON, of the members `trace`, `expires` (in milliseconds), `key` and `after`. Members of other names are those of a newer qtasks.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::codec::{limit, limit_millis};
use crate::model::job::{After, JobCall};

#[derive(Default, Serialize, Deserialize)]
struct More<'c> {
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    trace: Option<Cow<'c, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<i64>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'c, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<Box<After>>,
}

/// What there is of this call besides what every call has.
pub(crate) fn more(call: &JobCall) -> Option<Cow<'_, str>> {
    text(call, call.after.clone())
}

/// The same for a call that replaces another one, of which the job waits for the same jobs as before.
pub(crate) fn more_of_replacing(call: &JobCall) -> Option<Cow<'_, str>> {
    text(call, None)
}

fn text(call: &JobCall, after: Option<Box<After>>) -> Option<Cow<'_, str>> {
    let trace = call.trace.as_deref().map(Cow::Borrowed);
    if call.expires.is_none() && call.key.is_none() && after.is_none() {
        return trace;
    }
    let key = call.key.as_deref().map(Cow::Borrowed);
    let more = More { trace, expires: call.expires.map(limit_millis), key, after };
    Some(serde_json::to_string(&more).expect("texts and numbers have a JSON form").into())
}

/// Adds to a call what [`more`] gave of it.
pub(crate) fn read_more(call: &mut JobCall, more: Option<&str>) {
    let Some(text) = more.filter(|text| !text.is_empty()) else { return };
    let alone = || More { trace: Some(text.into()), ..More::default() };
    let more = if text.starts_with('{') { serde_json::from_str(text).unwrap_or_default() } else { alone() };
    call.trace = more.trace.map(Cow::into_owned);
    call.expires = more.expires.map(limit);
    call.key = more.key.map(Cow::into_owned);
    call.after = more.after;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{
        job::{AfterFailure, JobId},
        json::Json,
    };

    fn call(trace: Option<&str>, expires: Option<Duration>) -> JobCall {
        JobCall {
            id: JobId::from_bytes([1; 16]),
            task: "t".into(),
            queue: "default".into(),
            priority: 0,
            args: Json::from_stored("{}"),
            max_time: None,
            enqueued: jiff::Timestamp::UNIX_EPOCH,
            expires,
            trace: trace.map(str::to_owned),
            key: None,
            after: None,
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let trace = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        for (trace, expires) in [(None, None), (trace, None), (None, Some(7)), (trace, Some(u64::MAX))] {
            let written = call(trace, expires.map(Duration::from_secs));
            let text = more(&written).map(Cow::into_owned);
            assert_eq!(text.is_some(), trace.is_some() || expires.is_some());
            let mut read = call(None, None);
            read_more(&mut read, text.as_deref());
            assert_eq!(read.trace, written.trace);
            assert_eq!(read.expires.is_some(), written.expires.is_some());
        }
        let of_user = JobCall { key: Some("user=\"Ü\"".into()), ..call(trace, None) };
        let mut read = call(None, None);
        read_more(&mut read, more(&of_user).as_deref());
        assert_eq!(read, of_user);
        let after = After { jobs: vec![of_user.id; 2], on_failure: AfterFailure::Run };
        let of_two = JobCall { after: Some(Box::new(after)), ..call(None, None) };
        let mut read = call(None, None);
        read_more(&mut read, more(&of_two).as_deref());
        assert_eq!(read, of_two);
        let week = call(None, Some(Duration::from_secs(604_800)));
        assert_eq!(more(&week).unwrap(), r#"{"expires":604800000}"#);
    }

    #[test]
    fn a_trace_alone_and_what_a_newer_version_adds_are_read() {
        let mut read = call(None, None);
        read_more(&mut read, Some("00-4b-00-01"));
        assert_eq!((read.trace.as_deref(), read.expires), (Some("00-4b-00-01"), None));
        let mut read = call(None, None);
        read_more(&mut read, Some(r#"{"expires":1500,"new":[1]}"#));
        assert_eq!((read.trace, read.expires), (None, Some(Duration::from_millis(1500))));
    }
}
