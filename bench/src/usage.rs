//! What this process uses of the machine, as Linux tells it.

use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    row::{Processor, Round, per_second},
    server::Server,
    target::Target,
};

/// Memory that this process has in use, in bytes.
pub(crate) fn memory() -> anyhow::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024.0)
}

/// Time that passes, on the clock and on processors. The second says more where others use the machine too.
pub(crate) struct Stopwatch {
    /// The server of the store, with the time that it had run before.
    server: Option<(Server, Duration)>,
    threads: Threads,
    clock: Instant,
}

impl Stopwatch {
    pub(crate) fn start(target: &Target) -> anyhow::Result<Self> {
        let server = target.server()?.map(|server| anyhow::Ok((server.ran()?, server))).transpose()?;
        let server = server.map(|(ran, server)| (server, ran));
        Ok(Self { server, threads: Threads::now()?, clock: Instant::now() })
    }

    /// What `count` of something in this time come to.
    pub(crate) fn rate(&self, count: u64) -> anyhow::Result<Rate> {
        self.rate_of(count, Threads::now()?.since(&self.threads))
    }

    /// The same, where other processes have worked in place of this one, for so long.
    pub(crate) fn rate_of(&self, count: u64, processor: Duration) -> anyhow::Result<Rate> {
        let clock = self.clock.elapsed();
        let server = self.server.as_ref().map(|(server, before)| anyhow::Ok(server.ran()? - *before)).transpose()?;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
        let processor = Processor { here: each(processor), server: server.map(each) };
        Ok(Rate { per_second: per_second(count, clock), processor })
    }
}

/// How many there were in a second, and what each took of a processor.
pub(crate) struct Rate {
    pub(crate) per_second: f64,
    processor: Processor,
}

impl Rate {
    /// A round that came to this, beside its baseline, if there is one.
    pub(crate) fn over(self, baseline: impl Into<Option<f64>>) -> Round {
        Round::Figure { this: self.per_second, baseline: baseline.into(), processor: Some(self.processor) }
    }
}

/// The time that each thread of this process has run.
pub(crate) struct Threads(HashMap<String, u64>);

impl Threads {
    pub(crate) fn now() -> anyhow::Result<Self> {
        let mut threads = HashMap::new();
        for thread in fs::read_dir("/proc/self/task")? {
            let thread = thread?;
            // The first number of <https://docs.kernel.org/scheduler/sched-stats.html>: nanoseconds on a processor.
            // One that ends just now has none any more.
            let Ok(ran) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
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
