//! Whether the promises were kept: plain events and outcomes in, a verdict out. It runs nothing and waits for nothing, so
//! that simulated and real crashes are judged alike.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use qtasks::job::{Attempt, Ending, Job, JobId, Reply, Step, WorkerId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Something that happened. All events of a run stand in one order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // The fields are the words of the design.
pub enum Event {
    /// An enqueue was acknowledged.
    Enqueued { job: JobId },
    /// The store gave the job to a worker: from now on, this attempt exists. Where nobody saw that, an attempt begins with
    /// its first handler call.
    Leased { job: JobId, attempt: u32, worker: WorkerId },
    /// A handler was called.
    Begun { job: JobId, seq: u64, attempt: u32, value: Value },
    /// It returned.
    Returned { job: JobId, seq: u64, attempt: u32 },
    /// A step is durable; written by this attempt, where that was seen.
    Durable { job: JobId, seq: u64, attempt: Option<u32> },
    /// The store moved the job to the state of this name; on behalf of the attempt, where it was one that ended itself.
    Settled { job: JobId, attempt: Option<u32>, state: String },
    /// A cancel was acknowledged.
    Cancelled { job: JobId },
    /// A cancel was refused, because the job had come to the state of this name.
    CancelRefused { job: JobId, state: String },
    /// A user's retry was made, or may have been.
    Retried { job: JobId },
    /// A stream was opened at a number.
    Opened { stream: u64, job: JobId, from: u64 },
    /// It gave an item.
    Item { stream: u64, item: Item },
    /// It gave its last item, or nobody listens any more.
    Closed { stream: u64, end: End },
    /// Waiting for a result gave this.
    Result { job: JobId, result: Value },
    /// A graceful stop began,
    StopBegun { worker: WorkerId },
    /// and ended, well or with an error, when the worker still held these jobs.
    StopEnded { worker: WorkerId, well: bool, holds: Vec<JobId> },
    /// A worker was killed: nothing that it does from now on is an event.
    Killed { worker: WorkerId },
    /// A worker was frozen,
    Frozen { worker: WorkerId },
    /// and thawed.
    Resumed { worker: WorkerId },
}

/// What a stream gives for a step, and what a step holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// The handler's reply.
    Value(Value),
    /// The handler's error, of a step that was skipped.
    Skipped(String),
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// With the end of the job, in the state of this name.
    Job(String),
    /// The store could not be read; whoever wants more opens another.
    Trouble,
    /// Nobody listens any more.
    Dropped,
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fate {
    /// The name of its state.
    pub state: String,
    /// Its result, where it is done and somebody asked.
    pub result: Option<Value>,
    /// The number of its latest attempt.
    pub attempt: u32,
    /// Its failures in a row.
    pub failures: u32,
    /// Its steps, as they are stored.
    pub steps: Vec<(u64, Item)>,
    /// The attempts that ended, by number, with the reason of each.
    pub attempts: Vec<(u32, Ending)>,
}

impl Fate {
    /// What a store says of a job.
    pub fn of(job: &Job, steps: Vec<Step>, attempts: &[Attempt], result: Option<Value>) -> Self {
        Self {
            state: job.standing.state.name().to_owned(),
            result,
            attempt: job.standing.attempt,
            failures: job.standing.failures,
            steps: steps.into_iter().map(|step| (step.seq, Item::from(step.reply))).collect(),
            attempts: attempts.iter().map(|attempt| (attempt.number, attempt.ending.clone())).collect(),
        }
    }
}

impl From<Reply> for Item {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Value(json) => Self::Value(json.decode().expect("what is stored is JSON")),
            Reply::Skipped(error) => Self::Skipped(error),
        }
    }
}

/// What a run of a job without any disturbance comes to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// The name of its state.
    pub state: String,
    /// Its result.
    pub result: Option<Value>,
    /// Its steps.
    pub steps: Vec<Item>,
    /// How many of its attempts end in an error of its own, at most.
    pub failures: usize,
    /// How many values may be handled and not durable, where the task says so: 1 for one that waits for each step. Only
    /// for ledgers in which the store itself tells what is durable.
    pub ahead: Option<u64>,
}

