//! Clocks that a test gives to processes and steps while they run. Only the time of day is shifted; the clocks that count
//! from a start or a boot are as they are. A test with them shows as ignored where that cannot be done:
//! `#[cfg_attr(missing = "shim", ignore = "clocks are shifted on Linux, where there is a C compiler")]`.

use std::{io::Write as _, os::unix::fs::FileExt as _, process::Command};

use jiff::SignedDuration;
use tempfile::NamedTempFile;

/// What `build.rs` makes of `clock/shim.c`.
const SHIM: &str = concat!(env!("OUT_DIR"), "/shim.so");

/// A time of day that differs from the machine's.
#[derive(Debug)]
pub struct Clock {
    shift: NamedTempFile,
}

impl Clock {
    /// One that is ahead of the machine's by `shift`, or behind it.
    pub fn ahead(shift: SignedDuration) -> Self {
        let mut file = NamedTempFile::new().expect("a temporary file can be made");
        file.write_all(&bytes(shift)).expect("a file is written");
        Self { shift: file }
    }

    /// Steps it: from now on it is ahead of the machine's by `shift`.
    pub fn step_to(&self, shift: SignedDuration) {
        self.shift.as_file().write_all_at(&bytes(shift), 0).expect("a file is written");
    }

    /// Has the process of `command` go by it.
    pub fn give(&self, command: &mut Command) {
        command.env("LD_PRELOAD", SHIM).env("QTASKS_TESTS_CLOCK", self.shift.path());
    }
}

fn bytes(shift: SignedDuration) -> [u8; 8] {
    i64::try_from(shift.as_millis()).expect("it is no age of the world").to_ne_bytes()
}
