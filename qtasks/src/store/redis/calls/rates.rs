//! What happened in each lane, by minute and hour.

use jiff::Timestamp;

use crate::store::{
    Rate, RateNumbers, RateSpan,
    redis::{
        connection::Link,
        encoding::{self, lane, millis, read_lane},
        error::Fault,
    },
};

/// How a span is named in keys.
fn name(span: RateSpan) -> &'static str {
    match span {
        RateSpan::Minute => "m",
        RateSpan::Hour => "h",
    }
}

/// Adds what happened to what is there.
pub(crate) async fn add(link: &Link, rates: &[Rate]) -> Result<(), Fault> {
    let mut call = link.call(|scripts| &scripts.add_rates);
    for Rate { span, from, lane: of, numbers } in rates {
        let numbers = numbers.to_row().map(|number| number.to_string()).join(" ");
        call.arg(name(*span)).arg(millis(*from)).arg(lane(&of.queue, &of.task)).arg(numbers);
    }
    link.ask(&call).await
}

/// Each time with its lanes and their numbers.
type Found = Vec<(i64, Vec<(String, String)>)>;

pub(crate) async fn rates(link: &Link, span: RateSpan, from: Timestamp, to: Timestamp) -> Result<Vec<Rate>, Fault> {
    let mut call = link.call(|scripts| &scripts.rates);
    call.arg(name(span)).arg(millis(from)).arg(millis(to));
    let found: Found = link.ask(&call).await?;
    let mut rates = Vec::new();
    for (start, lanes) in found {
        for (of, numbers) in lanes {
            let numbers = RateNumbers::from_row(numbers.split(' ').map(|number| number.parse().unwrap_or(0)));
            rates.push(Rate { span, from: encoding::time(start), lane: read_lane(&of)?, numbers });
        }
    }
    Ok(rates)
}

/// Deletes what happened too long ago.
pub(crate) async fn prune(link: &Link, minutes: Timestamp, hours: Timestamp) -> Result<(), Fault> {
    let mut call = link.call(|scripts| &scripts.prune_rates);
    call.arg(name(RateSpan::Minute)).arg(millis(minutes)).arg(name(RateSpan::Hour)).arg(millis(hours));
    link.ask(&call).await
}