/// A promise of the design, by its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Promise {
    /// An acknowledged enqueue is never lost.
    I1,
    /// Every job ends, or is due, or is leased.
    I2,
    /// Once an attempt exists, no write of an earlier one succeeds.
    I3,
    /// No attempt that begins after a step is recorded runs a handler for it.
    I4,
    /// The result equals that of an undisturbed run; the numbers of the steps have no gaps.
    I5,
    /// A stream sees exactly what follows its offset, then the end.
    I6,
    /// A graceful stop loses nothing and costs no failure.
    I10,
    /// A cancel wins or the job completes, never both.
    I11,
    /// No I/O error is reported as success.
    I12,
    /// A handler runs again only for what was not durable, and never under a lease that has passed on.
    Once,
}

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// Of which job.
    pub job: Option<JobId>,
    /// At which step.
    pub seq: Option<u64>,
    /// What happened, as a sentence.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.what)
    }
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Jobs that were looked at.
    pub jobs: usize,
    /// Their steps.
    pub values: usize,
    /// Handler calls.
    pub calls: usize,
    /// Jobs and steps that were acknowledged or seen and are not there.
    pub lost: usize,
    /// Handler calls for values whose step was durable already.
    pub again_after_record: usize,
    /// Further handler calls for values whose step was not durable yet.
    pub again_in_flight: usize,
    /// Streams that were looked at.
    pub streams: usize,
    /// What was not as promised.
    pub violations: Vec<Violation>,
}

impl Verdict {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: Self) {
        self.jobs += other.jobs;
        self.values += other.values;
        self.calls += other.calls;
        self.lost += other.lost;
        self.again_after_record += other.again_after_record;
        self.again_in_flight += other.again_in_flight;
        self.streams += other.streams;
        self.violations.extend(other.violations);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jobs, values, calls, lost, again_after_record, again_in_flight, streams, violations } = self;
        write!(
            f,
            "{jobs} jobs, {values} values, {calls} handler calls; lost: {lost}, handled again after the record: \
             {again_after_record}, handled again while in flight: {again_in_flight}; {streams} streams"
        )?;
        violations.iter().try_for_each(|violation| write!(f, "\n  {violation}"))
    }
}

/// Says whether the promises were kept. `fates` holds every job that is there at the end; of jobs that are not in
/// `expected`, nothing is known about what they should have come to.
pub fn check(events: &[Event], fates: &BTreeMap<JobId, Fate>, expected: &BTreeMap<JobId, Expected>) -> Verdict {
    let mut stories: BTreeMap<JobId, Story> = fates.keys().map(|job| (*job, Story::default())).collect();
    let mut streams: BTreeMap<u64, Listened> = BTreeMap::new();
    let mut report = Report::default();
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Opened { stream, job, from } => {
                streams.insert(*stream, Listened { job: *job, from: *from, items: Vec::new(), end: None });
            }
            Event::Item { stream, item } => {
                if let Some(listened) = streams.get_mut(stream) {
                    let seq = listened.from + listened.items.len() as u64;
                    stories.entry(listened.job).or_default().durable.entry(seq).or_insert(at);
                    listened.heard(*stream, item, &mut report);
                }
            }
            Event::Closed { stream, end } => {
                if let Some(listened) = streams.get_mut(stream) {
                    listened.end = Some(end.clone());
                }
            }
            Event::StopEnded { worker, well: true, holds } => {
                holds.iter().for_each(|job| report.held_after_a_stop(*worker, *job));
            }
            Event::StopBegun { .. } | Event::StopEnded { .. } | Event::Killed { .. } | Event::Resumed { .. } => {}
            Event::Frozen { worker } => {
                report.frozen.insert(*worker);
            }
            Event::Enqueued { job }
            | Event::Leased { job, .. }
            | Event::Begun { job, .. }
            | Event::Returned { job, .. }
            | Event::Durable { job, .. }
            | Event::Settled { job, .. }
            | Event::Cancelled { job }
            | Event::CancelRefused { job, .. }
            | Event::Retried { job }
            | Event::Result { job, .. } => stories.entry(*job).or_default().add(at, event),
        }
    }
    report.verdict.streams = streams.len();
    for (job, story) in &stories {
        Case { job: *job, story, fate: fates.get(job), expected: expected.get(job) }.judge(&mut report);
    }
    for (stream, listened) in &streams {
        listened.judge(*stream, stories.get(&listened.job), fates.get(&listened.job), &mut report);
    }
    report.verdict.jobs = stories.len();
    report.verdict
}

#[derive(Default)]
struct Report {
    verdict: Verdict,
    frozen: BTreeSet<WorkerId>,
}

