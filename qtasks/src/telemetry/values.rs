//! Spans of single values, for those who ask for them.

use std::env;

use tracing::Span;

use super::spans;
use crate::error::{Error, Result};

/// Of which values the handling is a span of its own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ValueTraces {
    /// Of each so-many-th value of a job; of none, where it is 0.
    every: u64,
}

const VARIABLE: &str = "QTASKS_TRACE_VALUES";
const NO_SHARE: Error = Error::Misuse(
    "the share of values that are traced (`.trace_values(..)`, or `QTASKS_TRACE_VALUES`) is a number from 0, none, to 1, all: \
     `0.001` traces each thousandth value of a job",
);

impl ValueTraces {
    /// This share of the values, or that which the environment asks for.
    pub(crate) fn new(share: f64) -> Result<Self> {
        match env::var_os(VARIABLE) {
            None => Self::of(share),
            Some(asked) => Self::of(asked.to_str().and_then(|asked| asked.trim().parse().ok()).ok_or(NO_SHARE)?),
        }
    }

    fn of(share: f64) -> Result<Self> {
        match share {
            0.0 => Ok(Self { every: 0 }),
            // A share that is almost nothing is the first value of each job.
            share if share > 0.0 && share <= 1.0 => Ok(Self { every: (1.0 / share).round() as u64 }),
            _ => Err(NO_SHARE),
        }
    }

    /// The span in which value `seq` is handled, if it has one.
    #[inline]
    pub(crate) fn span(self, task: &str, seq: u64) -> Option<Span> {
        (self.every != 0 && seq.is_multiple_of(self.every)).then(|| spans::handle(task, seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_values_is_each_so_many_th() {
        let every = |share| ValueTraces::of(share).map(|traces| traces.every).map_err(|error| error.to_string());
        for (share, expected) in [(0.0, 0), (1.0, 1), (0.5, 2), (0.001, 1_000), (1.0 / 3.0, 3), (1e-300, u64::MAX)] {
            assert_eq!(every(share), Ok(expected), "{share}");
        }
        for wrong in [-0.1, 1.1, 1_000.0, f64::NAN, f64::INFINITY] {
            assert_eq!(
                every(wrong).unwrap_err(),
                "the share of values that are traced (`.trace_values(..)`, or `QTASKS_TRACE_VALUES`) is a number from 0, \
                 none, to 1, all: `0.001` traces each thousandth value of a job",
                "{wrong}"
            );
        }
    }
}
