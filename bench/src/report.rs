//! Prints the table, a line as soon as it is known.

use crate::row::{Floor, Measured, Row, Unit};

/// The table so far.
pub(crate) struct Report {
    pub(crate) rows: usize,
    /// The names of rows below their floor.
    pub(crate) missed: Vec<&'static str>,
}

impl Report {
    pub(crate) fn start() -> Self {
        line(
            ["row", "what", "p50", "this (p99)", "baseline", "ratio", "floor", "reached", "cpu", "server", "fsync"]
                .map(String::from),
        );
        line([13, 66, 8, 11, 11, 5, 13, 7, 8, 8, 7].map(|width| "-".repeat(width)));
        Self { rows: 0, missed: Vec::new() }
    }

    pub(crate) fn add(&mut self, row: &Row, floor: Floor, measured: &Measured) {
        let reached = floor.reached(measured);
        self.rows += 1;
        if reached == Some(false) {
            self.missed.push(row.name);
        }
        let figure = |figure: Option<f64>| figure.map_or_else(String::new, |figure| row.unit.show(figure));
        line([
            row.name.to_owned(),
            row.what.to_owned(),
            figure(measured.half),
            figure(Some(measured.this)),
            figure(measured.baseline),
            measured.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            match floor {
                Floor::None => String::new(),
                Floor::Times(limit) => format!("≤ {limit}×"),
                Floor::Part(least) => format!("≥ {least}×"),
                Floor::AtLeast(least) => format!("≥ {}", row.unit.show(least)),
                Floor::Below(limit) => format!("< {}", row.unit.show(limit)),
            },
            reached.map_or("", |reached| if reached { "yes" } else { "NO" }).to_owned(),
            microseconds(measured.processor),
            microseconds(measured.server),
            measured.fsync.map_or_else(String::new, |fsync| format!("{:.2} ms", fsync.as_secs_f64() * 1e3)),
        ]);
    }
}

fn microseconds(time: Option<f64>) -> String {
    time.map_or_else(String::new, |time| format!("{time:.1} µs"))
}

fn line([row, what, half, this, baseline, ratio, floor, reached, cpu, server, fsync]: [String; 11]) {
    println!(
        "| {row:<13} | {what:<66} | {half:>8} | {this:>11} | {baseline:>11} | {ratio:>5} | {floor:>13} | {reached:>7} | \
         {cpu:>8} | {server:>8} | {fsync:>7} |"
    );
}

impl Unit {
    fn show(self, figure: f64) -> String {
        match self {
            Self::PerSecond => format!("{}/s", in_thousands(figure)),
            Self::Nanoseconds => format!("{figure:.1} ns"),
            Self::Milliseconds if figure < 0.1 => format!("{figure:.3} ms"),
            Self::Milliseconds if figure < 10.0 => format!("{figure:.2} ms"),
            Self::Milliseconds => format!("{figure:.0} ms"),
            Self::Percent => format!("{figure:.2} %"),
            Self::Mebibytes => format!("{:.1} MiB", figure / f64::from(1 << 20)),
            Self::Bytes => format!("{figure:.0} B"),
        }
    }
}

/// A whole number with commas.
fn in_thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group)).collect();
    groups.join(",")
}
