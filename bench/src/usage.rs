//! What this process uses of the machine, as Linux tells it.

use std::{collections::HashMap, fs, time::Duration};

use anyhow::Context as _;

/// Memory that this process has in use, in MiB.
pub(crate) fn memory() -> anyhow::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes / 1024.0)
}

/// The time that each thread of this process has run.
pub(crate) struct Threads(HashMap<String, u64>);

impl Threads {
    pub(crate) fn now() -> anyhow::Result<Self> {
        let mut threads = HashMap::new();
        for thread in fs::read_dir("/proc/self/task")? {
            let thread = thread?;
            // The first number of <https://docs.kernel.org/scheduler/sched-stats.html>: nanoseconds on a processor.
            let ran = fs::read_to_string(thread.path().join("schedstat"))?;
            let ran = ran.split_whitespace().next().context("no time in schedstat")?.parse()?;
            threads.insert(thread.file_name().to_string_lossy().into_owned(), ran);
        }
        Ok(Self(threads))
    }

    /// How long they have run since then.
    pub(crate) fn since(&self, then: &Self) -> Duration {
        let ran = |(thread, ran): (&String, &u64)| ran - then.0.get(thread).copied().unwrap_or_default();
        Duration::from_nanos(self.0.iter().map(ran).sum())
    }
}
