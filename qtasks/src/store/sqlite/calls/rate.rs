//! What happened in each lane, by minute and hour.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::store::sqlite::{
    batcher::{command::Write, tables::Tables},
    encoding,
    error::Fault,
};
use crate::{
    error::Result,
    store::{Lane, Rate, RateNumbers, RateSpan},
};

/// The `span` column.
fn column(span: RateSpan) -> i64 {
    match span {
        RateSpan::Minute => 0,
        RateSpan::Hour => 1,
    }
}

/// The `numbers` column: the numbers in a row, with spaces between them.
fn text(numbers: RateNumbers) -> String {
    numbers.to_row().map(|number| number.to_string()).join(" ")
}

fn numbers(text: &str) -> RateNumbers {
    RateNumbers::from_row(text.split(' ').map(|number| number.parse().unwrap_or(0)))
}

pub(crate) const RATES: &str =
    "SELECT start, queue, task, numbers FROM qtasks_rates WHERE span = ?1 AND start >= ?2 AND start < ?3";

pub(crate) fn rates(
    connection: &Connection,
    span: RateSpan,
    from: Timestamp,
    to: Timestamp,
) -> rusqlite::Result<Vec<Rate>> {
    let rate = |row: &Row<'_>| {
        Ok(Rate {
            span,
            from: encoding::time(row.get(0)?),
            lane: Lane { queue: row.get(1)?, task: row.get(2)? },
            numbers: numbers(row.get_ref(3)?.as_str()?),
        })
    };
    let values = params![column(span), encoding::millis(from), encoding::millis(to)];
    connection.prepare_cached(RATES)?.query_map(values, rate)?.collect()
}

/// Adds what happened to what is there.
pub(crate) struct AddRates(pub(crate) Vec<Rate>);

impl Write for AddRates {
    type Outcome = ();
    const DOING: &'static str = "count what happened";

    fn weight(&self) -> usize {
        self.0.len()
    }

    fn apply(&self, tables: &mut Tables<'_>) -> Result<(), Fault> {
        for Rate { span, from, lane: Lane { queue, task }, numbers: more } in &self.0 {
            let (span, start) = (column(*span), encoding::millis(*from));
            let found = |row: &Row<'_>| Ok(numbers(row.get_ref(0)?.as_str()?));
            let mut sum =
                tables.sql.rate.query_row(params![span, start, queue, task], found).optional()?.unwrap_or_default();
            sum += *more;
            tables.sql.write_rate.execute(params![span, start, queue, task, text(sum)])?;
        }
        Ok(())
    }
}

/// Deletes what happened too long ago.
pub(crate) struct PruneRates {
    pub(crate) minutes: Timestamp,
    pub(crate) hours: Timestamp,
}

impl Write for PruneRates {
    type Outcome = ();
    const DOING: &'static str = "forget what happened long ago";

    fn weight(&self) -> usize {
        1
    }

    fn apply(&self, tables: &mut Tables<'_>) -> Result<(), Fault> {
        for (span, before) in [(RateSpan::Minute, self.minutes), (RateSpan::Hour, self.hours)] {
            tables.sql.prune_rates.execute(params![column(span), encoding::millis(before)])?;
        }
        Ok(())
    }
}
