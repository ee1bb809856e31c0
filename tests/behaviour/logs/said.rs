//! The lines that are said in this process.

use std::{
    io::{self, Write},
    sync::{Mutex, MutexGuard, Once, PoisonError},
};

use qtasks_tests::eventually;
use tracing::Level;

/// All that was said and not taken.
static SAID: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn said() -> MutexGuard<'static, Vec<u8>> {
    SAID.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Writer;

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        said().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether qtasks says it, or a task of it; other crates have their own to say.
pub(crate) fn is_of_qtasks(line: &str) -> bool {
    line.contains("qtasks")
}

/// What is said in this process from now on, of all levels but the last.
pub(crate) struct Said;

impl Said {
    pub(crate) fn listen() -> Self {
        static LISTEN: Once = Once::new();
        let subscriber = || tracing_subscriber::fmt().with_max_level(Level::DEBUG).with_ansi(false).without_time();
        LISTEN.call_once(|| subscriber().with_writer(|| Writer).init());
        said().clear();
        Self
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        String::from_utf8(said().clone()).unwrap().lines().map(str::to_owned).collect()
    }

    /// The lines, which are not said again.
    pub(crate) fn take(&self) -> Vec<String> {
        let said = std::mem::take(&mut *said());
        String::from_utf8(said).unwrap().lines().map(str::to_owned).collect()
    }

    /// Those of qtasks, of this level and of those that are more urgent.
    pub(crate) fn at(&self, level: Level) -> Vec<String> {
        let level_of = |line: &String| line.split_whitespace().next().unwrap_or_default().parse::<Level>();
        let of_qtasks = self.lines().into_iter().filter(|line| is_of_qtasks(line));
        of_qtasks.filter(|line| level_of(line).is_ok_and(|of_line| of_line <= level)).collect()
    }

    /// Waits for a line.
    pub(crate) async fn until(&self, text: &str) {
        self.until_times(text, 1).await;
    }

    /// Waits until so many lines have this text.
    pub(crate) async fn until_times(&self, text: &str, times: usize) {
        let is_said = async || self.lines().iter().filter(|line| line.contains(text)).count() >= times;
        eventually(&format!("`{text}` is said {times} times"), is_said).await;
    }
}
