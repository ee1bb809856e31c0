//! A job, and whether its attempts kept the promises.

use std::collections::BTreeMap;

use qtasks::job::{JobId, WorkerId};
use serde_json::Value;

use super::{
    Expected, Fate, Promise,
    story::{Call, Story},
    verdict::Report,
};

/// A job with all that is known of it.
pub(super) struct Case<'a> {
    pub(super) job: JobId,
    pub(super) story: &'a Story,
    pub(super) fate: Option<&'a Fate>,
    pub(super) expected: Option<&'a Expected>,
}

impl Case<'_> {
    pub(super) fn judge(&self, report: &mut Report) {
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
}
