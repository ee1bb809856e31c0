//! What happened in each lane, by minute and hour.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tokio_postgres::{Row, types::Type};

use crate::store::{
    Lane, Rate, RateNumbers, RateSpan,
    postgres::{
        encoding,
        error::Fault,
        pool::{Database, Parameter},
    },
};

/// The `span` column.
fn column(span: RateSpan) -> i16 {
    match span {
        RateSpan::Minute => 0,
        RateSpan::Hour => 1,
    }
}

const RATES: &str = "
    SELECT start, queue, task, numbers FROM qtasks.rates WHERE span = $1 AND start >= $2 AND start < $3";

pub(crate) async fn rates(
    database: &Database,
    span: RateSpan,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Rate>, Fault> {
    let (column, from, to) = (column(span), encoding::millis(from), encoding::millis(to));
    let parameters: [Parameter<'_>; 3] = [(&column, Type::INT2), (&from, Type::INT8), (&to, Type::INT8)];
    let rate = |row: &Row| {
        let numbers: Vec<i64> = encoding::get(row, 3)?;
        Ok(Rate {
            span,
            from: encoding::time(encoding::get(row, 0)?),
            lane: Lane { queue: encoding::get(row, 1)?, task: encoding::get(row, 2)? },
            numbers: RateNumbers::from_row(numbers.into_iter().map(i64::cast_unsigned)),
        })
    };
    database.list(RATES, &parameters).await?.iter().map(rate).collect()
}

const ADD: &str = "
    INSERT INTO qtasks.rates AS r (span, start, queue, task, numbers)
    SELECT span, start, queue, task, numbers::int8[]
    FROM unnest($1::int2[], $2::int8[], $3::text[], $4::text[], $5::text[]) AS a(span, start, queue, task, numbers)
    ON CONFLICT (span, start, queue, task) DO UPDATE SET numbers = (
        SELECT array_agg(coalesce(s.one, 0) + coalesce(s.other, 0) ORDER BY s.place)
        FROM unnest(r.numbers, excluded.numbers) WITH ORDINALITY AS s(one, other, place))";

/// Adds what happened to what is there.
pub(crate) async fn add(database: &Database, rates: Vec<Rate>) -> Result<(), Fault> {
    // Each row once, and in one order, so that two calls never wait for each other.
    let mut sums = BTreeMap::<_, RateNumbers>::new();
    for Rate { span, from, lane: Lane { queue, task }, numbers } in rates {
        *sums.entry((column(span), encoding::millis(from), queue, task)).or_default() += numbers;
    }
    let (mut spans, mut starts, mut queues, mut tasks, mut numbers) = (vec![], vec![], vec![], vec![], vec![]);
    for ((span, start, queue, task), sum) in sums {
        spans.push(span);
        starts.push(start);
        queues.push(queue);
        tasks.push(task);
        numbers.push(format!("{{{}}}", sum.to_row().map(|number| number.to_string()).join(",")));
    }
    let parameters: [Parameter<'_>; 5] = [
        (&spans, Type::INT2_ARRAY),
        (&starts, Type::INT8_ARRAY),
        (&queues, Type::TEXT_ARRAY),
        (&tasks, Type::TEXT_ARRAY),
        (&numbers, Type::TEXT_ARRAY),
    ];
    database.query(ADD, &parameters).await.map(drop)
}

const PRUNE: &str = "DELETE FROM qtasks.rates WHERE span = 0 AND start < $1 OR span = 1 AND start < $2";

/// Deletes what happened too long ago.
pub(crate) async fn prune(database: &Database, minutes: Timestamp, hours: Timestamp) -> Result<(), Fault> {
    let (minutes, hours) = (encoding::millis(minutes), encoding::millis(hours));
    let parameters: [Parameter<'_>; 2] = [(&minutes, Type::INT8), (&hours, Type::INT8)];
    database.query(PRUNE, &parameters).await.map(drop)
}