impl Report {
    fn held_after_a_stop(&mut self, worker: WorkerId, job: JobId) {
        let what = format!("worker {worker} reported a graceful stop and still holds job {job}");
        self.violated(Promise::I10, job, None, what.clone());
        self.violated(Promise::I12, job, None, what);
    }

    fn violated(&mut self, promise: Promise, job: JobId, seq: Option<u64>, what: String) {
        self.verdict.violations.push(Violation { promise, job: Some(job), seq, what });
    }
}

/// What happened to one job; each thing with its place among the events.
#[derive(Default)]
struct Story {
    enqueued: bool,
    leases: Vec<(usize, u32, WorkerId)>,
    calls: Vec<Call>,
    returned: usize,
    /// Since when each step is known to be durable.
    durable: BTreeMap<u64, usize>,
    /// Writes of steps, by the attempts that made them.
    writes: Vec<(usize, u64, u32)>,
    settled: Vec<(usize, Option<u32>, String)>,
    cancelled: Vec<usize>,
    refused: Vec<(usize, String)>,
    retried: Vec<usize>,
    results: Vec<Value>,
}

struct Call {
    at: usize,
    seq: u64,
    attempt: u32,
    value: Value,
}

impl Story {
    fn add(&mut self, at: usize, event: &Event) {
        match event {
            Event::Enqueued { .. } => self.enqueued = true,
            Event::Leased { attempt, worker, .. } => self.leases.push((at, *attempt, *worker)),
            Event::Begun { seq, attempt, value, .. } => {
                self.calls.push(Call { at, seq: *seq, attempt: *attempt, value: value.clone() });
            }
            Event::Returned { .. } => self.returned += 1,
            Event::Durable { seq, attempt, .. } => {
                self.durable.entry(*seq).or_insert(at);
                self.writes.extend(attempt.map(|attempt| (at, *seq, attempt)));
            }
            Event::Settled { attempt, state, .. } => self.settled.push((at, *attempt, state.clone())),
            Event::Cancelled { .. } => self.cancelled.push(at),
            Event::CancelRefused { state, .. } => self.refused.push((at, state.clone())),
            Event::Retried { .. } => self.retried.push(at),
            Event::Result { result, .. } => self.results.push(result.clone()),
            _ => {}
        }
    }

    /// Where an attempt begins.
    fn beginning(&self, attempt: u32) -> usize {
        let leased = self.leases.iter().find(|lease| lease.1 == attempt).map(|lease| lease.0);
        let called = || self.calls.iter().find(|call| call.attempt == attempt).map(|call| call.at);
        leased.or_else(called).unwrap_or(usize::MAX)
    }

    fn durable_before(&self, at: usize) -> u64 {
        self.durable.values().filter(|durable| **durable < at).count() as u64
    }

    fn retried_after(&self, at: usize) -> bool {
        self.retried.iter().any(|retried| *retried > at)
    }

    fn came_to(&self, state: &str) -> impl Iterator<Item = usize> {
        self.settled.iter().filter(move |settled| settled.2 == state).map(|settled| settled.0)
    }
}

fn is_end(state: &str) -> bool {
    matches!(state, "done" | "dead" | "cancelled")
}

/// A job with all that is known of it.
struct Case<'a> {
    job: JobId,
    story: &'a Story,
    fate: Option<&'a Fate>,
    expected: Option<&'a Expected>,
}

