//! What a stream gave, and whether that is what it should.

use qtasks::job::JobId;

use super::{End, Fate, Item, Promise, story::Story, verdict::Report};

/// What one stream gave.
pub(super) struct Listened {
    pub(super) job: JobId,
    pub(super) from: u64,
    pub(super) items: Vec<Item>,
    pub(super) end: Option<End>,
}

impl Listened {
    pub(super) fn heard(&mut self, stream: u64, item: &Item, report: &mut Report) {
        if self.end.is_some() {
            let what = format!("stream {stream} of job {} gave something after its end", self.job);
            report.violated(Promise::I6, self.job, None, what);
        }
        self.items.push(item.clone());
    }

    pub(super) fn judge(&self, stream: u64, story: Option<&Story>, fate: Option<&Fate>, report: &mut Report) {
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
