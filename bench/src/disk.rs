//! How long the disk takes to make something durable: without it no figure of a store means anything elsewhere.

use std::{
    io::{Seek as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

/// The median time that a write of 4 KiB takes until it is on the disk of `folder`.
pub(crate) fn fsync(folder: &Path) -> anyhow::Result<Duration> {
    let mut file = tempfile::tempfile_in(folder)?;
    let mut times = Vec::new();
    for _ in 0..100 {
        let start = Instant::now();
        file.rewind()?;
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}
