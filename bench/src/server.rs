//! What a server uses of the machine, as Linux tells it.

use std::{fs, time::Duration};

use anyhow::Context as _;

/// A server: its first process, and those that this one has started, as Postgres does for each connection.
pub(crate) struct Server {
    first: u32,
}

/// The figures of `/proc/PID/stat` count hundredths of a second on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// What a process says of its time.
struct Stat {
    process: u32,
    parent: u32,
    own: u64,
    /// That of the processes which it had started and which have ended.
    ended: u64,
}

impl Server {
    pub(crate) fn of(first: u32) -> Self {
        Self { first }
    }

    /// The time that it has run on processors.
    pub(crate) fn ran(&self) -> anyhow::Result<Duration> {
        let mut ticks = 0;
        for entry in fs::read_dir("/proc")? {
            // Most entries are no processes, and a process may end just now.
            let Ok(stat) = fs::read_to_string(entry?.path().join("stat")) else { continue };
            let stat = Stat::read(&stat).context("a process says of its time what is not known here")?;
            match stat {
                stat if stat.process == self.first => ticks += stat.own + stat.ended,
                stat if stat.parent == self.first => ticks += stat.own,
                _ => {}
            }
        }
        Ok(TICK * u32::try_from(ticks)?)
    }
}

impl Stat {
    /// See <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>.
    fn read(line: &str) -> Option<Self> {
        // The name of the program stands in brackets and may hold anything.
        let (process, rest) = line.split_once(" (")?;
        let fields: Vec<_> = rest.rsplit_once(") ")?.1.split(' ').collect();
        // The first of them is the third of the line.
        let figure = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            process: process.parse().ok()?,
            parent: fields.get(1)?.parse().ok()?,
            own: figure(14)? + figure(15)?,
            ended: figure(16)? + figure(17)?,
        })
    }
}
