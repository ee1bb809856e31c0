//! What a worker process did, written by its tasks into a file of its own and read after its end: a witness that owes
//! nothing to the store.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    str::{FromStr, SplitWhitespace},
    sync::{Mutex, MutexGuard, PoisonError},
};

use qtasks::JobId;
use rustix::time::{ClockId, clock_gettime};

/// Something that a task did.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // The fields are the words of the design.
pub struct Entry {
    pub job: JobId,
    pub attempt: u32,
    /// When, by [`now`].
    pub at: u64,
    pub what: What,
}

/// What it did.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // So are these.
pub enum What {
    /// A body starts, and the store holds so many steps of the job. As the attempt has written nothing yet, they are
    /// those that were recorded before it began.
    Started { steps: u64 },
    /// A handler was called.
    Begun { seq: u64, value: u64 },
    /// The handler is about to return.
    Ended { seq: u64 },
    /// The body came to its end.
    Finished,
}

/// Nanoseconds on a clock that all processes of the machine share and that never goes back.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The file that one process writes.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    written: Mutex<u64>,
    synced: Mutex<u64>,
}

impl Ledger {
    /// Begins an empty one.
    ///
    /// # Errors
    ///
    /// When the file cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create(path)?, written: Mutex::new(0), synced: Mutex::new(0) })
    }

    /// Adds an entry, and gives its number. It survives the process, for the operating system has it.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn note(&self, entry: Entry) -> io::Result<u64> {
        let mut written = locked(&self.written);
        (&self.file).write_all(format!("{entry}\n").as_bytes())?;
        *written += 1;
        Ok(*written)
    }

    /// Adds an entry, which is on the disk when this returns. Calls at the same time share a wait for the disk.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn enter(&self, entry: Entry) -> io::Result<()> {
        let number = self.note(entry)?;
        let mut synced = locked(&self.synced);
        if *synced < number {
            let upto = *locked(&self.written);
            self.file.sync_data()?;
            *synced = upto;
        }
        Ok(())
    }
}

fn locked(number: &Mutex<u64>) -> MutexGuard<'_, u64> {
    number.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The entries of a ledger, in order. A line that was being written when the process was killed does not count.
///
/// # Errors
///
/// When the file cannot be read, or is no ledger.
pub fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let text = match fs::read_to_string(path) {
        // The process was killed before it came to anything.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text?,
    };
    let whole = text.rsplit_once('\n').map_or("", |(whole, _cut_off)| whole);
    let entries = whole.lines().map(|line| line.parse().map_err(|()| io::Error::other(format!("no entry: `{line}`"))));
    entries.collect()
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { job, attempt, at, what } = self;
        write!(f, "{job} {attempt} {at} ")?;
        match what {
            What::Started { steps } => write!(f, "started {steps}"),
            What::Begun { seq, value } => write!(f, "begun {seq} {value}"),
            What::Ended { seq } => write!(f, "ended {seq}"),
            What::Finished => f.write_str("finished"),
        }
    }
}

impl FromStr for Entry {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        fn next<T: FromStr>(words: &mut SplitWhitespace<'_>) -> Result<T, ()> {
            words.next().and_then(|word| word.parse().ok()).ok_or(())
        }
        let words = &mut line.split_whitespace();
        let (job, attempt, at) = (next(words)?, next(words)?, next(words)?);
        let what = match words.next() {
            Some("started") => What::Started { steps: next(words)? },
            Some("begun") => What::Begun { seq: next(words)?, value: next(words)? },
            Some("ended") => What::Ended { seq: next(words)? },
            Some("finished") => What::Finished,
            _ => return Err(()),
        };
        Ok(Self { job, attempt, at, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_entered_is_read_and_a_line_that_was_cut_off_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        assert_eq!(read(&path).unwrap(), []);
        let ledger = Ledger::create(&path).unwrap();
        let whats =
            [What::Started { steps: 7 }, What::Begun { seq: 7, value: 99 }, What::Ended { seq: 7 }, What::Finished];
        let entries = whats.map(|what| Entry { job: JobId::new(), attempt: 3, at: now(), what });
        for entry in entries {
            ledger.enter(entry).unwrap();
        }
        let cut_off = entries[1].to_string();
        (&ledger.file).write_all(&cut_off.as_bytes()[..cut_off.len() - 1]).unwrap();
        assert_eq!(read(&path).unwrap(), entries);
    }
}
