//! How steps stand in the tables: many in one value, as bytes, numbers with the highest first.
//!
//! To write a row costs more than a step of some bytes. A step is
//!
//! | from | bytes | |
//! | --- | --- | --- |
//! | 0 | 8 | hash |
//! | 8 | 4 | bytes of the reply, twice, and 1 more if the value was skipped |
//! | 12 | | the reply, or why it was skipped |
//!
//! A [`Segment`] is steps of one job that follow each other; in a [`MixedPage`] of those of many jobs, job and number stand before
//! each of them.

use rusqlite::types::Type;

use crate::model::{
    job::{Reply, Step},
    json::Json,
};

/// A job, as the tables know it.
pub(crate) type Job = [u8; 16];

/// A segment of so many bytes takes no more steps: reading one step reads all of its segment.
const FULL: usize = 8 << 10;

/// Steps of many jobs, in the order of their arrival.
#[derive(Default)]
pub(crate) struct MixedPage(Vec<u8>);

impl MixedPage {
    pub(crate) fn push(&mut self, job: Job, step: &Step) -> rusqlite::Result<()> {
        self.0.extend(job);
        self.0.extend(step.seq.to_be_bytes());
        write(&mut self.0, step)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The steps of a [`MixedPage`], each with its job.
pub(crate) fn mixed(bytes: &[u8]) -> impl Iterator<Item = rusqlite::Result<(Job, Packed<'_>)>> {
    let mut unread = Unread(bytes);
    std::iter::from_fn(move || (!unread.0.is_empty()).then(|| unread.mixed()))
}

/// Steps of one job that follow each other.
#[derive(Default)]
pub(crate) struct Segment {
    pub(crate) job: Job,
    pub(crate) first: u64,
    count: u64,
    bytes: Vec<u8>,
}

impl Segment {
    pub(crate) fn starting(job: Job, first: u64) -> Self {
        Self { job, first, ..Self::default() }
    }

    /// Whether this step goes on where the segment ends, and there is room for it.
    pub(crate) fn takes(&self, job: Job, seq: u64) -> bool {
        self.job == job && self.first + self.count == seq && self.bytes.len() < FULL
    }

    pub(crate) fn push(&mut self, step: &Step) -> rusqlite::Result<()> {
        self.count += 1;
        write(&mut self.bytes, step)
    }

    pub(crate) fn push_packed(&mut self, step: Packed<'_>) {
        self.count += 1;
        self.bytes.extend(step.bytes);
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The steps of a segment that begins with number `first`.
pub(crate) fn segment(first: u64, bytes: &[u8]) -> impl Iterator<Item = rusqlite::Result<Packed<'_>>> {
    let (mut unread, mut numbers) = (Unread(bytes), first..);
    std::iter::from_fn(move || if unread.0.is_empty() { None } else { numbers.next().map(|seq| unread.packed(seq)) })
}

/// A step that is found in a [`MixedPage`] or a [`Segment`].
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a> {
    pub(crate) seq: u64,
    bytes: &'a [u8],
}

impl Packed<'_> {
    pub(crate) fn step(self) -> rusqlite::Result<Step> {
        let (hash, skipped, text) = Unread(self.bytes).step()?;
        let text = str::from_utf8(text).map_err(|_| unreadable())?;
        let reply = if skipped { Reply::Skipped(text.to_owned()) } else { Reply::Value(Json::from_stored(text)) };
        Ok(Step { seq: self.seq, hash, reply })
    }
}

fn write(bytes: &mut Vec<u8>, step: &Step) -> rusqlite::Result<()> {
    let (text, skipped) = (step.reply.as_str(), u32::from(step.reply.is_skipped()));
    let length = u32::try_from(text.len()).ok().and_then(|length| length.checked_mul(2));
    // SQLite takes half as much at most.
    let length = length.ok_or_else(|| rusqlite::Error::ToSqlConversionFailure("a reply of 2 GiB".into()))?;
    bytes.extend(step.hash.to_be_bytes());
    bytes.extend((length + skipped).to_be_bytes());
    bytes.extend(text.as_bytes());
    Ok(())
}

/// The bytes that are still to be read.
struct Unread<'a>(&'a [u8]);

impl<'a> Unread<'a> {
    fn mixed(&mut self) -> rusqlite::Result<(Job, Packed<'a>)> {
        let (job, seq) = (self.take()?, self.take().map(u64::from_be_bytes)?);
        Ok((job, self.packed(seq)?))
    }