impl Case<'_> {
    fn judge(&self, report: &mut Report) {
        report.verdict.calls += self.story.calls.len();
        self.nothing_is_written_by_an_earlier_attempt(report);
        self.no_handler_is_called_in_vain(report);
        self.a_body_is_the_same_each_time(report);
        self.the_job_ends_once(report);
        let Some(fate) = self.fate else {
            if self.story.enqueued {
                report.verdict.lost += 1;
                let what = format!("job {} was acknowledged and is not there", self.job);
                report.violated(Promise::I1, self.job, None, what);
            }
            return;
        };
        report.verdict.values += fate.steps.len();
        self.the_job_has_ended(fate, report);
        self.the_steps_are_those_that_were_seen(fate, report);
        self.the_outcome_is_that_of_an_undisturbed_run(fate, report);
        self.failures_are_the_tasks_own(fate, report);
        self.what_was_acknowledged_is_so(fate, report);
    }

    fn nothing_is_written_by_an_earlier_attempt(&self, report: &mut Report) {
        let (story, job) = (self.story, self.job);
        let latest = |at: usize| story.leases.iter().filter(|lease| lease.0 < at).map(|lease| lease.1).max();
        for (at, seq, attempt) in &story.writes {
            if let Some(later) = latest(*at).filter(|later| later > attempt) {
                let what = format!("attempt {attempt} of job {job} wrote step {seq} although attempt {later} exists");
                report.violated(Promise::I3, job, Some(*seq), what);
            }
        }
        for (at, attempt, state) in &story.settled {
            let Some(attempt) = attempt else { continue };
            if let Some(later) = latest(*at).filter(|later| later > attempt) {
                let what = format!("attempt {attempt} settled job {job} as {state} although attempt {later} exists");
                report.violated(Promise::I3, job, None, what);
            }
        }
        for (index, (at, attempt, worker)) in story.leases.iter().enumerate() {
            if let Some((_, earlier, _)) = story.leases[..index].iter().find(|earlier| earlier.1 >= *attempt) {
                let what =
                    format!("worker {worker} leased job {job} as attempt {attempt} after there was attempt {earlier}");
                report.violated(Promise::I3, job, None, what);
            }
            let given_up = |before: &&(usize, u32, WorkerId)| {
                story.settled.iter().any(|settled| settled.0 > before.0 && settled.0 < *at)
            };
            if let Some((_, held, other)) = story.leases[..index].last().filter(|before| !given_up(before)) {
                let what = format!(
                    "job {job} was leased to {worker} while attempt {held} on {other} ran and had neither ended nor been \
                     given up"
                );
                report.violated(Promise::I3, job, None, what);
            }
        }
    }

    fn no_handler_is_called_in_vain(&self, report: &mut Report) {
        let (story, job) = (self.story, self.job);
        for (index, call) in story.calls.iter().enumerate() {
            let Call { at, seq, attempt, .. } = *call;
            let durable = story.durable.get(&seq).filter(|durable| **durable < at);
            let again = story.calls[..index].iter().any(|earlier| earlier.seq == seq);
            report.verdict.again_after_record += usize::from(durable.is_some());
            report.verdict.again_in_flight += usize::from(durable.is_none() && again);
            if durable.is_some_and(|durable| *durable < story.beginning(attempt)) {
                let what =
                    format!("attempt {attempt} of job {job} handled step {seq}, which was recorded before it began");
                report.violated(Promise::I4, job, Some(seq), what);
            }
            self.a_call_comes_in_turn(&story.calls[..index], call, report);
            self.a_call_is_under_a_lease(call, report);
            let ahead = self.expected.and_then(|expected| expected.ahead);
            let lag = (seq + 1).saturating_sub(story.durable_before(at));
            if ahead.is_some_and(|ahead| lag > ahead) {
                let what = format!(
                    "attempt {attempt} of job {job} handled step {seq} when only {} steps were durable",
                    story.durable_before(at)
                );
                report.violated(Promise::Once, job, Some(seq), what);
            }
        }
    }

    fn a_call_comes_in_turn(&self, before: &[Call], call: &Call, report: &mut Report) {
        let Call { at, seq, attempt, .. } = *call;
        let job = self.job;
        match before.iter().rfind(|before| before.attempt == attempt).map(|before| before.seq) {
            Some(last) if seq <= last => {
                let what = format!("attempt {attempt} of job {job} handled step {seq} again, after step {last}");
                report.violated(Promise::Once, job, Some(seq), what);
            }
            Some(last) if seq > last + 1 => {
                let what = format!("attempt {attempt} of job {job} handled step {seq} after step {last}: a gap");
                report.violated(Promise::I5, job, Some(seq), what);
            }
            None if seq > self.story.durable_before(at) && !self.story.leases.is_empty() => {
                let what =
                    format!("attempt {attempt} of job {job} began with step {seq}, and those before are not recorded");
                report.violated(Promise::I5, job, Some(seq), what);
            }
            _ => {}
        }
    }

    /// A job that is called off and tried again may have its earlier body run on for about a second; a worker that was
    /// frozen may finish the call that it was frozen in.
    fn a_call_is_under_a_lease(&self, call: &Call, report: &mut Report) {
        let Call { at, seq, attempt, .. } = *call;
        let (story, job) = (self.story, self.job);
        let called_off = story.came_to("cancelled").any(|cancelled| cancelled < at);
        let holder = story.leases.iter().find(|lease| lease.1 == attempt).map(|lease| lease.2);
        let frozen = holder.is_some_and(|worker| report.frozen.contains(&worker));
        let Some(next) = story.leases.iter().find(|lease| lease.1 > attempt && lease.0 < at) else { return };
        let since =
            story.calls.iter().filter(|call| call.attempt == attempt && call.at > next.0 && call.at < at).count();
        if !called_off && (!frozen || since > 0) {
            let what = format!(
                "attempt {attempt} of job {job} called a handler for step {seq} although attempt {} exists",
                next.1
            );
            report.violated(Promise::Once, job, Some(seq), what);
        }
    }

    fn a_body_is_the_same_each_time(&self, report: &mut Report) {
        let mut values: BTreeMap<u64, &Value> = BTreeMap::new();
        for call in &self.story.calls {
            let first = *values.entry(call.seq).or_insert(&call.value);
            if *first != call.value {
                let (job, seq) = (self.job, call.seq);
                let what = format!("the body of job {job} yielded {} for step {seq}, and {first} before", call.value);
                report.violated(Promise::I5, job, Some(seq), what);
            }
        }
    }

    fn the_job_ends_once(&self, report: &mut Report) {
        let (story, job) = (self.story, self.job);
        let ends: Vec<_> = story.settled.iter().filter(|settled| is_end(&settled.2)).collect();
        for pair in ends.windows(2) {
            let between = story
                .settled
                .iter()
                .any(|settled| settled.0 > pair[0].0 && settled.0 < pair[1].0 && settled.2 == "waiting");
            if !between {
                let what = format!("job {job} ended as {} and then as {}", pair[0].2, pair[1].2);
                report.violated(Promise::I11, job, None, what);
            }
        }
        for (at, _, state) in ends {
            let next = story.settled.iter().find(|settled| settled.0 > *at).map_or(usize::MAX, |settled| settled.0);
            if let Some((_, seq, _)) = story.writes.iter().find(|write| write.0 > *at && write.0 < next) {
                let what = format!("step {seq} of job {job} was written after the job was {state}");
                report.violated(Promise::I11, job, Some(*seq), what);
            }
        }
    }

    fn the_job_has_ended(&self, fate: &Fate, report: &mut Report) {
        if !is_end(&fate.state) {
            let what = format!("job {} never ended: it is {}, at attempt {}", self.job, fate.state, fate.attempt);
            report.violated(Promise::I2, self.job, None, what);
        }
    }

    fn the_steps_are_those_that_were_seen(&self, fate: &Fate, report: &mut Report) {
        let job = self.job;
        for (place, (seq, _)) in (0..).zip(&fate.steps) {
            if *seq != place {
                let what = format!("step {seq} of job {job} stands at place {place}");
                report.violated(Promise::I5, job, Some(*seq), what);
            }
        }
        let kept: BTreeSet<u64> = fate.steps.iter().map(|step| step.0).collect();
        for seq in self.story.durable.keys().filter(|seq| !kept.contains(*seq)) {
            report.verdict.lost += 1;
            let what = format!("step {seq} of job {job} was durable and is not there");
            report.violated(Promise::I5, job, Some(*seq), what);
        }
    }

    fn the_outcome_is_that_of_an_undisturbed_run(&self, fate: &Fate, report: &mut Report) {
        let (job, Some(expected)) = (self.job, self.expected) else { return };
        let mut differs = |seq, what: String| report.violated(Promise::I5, job, seq, what);
        for ((seq, item), should) in fate.steps.iter().zip(&expected.steps) {
            if item != should {
                differs(Some(*seq), format!("step {seq} of job {job} is {item:?} and not {should:?}"));
            }
        }
        let called_off = fate.state == "cancelled" && self.story.came_to("cancelled").next().is_some();
        if called_off && expected.state != "cancelled" {
            if fate.steps.len() > expected.steps.len() {
                differs(None, format!("job {job} has {} steps, more than there are", fate.steps.len()));
            }
            return;
        }
        if fate.state != expected.state {
            differs(None, format!("job {job} is {} and not {}", fate.state, expected.state));
        }
        if fate.steps.len() != expected.steps.len() {
            let (steps, should) = (fate.steps.len(), expected.steps.len());
            differs(None, format!("job {job} has {steps} steps and not {should}"));
        }
        if fate.result != expected.result {
            differs(None, format!("the result of job {job} is {:?} and not {:?}", fate.result, expected.result));
        }
    }

    fn failures_are_the_tasks_own(&self, fate: &Fate, report: &mut Report) {
        let (job, Some(expected)) = (self.job, self.expected) else { return };
        let failed: Vec<_> = fate
            .attempts
            .iter()
            .filter_map(|(number, ending)| match ending {
                Ending::Failed { error } => Some((number, error)),
                _ => None,
            })
            .collect();
        if failed.len() > expected.failures {
            let (number, error) = failed[failed.len() - 1];
            let what = format!("attempt {number} of job {job} was charged with a failure that is not its own: {error}");
            report.violated(Promise::I10, job, None, what);
        }
        // The first loss is free of charge: from then on the job is a suspect, whose start is known.
        let lost = fate.attempts.iter().filter(|(_, ending)| matches!(ending, Ending::Lost)).count();
        let charged = failed.len() + lost.saturating_sub(1);
        if fate.failures as usize > charged {
            let what = format!("job {job} counts {} failures, and {charged} attempts are to be charged", fate.failures);
            report.violated(Promise::I10, job, None, what);
        }
        let mut numbers: Vec<_> = fate.attempts.iter().map(|attempt| attempt.0).collect();
        numbers.sort_unstable();
        if let Some(twice) = numbers.windows(2).find(|pair| pair[0] == pair[1]) {
            report.violated(Promise::I3, job, None, format!("attempt {} of job {job} ended twice", twice[0]));
        }
    }

    fn what_was_acknowledged_is_so(&self, fate: &Fate, report: &mut Report) {
        let (story, job) = (self.story, self.job);
        let last_cancel = story.cancelled.last().filter(|cancelled| !story.retried_after(**cancelled));
        if last_cancel.is_some() && fate.state != "cancelled" {
            let what = format!("a cancel of job {job} was acknowledged, and the job is {}", fate.state);
            report.violated(Promise::I11, job, None, what.clone());
            report.violated(Promise::I12, job, None, what);
        }
        for (at, state) in story.refused.iter().filter(|refused| !story.retried_after(refused.0)) {
            let earlier = story.came_to("cancelled").any(|cancelled| cancelled < *at);
            if *state != fate.state && !(earlier && fate.state == "cancelled") {
                let what = format!("a cancel of job {job} was refused because it is {state}, and it is {}", fate.state);
                report.violated(Promise::I11, job, None, what);
            }
        }
        for result in story.results.iter().filter(|result| fate.result.as_ref() != Some(result)) {
            let what = format!("whoever waited for job {job} was given {result}, and its result is {:?}", fate.result);
            report.violated(Promise::I12, job, None, what);
        }
    }
}

