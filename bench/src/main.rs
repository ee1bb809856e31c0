//! Measures qtasks: each figure beside its baseline of the same run, and beside the floor that it is held to.

// Without a store there is less to measure.
#![cfg_attr(not(feature = "sqlite"), allow(dead_code))]

mod disk;
mod part;
mod place;
mod report;
mod row;
mod rows;
mod usage;

use std::{env, path::PathBuf};

use anyhow::{Context as _, ensure};
use clap::Parser;

use crate::{report::Report, row::Scale, rows::ROWS};

/// Measures qtasks, and prints a table.
#[derive(Parser)]
#[command(name = "qtasks-bench")]
struct Args {
    /// The rows to measure: names, or what they begin with; all of them by default.
    rows: Vec<String>,
    /// How often each is measured; what is printed is the median.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// A tenth of the work, once: shows that all rows run, and little more.
    #[arg(long)]
    quick: bool,
    /// Ends with an error when a floor is not reached.
    #[arg(long)]
    check: bool,
    /// The folder for SQLite files, whose disk it then is; that for temporary files by default.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// The URL of another store than a SQLite file, with `{}` for a name: `redis://localhost?app={}`. What stands there
    /// afterwards stays; and baselines are those of SQLite.
    #[arg(long)]
    store: Option<String>,
    /// Plays a part in what another process measures.
    #[arg(long, hide = true)]
    part: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Args { rows, rounds, quick, check, folder, store, part } = Args::parse();
    if part {
        let (name, knowing) = rows.split_first().context("a part is that of a row")?;
        let row = ROWS.iter().find(|row| row.name == name).context("no such row")?;
        return (row.part)(knowing.to_vec()).await;
    }
    let scale = Scale { quick, folder: folder.unwrap_or_else(env::temp_dir), store };
    let rounds = if quick { 1 } else { rounds.max(1) };
    let asked = |name: &str| rows.is_empty() || rows.iter().any(|start| name.starts_with(start.as_str()));
    let mut report = Report::start();
    for row in ROWS.iter().filter(|row| asked(row.name)) {
        report.add(row, &row.measured(&scale, rounds).await?);
    }
    ensure!(
        report.rows > 0,
        "no such row; there are {}",
        ROWS.iter().map(|row| row.name).collect::<Vec<_>>().join(", ")
    );
    ensure!(!check || report.missed.is_empty(), "below the floor: {}", report.missed.join(", "));
    Ok(())
}
