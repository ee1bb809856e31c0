//! A row of the table: what is measured, how, and what is asked of it.

use std::time::Duration;

use anyhow::bail;
use futures::future::LocalBoxFuture;

use crate::{
    disk,
    target::{Kind, Target},
};

/// Something that is measured.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) unit: Unit,
    /// What is asked of it on this store; nothing where it is not measured there.
    pub(crate) floor: fn(Kind) -> Option<Floor>,
    /// Whether it looks into the server itself, which must be one that was started for it.
    pub(crate) own_server: bool,
    /// Whether it waits for the disk.
    pub(crate) on_disk: bool,
    /// What takes long is measured less often.
    pub(crate) most_rounds: usize,
    /// Measures once.
    pub(crate) measure: for<'a> fn(&'a Scale) -> LocalBoxFuture<'a, anyhow::Result<Round>>,
    /// What another process does for it, with what it is told.
    pub(crate) part: fn(Vec<String>) -> LocalBoxFuture<'static, anyhow::Result<()>>,
}

/// How much is measured, and where.
pub(crate) struct Scale {
    pub(crate) quick: bool,
    pub(crate) target: Target,
}

impl Scale {
    /// So many, or a tenth of them.
    pub(crate) fn of(&self, count: u64) -> u64 {
        if self.quick { count / 10 } else { count }
    }
}

/// What a figure counts.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    PerSecond,
    Nanoseconds,
    Milliseconds,
    Percent,
    Mebibytes,
    Bytes,
}

/// What a row must reach.
#[derive(Clone, Copy)]
pub(crate) enum Floor {
    /// It is only looked at.
    None,
    /// This many times the baseline at most.
    Times(f64),
    /// This part of the baseline at least.
    Part(f64),
    AtLeast(f64),
    Below(f64),
}

/// What one round came to.
pub(crate) enum Round {
    /// A figure, that of the baseline, and what each took of a processor.
    Figure { this: f64, baseline: Option<f64>, processor: Option<Processor> },
    /// How long something took, each time.
    Times(Vec<Duration>),
}

/// Microseconds on a processor, of all threads.
#[derive(Clone, Copy)]
pub(crate) struct Processor {
    /// In this process, or in those that took part.
    pub(crate) here: f64,
    /// In the server that was started for this.
    pub(crate) server: Option<f64>,
}

/// What all rounds of a row came to.
pub(crate) struct Measured {
    /// The median; of times the 99th percentile.
    pub(crate) this: f64,
    /// The median of times.
    pub(crate) half: Option<f64>,
    pub(crate) baseline: Option<f64>,
    pub(crate) ratio: Option<f64>,
    pub(crate) processor: Option<f64>,
    pub(crate) server: Option<f64>,
    pub(crate) fsync: Option<Duration>,
}

impl Row {
    /// What most rows leave as it is.
    pub(crate) const PLAIN: Self = Self {
        name: "",
        what: "",
        unit: Unit::PerSecond,
        floor: |_| None,
        own_server: false,
        on_disk: true,
        most_rounds: usize::MAX,
        measure: |_| Box::pin(async { bail!("it does not say how it is measured") }),
        part: |_| Box::pin(async { bail!("nobody has a part in it") }),
    };

    /// What is asked of it on this store, if it can be measured there.
    pub(crate) fn floor_on(&self, target: &Target) -> Option<Floor> {
        (self.floor)(target.kind()).filter(|_| target.is_own() || !self.own_server)
    }

    pub(crate) async fn measured(&self, scale: &Scale, rounds: usize) -> anyhow::Result<Measured> {
        let fsync = self.on_disk.then(|| disk::fsync(scale.target.folder())).transpose()?;
        let (mut figures, mut baselines, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        let (mut processors, mut servers, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds.min(self.most_rounds) {
            match (self.measure)(scale).await? {
                Round::Figure { this, baseline, processor } => {
                    processors.extend(processor.map(|processor| processor.here));
                    servers.extend(processor.and_then(|processor| processor.server));
                    figures.push(this);
                    baselines.extend(baseline);
                    ratios.extend(baseline.map(|baseline| this / baseline));
                }
                Round::Times(round) => times.extend(round.iter().map(|time| time.as_secs_f64() * 1e3)),
            }
        }
        let (baseline, ratio) = (percentile(&mut baselines, 50), percentile(&mut ratios, 50));
        let half = percentile(&mut times, 50);
        let this = percentile(&mut figures, 50).or_else(|| percentile(&mut times, 99)).unwrap_or(f64::NAN);
        let (processor, server) = (percentile(&mut processors, 50), percentile(&mut servers, 50));
        Ok(Measured { this, half, baseline, ratio, processor, server, fsync })
    }
}

impl Floor {
    /// Whether that is enough; nothing where there is no floor, or no baseline for it, as on a server that others use.
    pub(crate) fn reached(self, measured: &Measured) -> Option<bool> {
        match self {
            Self::None => None,
            Self::Times(limit) => measured.ratio.map(|ratio| ratio <= limit),
            Self::Part(least) => measured.ratio.map(|ratio| ratio >= least),
            Self::AtLeast(least) => Some(measured.this >= least),
            Self::Below(limit) => Some(measured.this < limit),
        }
    }
}

/// The value below which so many percent of them are.
fn percentile(values: &mut [f64], percent: usize) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get((values.len() * percent / 100).min(values.len().saturating_sub(1))).copied()
}

/// How many of `count` there were in a second of `time`.
pub(crate) fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// How many nanoseconds of `time` each of `count` took.
pub(crate) fn nanoseconds(count: u64, time: Duration) -> f64 {
    time.as_secs_f64() * 1e9 / count as f64
}
