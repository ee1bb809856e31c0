#![deny(warnings)]

use std::io;

use qtasks::prelude::*;
use serde::{Deserialize, Serialize};
use tracing::instrument;

/// No `Debug`, so it cannot be recorded.
struct Db;

#[derive(Serialize, Deserialize)]
struct Opaque;

#[qtask]
#[tracing::instrument]
async fn traced(n: i64) -> Vec<i64> {
    yield_!(n);
    let reply: i64 = yield_!(n);
    yield_!(reply);
}

#[qtask(echo = true)]
#[instrument(skip_all, fields(n))]
async fn skips_all(_context: TaskContext, n: i64, _db: State<Db>, _opaque: Opaque) -> anyhow::Result<Vec<i64>> {
    yield_!(n);
    Ok(())
}

#[qtask]
#[instrument(err)]
async fn errors(n: i64) -> Result<Vec<i64>, io::Error> {
    yield_!(n);
    Ok(())
}

#[qtask]
#[instrument(err, skip(_db), level = "debug")]
fn blocking_errors(n: i64, _db: State<Db>) -> io::Result<Vec<i64>> {
    yield_!(n);
    Ok(())
}

#[qtask]
#[instrument]
fn blocking() -> Vec<i64> {
    yield_!(1);
}

#[qtask]
#[instrument(err, ret)]
async fn plain(n: i64) -> io::Result<i64> {
    Ok(n)
}

#[qtask]
#[instrument(ret)]
fn blocking_plain(n: i64) -> i64 {
    n
}

/// Attributes of parameters go to the fields.
#[qtask]
#[inline]
fn parameters(
    /// Documented.
    #[serde(default, rename = "number")]
    n: i64,
    #[serde(with = "as_text")] m: u64,
    #[cfg_attr(all(), serde(default))]
    #[allow(unused_variables)]
    unused: String,
    #[allow(unused_variables)]
    /// Not stored.
    db: State<Db>,
) -> i64 {
    n + i64::try_from(m).unwrap_or_default()
}

mod as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[qtask]
#[expect(unused_variables)]
fn expects(n: i64) -> i64 {
    let unused = 1;
    n
}

#[test]
fn they_are_made() {
    let _ = (traced(1), skips_all(1, Opaque), errors(1), blocking_errors(1), blocking(), plain(1), blocking_plain(1));
    let _ = expects(1);
    let stored = serde_json::to_string(&parameters(1, 2, "a".to_owned())).expect("it is plain data");
    assert_eq!(stored, r#"{"number":1,"m":"2","unused":"a"}"#);
    let _: parameters = serde_json::from_str(r#"{"m":"2"}"#).expect("the others have defaults");
}
