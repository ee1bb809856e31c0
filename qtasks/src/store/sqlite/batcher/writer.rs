//! What the thread does that writes.

use std::{
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::{Duration, Instant},
};

use super::{
    command::{Command, Phase},
    queue::Queue,
    tables::Tables,
    wal::Wal,
};
use crate::{
    model::job::WorkerId,
    store::{
        Changes, Notifier,
        sqlite::{error::Fault, files::Files, notify::Look},
        waiters::Waiters,
    },
};

/// So many rows may always join a transaction that has begun.
const JOINING: usize = 256;

pub(super) struct Writer<'a> {
    pub(super) tables: Tables<'a>,
    pub(super) queue: &'a Queue,
    pub(super) notifier: &'a Notifier,
    pub(super) files: &'a Files,
    pub(super) look: Look,
    pub(super) wal: Wal,
    /// How many bytes the log had after the last commit.
    pub(super) log: u64,
    /// Whether the files have changed, and the writer has given them up.
    pub(super) is_over: bool,
    pub(super) waiters: Waiters,
    /// The data version at the last look.
    pub(super) version: i64,
}

impl Writer<'_> {
    pub(super) fn run(mut self) {
        loop {
            let taken = self.queue.take(self.next());
            if !taken.batch.is_empty() {
                self.carry_out(taken.batch);
            }
            for (worker, done) in taken.leaving {
                self.stop_lease_on_enqueue(worker);
                // The caller may have stopped waiting.
                _ = done.send(());
            }
            if self.wal.is_due(Instant::now()) && self.check().is_ok() {
                self.wal.run(self.tables.connection, Instant::now());
            }
            if taken.ended {
                return;
            }
            if taken.touched {
                self.look.soon();
            }
            if self.look.is_due(Instant::now()) {
                self.look();
            }
        }
    }

    /// When there is something to do without a command.
    fn next(&self) -> Instant {
        let next = self.look.next();
        self.wal.next().filter(|_| !self.is_over).map_or(next, |wal| wal.min(next))
    }

    /// Checks that the files at the paths are still those that are open; gives how many bytes the log has.
    fn check(&mut self) -> Result<u64, Fault> {
        let checked = self.files.check();
        if matches!(checked, Err(Fault::Changed(_))) && !self.is_over {
            self.is_over = true;
            self.give_up();
        }
        checked
    }

    /// Leaves the old files whole. This store does not use them any more.
    fn give_up(&mut self) {
        self.waiters.extend(self.queue.waiters());
        self.waiters.remove_all();
        // What the log holds goes to the file it belongs to: that file may be the only one there is, and a log that stays
        // behind would be mixed into the file which stands there now. If a program has it open with that file, the writer does
        // not touch it.
        let unseen = self.tables.data_version().ok() != Some(self.version);
        if self.files.may_empty_log(unseen) {
            self.wal.empty(self.tables.connection);
        }
    }

    /// Makes the changes in one transaction, or, where that fails, each in its own.
    fn carry_out(&mut self, mut batch: Vec<Box<dyn Command>>) {
        let mut done = self.transact(&mut batch);
        if done.as_ref().is_err_and(Fault::is_full) && self.makes_room_for(&batch) {
            done = self.transact(&mut batch);
        }
        match done {
            Ok(changes) => {
                self.wal.committed(weight(&batch), self.log, Instant::now());
                self.notifier.notify(&changes);
                // Waiters first: a caller whose enqueue is answered then finds its job leased.
                self.answer_waiters(&batch, &changes);
                answer(batch, None);
            }
            Err(fault @ (Fault::Locked { .. } | Fault::Changed(_) | Fault::Io(_))) => answer(batch, Some(fault)),
            Err(fault) if batch.len() == 1 => answer(batch, Some(fault)),
            Err(fault) => {
                batch.iter().for_each(|command| command.undone(&fault));
                batch.into_iter().for_each(|command| self.carry_out(vec![command]));
            }
        }
    }

    /// Whether there is more room now, and the changes can be made once more.
    fn makes_room_for(&mut self, batch: &[Box<dyn Command>]) -> bool {
        batch.iter().all(|command| command.phase() != Phase::Handlers) && self.wal.empty(self.tables.connection)
    }

    fn transact(&mut self, batch: &mut Vec<Box<dyn Command>>) -> Result<Changes, Fault> {
        let reserved = self.wal.reserved(Instant::now());
        if let Some(free) = reserved.filter(|_| batch.iter().any(|command| command.is_new())) {
            return Err(Fault::Crowded { free });
        }
        self.begin(batch)?;
        batch.sort_by_key(|command| command.phase());
        let changes = batch.partition_point(|command| command.phase() == Phase::Change);
        let mut last = batch.split_off(changes);
        let apply = || self.apply(batch, &mut last, reserved.is_none());
        let applied = catch_unwind(AssertUnwindSafe(apply)).unwrap_or_else(|panic| Err(Fault::panicked(&*panic)));
        batch.append(&mut last);
        let committed = applied.and_then(|()| self.tables.commit());
        if committed.is_err() {
            self.tables.rollback();
        }
        // A commit counts only if other programs find the file at its path; and where they do not, that is why all else went
        // wrong.
        let done = self.check().and_then(|log| {
            self.log = log;
            committed
        });
        if done.is_err() {
            self.waiters.rolled_back();
        }
        done
    }

    /// Begins a transaction, as soon as other connections give the lock back.
    fn begin(&mut self, batch: &[Box<dyn Command>]) -> Result<(), Fault> {
        if self.is_over {
            return self.check().map(drop);
        }
        let since = batch.iter().map(|command| command.since()).min().unwrap_or_else(Instant::now);
        let for_handlers = batch.iter().any(|command| command.phase() == Phase::Handlers);
        let patience = self.files.url.patience;
        let begun = patiently(since, patience, Fault::is_busy, || {
            let begun = self.tables.begin(for_handlers);
            if begun.is_err() {
                // No lock of a file that is gone is waited for.
                self.check()?;
            }
            Ok(begun?)
        });
        begun.map_err(|fault| if fault.is_busy() { Fault::Locked { waited: patience } } else { fault })
    }

    /// Applies the changes, then those that arrive meanwhile, then leases and handlers.
    fn apply(
        &mut self,
        changes: &mut Vec<Box<dyn Command>>,
        last: &mut Vec<Box<dyn Command>>,
        may_join: bool,
    ) -> Result<(), Fault> {
        let tables = &mut self.tables;
        self.waiters.extend(self.queue.waiters());
        // Jobs that other processes have committed come first too; the look will find them.
        if self.waiters.any_caught_up() && tables.data_version()? != self.version {
            self.waiters.all_fell_behind();
        }
        let awaited = self.waiters.any_ready() || last.iter().any(is_lease);
        tables.fresh = awaited.then(Vec::new);
        let mut room = weight(changes).max(JOINING);
        let mut applied = 0;
        loop {
            changes[applied..].iter_mut().try_for_each(|command| command.apply(tables))?;
            applied = changes.len();
            if !may_join || last.iter().any(|command| command.phase() == Phase::Handlers) {
                break;
            }
            // To commit these too costs nothing more. As much at most, or a millisecond's worth, so that no caller
            // waits much longer for it.
            let joining = self.queue.join(room);
            room = room.saturating_sub(weight(&joining));
            let (leases, more): (Vec<_>, Vec<_>) = joining.into_iter().partition(is_lease);
            last.extend(leases);
            changes.extend(more);
            if applied == changes.len() {
                break;
            }
        }
        let leases = last.partition_point(is_lease);
        last[..leases].iter_mut().try_for_each(|command| command.apply(tables))?;
        // A worker that also leases in this transaction could otherwise start the newest job first.
        let leasing = last[..leases].iter().filter_map(|command| command.lease());
        leasing.for_each(|(ask, _)| self.waiters.fell_behind(ask.worker));
        tables.assign_fresh(&mut self.waiters)?;
        tables.insert_fresh()?;
        last[leases..].iter_mut().try_for_each(|command| command.apply(tables))
    }

    /// Answers the waiters that were leased jobs, and takes note of the workers that have caught up.
    fn answer_waiters(&mut self, batch: &[Box<dyn Command>], changes: &Changes) {
        // Jobs that handlers enqueue come after the leases of this transaction, which have not seen them.
        let unseen = changes.work && batch.iter().any(|command| command.phase() == Phase::Handlers);
        for (ask, leased) in batch.iter().filter_map(|command| command.lease()) {
            if leased.jobs.len() < ask.limit && !unseen {
                self.waiters.caught_up(ask.worker, self.notifier.work(), leased);
            } else {
                self.waiters.fell_behind(ask.worker);
            }
        }
        self.waiters.committed();
    }

    /// Answers the waiter of a worker with nothing.
    fn stop_lease_on_enqueue(&mut self, worker: WorkerId) {
        self.waiters.extend(self.queue.waiters());
        self.waiters.remove(worker);
    }

    /// Notifies all listeners when another connection has committed something.
    fn look(&mut self) {
        if self.check().is_err() {
            return;
        }
        match self.tables.data_version() {
            Ok(version) if version == self.version => {}
            Ok(version) => {
                self.version = version;
                self.notifier.notify_all();
            }
            Err(error) => tracing::debug!(%error, "could not look for changes of other processes"),
        }
    }
}

fn is_lease(command: &impl Deref<Target = dyn Command>) -> bool {
    command.phase() == Phase::Lease
}

fn weight(batch: &[Box<dyn Command>]) -> usize {
    batch.iter().map(|command| command.weight()).sum()
}

fn answer(batch: Vec<Box<dyn Command>>, fault: Option<Fault>) {
    for command in batch {
        command.answer(fault.clone());
    }
}

/// Tries again while another connection holds a lock, until `patience` has passed since `since`.
pub(super) fn patiently<T, E>(
    since: Instant,
    patience: Duration,
    is_busy: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let mut pause = Duration::from_micros(100);
    loop {
        match attempt() {
            Err(error) if is_busy(&error) && since.elapsed() < patience => {
                #[expect(clippy::disallowed_methods, reason = "the end of another process's lock rouses no one")]
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(5));
            }
            done => return done,
        }
    }
}
