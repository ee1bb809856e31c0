//! What the store has of a schedule, and what becomes of it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    definition::Definition,
    firing::fire,
    options::{Overlap, ScheduleOptions},
    timetable::Timetable,
};
use crate::model::{
    job::{JobId, WorkerId},
    pause::{Pause, Said},
};

/// Where a schedule is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// In the code of programs.
    Code,
    /// In the store alone, by [`QueueTasks::schedule`](crate::QueueTasks::schedule).
    Store,
}

/// A schedule as its note has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedSchedule {
    pub(crate) definition: Definition,
    pub(crate) source: Source,
    /// The first tick that has neither fired nor been passed over. There is none when the schedule is at its end.
    pub(crate) next: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<LastTick>,
    /// Ticks that were found too late.
    #[serde(default)]
    pub(crate) missed: Passed,
    /// Ticks at which the last job still lived.
    #[serde(default)]
    pub(crate) overlapped: Passed,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pause: Option<SavedPause>,
    /// Since when no running worker has the schedule in its code any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) left: Option<Timestamp>,
}

/// The last tick that fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastTick {
    pub(crate) tick: Timestamp,
    pub(crate) job: JobId,
    /// The worker that enqueued the job.
    pub(crate) by: WorkerId,
}

/// Ticks that were passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Passed {
    pub(crate) count: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<Timestamp>,
}

impl Passed {
    fn add(&mut self, count: u64, last: Option<Timestamp>) {
        self.count = self.count.saturating_add(count);
        self.last = last.or(self.last);
    }
}

/// A pause as it stands in the note of what it pauses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedPause {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    said: Said,
}

impl SavedPause {
    pub(crate) fn new(pause: &Pause) -> Self {
        Self { until: pause.until, said: pause.said() }
    }

    pub(crate) fn pause(&self, schedule: &str) -> Pause {
        Pause::of_schedule(schedule, self.until, self.said.clone())
    }
}

/// What is to be done at a tick: what the note becomes, and the ticks that each get a job.
#[derive(Debug, PartialEq)]
pub(crate) struct Fired {
    pub(crate) becomes: SavedSchedule,
    pub(crate) ticks: Vec<Timestamp>,
}

impl SavedSchedule {
    /// A schedule whose first tick is the first one after `now`.
    pub(crate) fn new(definition: Definition, timetable: &Timetable, source: Source, now: Timestamp) -> Self {
        Self {
            definition,
            source,
            next: timetable.next_after(now),
            last: None,
            missed: Passed::default(),
            overlapped: Passed::default(),
            pause: None,
            left: None,
        }
    }

    /// The schedule by another definition: it keeps what it has done and its pause, and nothing is fired for the past.
    pub(crate) fn redefined(
        &self,
        definition: &Definition,
        timetable: &Timetable,
        source: Source,
        now: Timestamp,
    ) -> Self {
        let next = timetable.next_after(now);
        Self { definition: definition.clone(), source, next, left: None, ..self.clone() }
    }

    /// Whether a worker with this definition in its code has nothing to write. What an operator has put in its place stays.
    pub(crate) fn is_as_declared(&self, definition: &Definition) -> bool {
        self.source == Source::Store || self.definition == *definition && self.left.is_none()
    }

    /// What becomes of the note when the code of a worker is to be in force.
    pub(crate) fn declared(&self, definition: &Definition, timetable: &Timetable, now: Timestamp) -> Self {
        if self.definition == *definition {
            return Self { left: None, ..self.clone() };
        }
        self.redefined(definition, timetable, Source::Code, now)
    }

    /// When there is something to be done, if ever.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        match &self.pause {
            Some(pause) => pause.until,
            None => self.next,
        }
    }

    /// The schedule when its pause ends at `end`: ticks until then are neither fired nor missed.
    pub(crate) fn resumed(&self, timetable: &Timetable, end: Timestamp) -> Self {
        let next = match self.next {
            Some(next) if next < end => timetable.next_after(just_before(end)),
            next => next,
        };
        Self { pause: None, next, ..self.clone() }
    }

    /// What is to be done `now`, by the worker `by`. `lives` says whether the last job has not ended yet. `None` when nothing is.
    pub(crate) fn fire(
        &self,
        name: &str,
        timetable: &Timetable,
        lives: bool,
        now: Timestamp,
        by: WorkerId,
    ) -> Option<Fired> {
        let due = self.due().filter(|due| *due <= now)?;
        if self.pause.is_some() {
            let resumed = self.resumed(timetable, due);
            return Some(Fired { becomes: resumed, ticks: Vec::new() });
        }
        let ScheduleOptions { missed, overlap, .. } = self.definition.options;
        let firing = fire(timetable, missed, due, now);
        let mut becomes = Self { next: firing.next, ..self.clone() };
        becomes.missed.add(firing.missed, firing.last_missed);
        let mut ticks = firing.ticks;
        if overlap == Overlap::Skip {
            let passed = ticks.split_off(if lives { 0 } else { ticks.len().min(1) });
            becomes.overlapped.add(passed.len() as u64, passed.last().copied());
        }
        if let Some(&tick) = ticks.last() {
            becomes.last = Some(LastTick { tick, job: super::tick::id(name, tick), by });
        }
        Some(Fired { becomes, ticks })
    }
}