    fn packed(&mut self, seq: u64) -> rusqlite::Result<Packed<'a>> {
        let before = self.0;
        self.step()?;
        Ok(Packed { seq, bytes: &before[..before.len() - self.0.len()] })
    }

    /// Hash, whether the value was skipped, and the reply.
    fn step(&mut self) -> rusqlite::Result<(u64, bool, &'a [u8])> {
        let hash = self.take().map(u64::from_be_bytes)?;
        let length = self.take().map(u32::from_be_bytes)?;
        let (text, rest) = self.0.split_at_checked((length / 2) as usize).ok_or_else(unreadable)?;
        self.0 = rest;
        Ok((hash, length % 2 == 1, text))
    }

    fn take<const N: usize>(&mut self) -> rusqlite::Result<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk().ok_or_else(unreadable)?;
        self.0 = rest;
        Ok(*first)
    }
}

fn unreadable() -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Blob, "these are no steps".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps() -> [Step; 3] {
        [
            Step { seq: 7, hash: u64::MAX, reply: Reply::Value(Json::from_stored("\"Grüße\\u0000\"")) },
            Step { seq: 8, hash: 0, reply: Reply::Skipped(String::new()) },
            Step { seq: 9, hash: 1, reply: Reply::Skipped("no\0\n".into()) },
        ]
    }

    fn packed(steps: &[Step]) -> Segment {
        let mut segment = Segment::starting([1; 16], steps[0].seq);
        steps.iter().try_for_each(|step| segment.push(step)).unwrap();
        segment
    }

    #[test]
    fn steps_are_read_as_they_were_written() {
        let segment = packed(&steps());
        let all: Vec<_> = super::segment(7, segment.bytes()).map(|step| step.unwrap().step().unwrap()).collect();
        assert_eq!(all, steps());
    }

    #[test]
    fn steps_of_many_jobs_become_a_strip_of_each() {
        let mut page = MixedPage::default();
        for step in steps() {
            page.push([1; 16], &step).unwrap();
            page.push([2; 16], &step).unwrap();
        }
        let mut ours = Segment::starting([1; 16], 7);
        for (job, step) in mixed(page.bytes()).map(Result::unwrap).filter(|(job, _)| *job == [1; 16]) {
            assert!(ours.takes(job, step.seq));
            assert_eq!(step.step().unwrap(), steps()[(step.seq - 7) as usize]);
            ours.push_packed(step);
        }
        assert_eq!(ours.bytes(), packed(&steps()).bytes());
    }

    #[test]
    fn a_strip_takes_what_follows_until_it_is_full() {
        let mut segment = packed(&steps());
        assert_eq!(
            [segment.takes([1; 16], 10), segment.takes([1; 16], 11), segment.takes([2; 16], 10)],
            [true, false, false]
        );
        let large = Step { seq: 10, hash: 0, reply: Reply::Skipped("x".repeat(FULL)) };
        segment.push(&large).unwrap();
        assert!(!segment.takes([1; 16], 11));
    }

    #[test]
    fn bytes_that_are_no_steps_are_an_error_wherever_they_end() {
        let segment = packed(&steps());
        let whole = [packed(&steps()[..1]).bytes().len(), packed(&steps()[..2]).bytes().len()];
        for end in (1..segment.bytes().len()).filter(|end| !whole.contains(end)) {
            assert!(super::segment(7, &segment.bytes()[..end]).any(|step| step.is_err()), "{end}");
        }
        let mut garbled = segment.bytes().to_vec();
        garbled[13] = 0xff;
        assert!(super::segment(7, &garbled).next().unwrap().unwrap().step().is_err());
    }
}
