//! How a process learns that another one has written.
//!
//! A process that commits writes to the log beside the file, and the operating system reports that to the watcher: no process
//! polls. Our own commits are reported too, and each is reported before it can be seen; so an event is only a reason to look at a
//! number that changes with the commits of other connections.

use std::{
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::batcher::queue::Queue;

/// Looks follow each other no faster than this.
const SHORTEST: Duration = Duration::from_millis(1);
/// An event is looked after for about twice this time: a commit may take long to come true on a slow disk.
const LONGEST: Duration = Duration::from_millis(512);
/// How often the writer looks without a reason, should an event be lost, and checks that the files are still there.
const CALM: Duration = Duration::from_millis(500);
/// How often the writer looks where the file cannot be watched.
const BLIND: Duration = Duration::from_millis(50);

/// Watches the log; gives nothing where that is not possible.
pub(super) fn watch(log: &Path, queue: Arc<Queue>) -> Option<RecommendedWatcher> {
    let on_event = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
            return;
        }
        queue.touch();
        // Meanwhile further events become one, so that a busy writer is not woken for each of its pages.
        #[expect(clippy::disallowed_methods, reason = "the thread is the watcher's own")]
        thread::sleep(SHORTEST);
    };
    let watching = notify::recommended_watcher(on_event).and_then(|mut watcher| {
        watcher.watch(log, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watching
        .inspect_err(|error| {
            let log = log.display();
            tracing::warn!(%error, %log, "cannot watch the database for writes of other processes; looking every 50 ms");
        })
        .ok()
}

/// When to look whether another process has committed.
#[derive(Debug)]
pub(super) struct Look {
    next: Instant,
    last: Instant,
    wait: Duration,
    calm: Duration,
}

impl Look {
    pub(super) fn new(watched: bool, now: Instant) -> Self {
        let calm = if watched { CALM } else { BLIND };
        Self { next: now + calm, last: now, wait: calm, calm }
    }

    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// The file was written to: looks at once, and then at growing intervals.
    pub(super) fn soon(&mut self) {
        self.wait = SHORTEST;
        self.next = self.next.min(self.last + SHORTEST);
    }

    /// Whether to look now.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        self.last = now;
        self.next = now + self.wait.min(self.calm);
        self.wait = if self.wait < LONGEST { self.wait * 2 } else { self.calm };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The milliseconds after `start` at which is looked until `end`.
    fn looks(look: &mut Look, start: Instant, end: u64) -> Vec<u64> {
        (0..end).filter(|millisecond| look.is_due(start + Duration::from_millis(*millisecond))).collect()
    }

    #[test]
    fn an_event_is_looked_after_at_growing_intervals_and_then_left() {
        let start = Instant::now();
        let mut look = Look::new(true, start);
        look.soon();
        assert_eq!(looks(&mut look, start, 2600), [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1012, 1512, 2012, 2512]);
    }

    #[test]
    fn many_events_make_one_look_a_millisecond() {
        let start = Instant::now();
        let mut look = Look::new(true, start);
        let mut count = 0;
        for tenth in 0..100 {
            look.soon();
            count += u32::from(look.is_due(start + Duration::from_micros(tenth * 100)));
        }
        assert_eq!(count, 9);
    }

    #[test]
    fn what_cannot_be_watched_is_looked_at_every_50_ms() {
        let start = Instant::now();
        assert_eq!(looks(&mut Look::new(false, start), start, 201), [50, 100, 150, 200]);
    }
}