/// The last moment before a time that is told apart from it.
fn just_before(time: Timestamp) -> Timestamp {
    time.checked_sub(jiff::SignedDuration::from_nanos(1)).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{json::Json, pause::Scope, schedule::Missed};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    fn definition(expression: &str) -> Definition {
        Definition {
            task: "report".into(),
            queue: "mail".into(),
            priority: -3,
            args: Json::from_stored("{\"n\":12345678901234567890,\"s\":\"ж\"}"),
            max_time: Some(Duration::from_millis(1_500)),
            expires: Some(Duration::from_secs(60)),
            unique: None,
            expression: expression.into(),
            timezone: "UTC".into(),
            options: ScheduleOptions::DEFAULT.missed(Missed::All).jitter(Duration::from_secs(30)),
        }
    }

    fn saved(expression: &str) -> (SavedSchedule, Timetable) {
        let definition = definition(expression);
        let timetable = definition.timetable().unwrap();
        (SavedSchedule::new(definition, &timetable, Source::Code, at(0)), timetable)
    }

    #[test]
    fn a_schedule_is_read_as_it_was_written() {
        let (plain, _) = saved("every 10s");
        let mut full = plain.clone();
        full.source = Source::Store;
        full.last = Some(LastTick { tick: at(10), job: JobId::new(), by: WorkerId::new() });
        full.missed.add(3, Some(at(9)));
        full.overlapped.add(1, Some(at(8)));
        let mut pause = Pause::new(Scope::Schedule("a"), at(1));
        pause.until = Some(at(90));
        full.pause = Some(SavedPause::new(&pause));
        full.left = Some(at(7));
        for saved in [plain, full] {
            let json = Json::encode(&saved).unwrap();
            assert_eq!(json.decode::<SavedSchedule>().unwrap(), saved, "{}", json.as_str());
        }
    }

    #[test]
    fn what_another_definition_keeps() {
        let (mut before, _) = saved("every 10s");
        before.last = Some(LastTick { tick: at(-10), job: JobId::new(), by: WorkerId::new() });
        before.missed.add(3, None);
        let other = definition("every 60s");
        let timetable = other.timetable().unwrap();
        let after = before.declared(&other, &timetable, at(100));
        assert_eq!((after.next, after.last, after.missed), (timetable.next_after(at(100)), before.last, before.missed));
        assert!(after.is_as_declared(&other) && !before.is_as_declared(&other), "it is in force");
        let left = SavedSchedule { left: Some(at(50)), ..after.clone() };
        assert_eq!((left.is_as_declared(&other), left.declared(&other, &timetable, at(200))), (false, after));
        let in_store = SavedSchedule { source: Source::Store, ..before };
        assert!(in_store.is_as_declared(&other), "an operator's stays");
    }

    #[test]
    fn ticks_until_the_end_of_a_pause_are_passed_over() {
        let (mut saved, timetable) = saved("every 10s");
        let next = saved.next.unwrap();
        let later = |seconds| next + jiff::SignedDuration::from_secs(seconds);
        saved.pause = Some(SavedPause::new(&Pause::new(Scope::Schedule("a"), at(1))));
        assert_eq!(saved.due(), None);
        assert_eq!(saved.resumed(&timetable, later(25)).next, Some(later(30)));
        assert_eq!(
            saved.resumed(&timetable, later(30)).next,
            Some(later(30)),
            "a tick at the end is none of the pause"
        );
        assert_eq!(saved.resumed(&timetable, later(-5)).next, Some(next));
        assert_eq!(saved.fire("a", &timetable, false, later(99), WorkerId::new()), None);
    }
}
