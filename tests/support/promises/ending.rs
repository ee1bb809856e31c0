//! Whether a job came to what it should.

use std::collections::BTreeSet;

use qtasks::job::Ending;

use super::{Fate, Promise, case::Case, story::is_end, verdict::Report};

impl Case<'_> {
    pub(super) fn the_job_ends_once(&self, report: &mut Report) {
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

    pub(super) fn the_job_has_ended(&self, fate: &Fate, report: &mut Report) {
        if !is_end(&fate.state) {
            let what = format!("job {} never ended: it is {}, at attempt {}", self.job, fate.state, fate.attempt);
            report.violated(Promise::I2, self.job, None, what);
        }
    }

    pub(super) fn the_steps_are_those_that_were_seen(&self, fate: &Fate, report: &mut Report) {
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

    pub(super) fn the_outcome_is_that_of_an_undisturbed_run(&self, fate: &Fate, report: &mut Report) {
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

    pub(super) fn failures_are_the_tasks_own(&self, fate: &Fate, report: &mut Report) {
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

    pub(super) fn what_was_acknowledged_is_so(&self, fate: &Fate, report: &mut Report) {
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