/// What one stream gave.
struct Listened {
    job: JobId,
    from: u64,
    items: Vec<Item>,
    end: Option<End>,
}

impl Listened {
    fn heard(&mut self, stream: u64, item: &Item, report: &mut Report) {
        if self.end.is_some() {
            let what = format!("stream {stream} of job {} gave something after its end", self.job);
            report.violated(Promise::I6, self.job, None, what);
        }
        self.items.push(item.clone());
    }

    fn judge(&self, stream: u64, story: Option<&Story>, fate: Option<&Fate>, report: &mut Report) {
        let (job, from) = (self.job, self.from);
        let mut violated = |seq, what: String| {
            let what = format!("stream {stream} of job {job}, opened at {from}, {what}");
            report.violated(Promise::I6, job, seq, what);
        };
        let Some(fate) = fate else { return };
        let from_there = fate.steps.get(usize::try_from(from).unwrap_or(usize::MAX)..).unwrap_or_default();
        for (place, item) in self.items.iter().enumerate() {
            let seq = from + place as u64;
            match from_there.get(place) {
                Some((_, step)) if step == item => {}
                Some((_, step)) => {
                    return violated(Some(seq), format!("gave {item:?} for step {seq}, which is {step:?}"));
                }
                None => return violated(Some(seq), format!("gave {item:?} for step {seq}, which is not there")),
            }
        }
        // The end of a job that was tried again later is that of an earlier time.
        let again = story.is_some_and(|story| !story.retried.is_empty());
        match &self.end {
            None => violated(None, "never ended".to_owned()),
            Some(End::Dropped | End::Trouble) => {}
            Some(End::Job(state)) if *state != fate.state && !again => {
                violated(None, format!("ended as if the job were {state}, which is {}", fate.state));
            }
            Some(End::Job(_)) if self.items.len() < from_there.len() && !again => {
                let (items, steps) = (self.items.len(), from_there.len());
                violated(None, format!("ended after {items} of {steps} items"));
            }
            Some(End::Job(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests;
