//! Measures qtasks: each figure beside its baseline of the same run, and beside the floor that it is held to.

mod beside;
mod disk;
mod part;
mod place;
mod report;
mod row;
mod rows;
mod server;
mod target;
mod usage;

use std::{env, path::PathBuf};

use anyhow::{Context as _, ensure};
use clap::Parser;

use crate::{report::Report, row::Scale, rows::ROWS, target::Target};

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
    /// The folder for all files, whose disk it then is; that for temporary files by default.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// The store that is measured: `sqlite`; `redis` or `postgres`, on a server that is started for it and writes to the
    /// disk whatever it acknowledges; `redis-everysec`, on one that does so every second; or the URL of one, with `{}` for a
    /// name, as in `redis://localhost?app={}` and `postgres://localhost/db?schema={}`, where all that is enqueued stays.
    #[arg(long, default_value = "sqlite")]
    store: String,
    /// Measures nothing, and runs a command in place of that: `QTASKS_BESIDE` is the address of a new database there, for
    /// programs that know nothing of qtasks.
    #[arg(long, num_args = 1.., allow_hyphen_values = true, conflicts_with_all = ["rows", "check"])]
    beside: Vec<std::ffi::OsString>,
    /// Plays a part in what another process measures.
    #[arg(long, hide = true)]
    part: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Args { rows, rounds, quick, check, folder, store, beside, part } = Args::parse();
    if part {
        let (name, knowing) = rows.split_first().context("a part is that of a row")?;
        let row = ROWS.iter().find(|row| row.name == name).context("no such row")?;
        return (row.part)(knowing.to_vec()).await;
    }
    let target = Target::find(&store, folder.unwrap_or_else(env::temp_dir))?;
    if let Some((program, words)) = beside.split_first() {
        return beside::run(&target, program, words);
    }
    let mut scale = Scale { quick, target };
    let rounds = if quick { 1 } else { rounds.max(1) };
    let asked = |name: &str| rows.is_empty() || rows.iter().any(|start| name.starts_with(start.as_str()));
    let there: Vec<_> = ROWS.iter().filter_map(|row| Some((row, row.floor_on(&scale.target)?))).collect();
    let mut report = Report::start();
    for (row, floor) in there.iter().filter(|(row, _)| asked(row.name)) {
        if report.rows > 0 {
            scale.target.begin_anew();
        }
        report.add(row, *floor, &row.measured(&scale, rounds).await?);
    }
    let names = || there.iter().map(|(row, _)| row.name).collect::<Vec<_>>().join(", ");
    ensure!(report.rows > 0, "no such row on this store; there are {}", names());
    ensure!(!check || report.missed.is_empty(), "below the floor: {}", report.missed.join(", "));
    Ok(())
}
