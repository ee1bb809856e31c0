//! The record of earlier attempts, read page after page as the body comes to it.

use std::vec;

use tokio::sync::mpsc;

use crate::{
    error::Result,
    execution::stopped::Stopped,
    model::job::{Memo, Step},
};

/// The steps or the memos that earlier attempts recorded, read page after page.
#[derive(Debug)]
pub(crate) struct Recorded<T> {
    /// Where further pages come from; `None` after the last.
    pages: Option<mpsc::Receiver<Result<Vec<T>>>>,
    page: vec::IntoIter<T>,
    /// The number that is expected next.
    next: u64,
    /// How many steps or memos the job has.
    end: u64,
}

/// A part of the record that has a number: a step or a memo.
pub(crate) trait Numbered {
    /// The name of such a part, for errors.
    const NAME: &'static str;
    /// Whether every number is read. It is not so for memos: those for other steps are left out.
    const WHOLE: bool;

    fn number(&self) -> u64;
}

impl Numbered for Step {
    const NAME: &'static str = "step";
    const WHOLE: bool = true;

    fn number(&self) -> u64 {
        self.seq
    }
}

impl Numbered for Memo {
    const NAME: &'static str = "memo";
    const WHOLE: bool = false;

    fn number(&self) -> u64 {
        self.number
    }
}

/// A record with a gap, a repetition or a wrong end. A body that went on from it would get wrong answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Torn {
    #[error(
        "the record of this job that the store gave is torn: {name} {found} came where {name} {next} was expected; another \
         try reads it again, and if that fails too, the store has lost a part of it: enqueue the job anew"
    )]
    Gap { name: &'static str, found: u64, next: u64 },
    #[error(
        "the record of this job that the store gave is torn: it ends before {name} {next}, and the job has {end}; another \
         try reads it again, and if that fails too, the store has lost a part of it: enqueue the job anew"
    )]
    End { name: &'static str, next: u64, end: u64 },
}

impl<T: Numbered> Recorded<T> {
    /// The record that comes over `pages`, of a job that has `end` steps or memos; an empty page is the last one.
    pub(crate) fn new(pages: mpsc::Receiver<Result<Vec<T>>>, end: u64) -> Self {
        Self { pages: Some(pages), page: Vec::new().into_iter(), next: 0, end }
    }

    /// An empty record, that of a first attempt.
    pub(crate) fn none() -> Self {
        Self { pages: None, page: Vec::new().into_iter(), next: 0, end: 0 }
    }

    /// The next step or memo; `None` after the last.
    ///
    /// # Errors
    ///
    /// The store's error when a page cannot be read, and an error where the pages do not go on at the number expected. The
    /// attempt is [`Released`](Stopped::Released) when its runtime ends before the pages do.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Option<T>, Stopped> {
        if self.page.len() == 0
            && let Some(pages) = &mut self.pages
        {
            let page = pages.recv().await.ok_or(Stopped::Released)?;
            self.page = page.map_err(|error| Stopped::Error(Box::new(error)))?.into_iter();
            self.pages.take_if(|_| self.page.len() == 0);
        }
        let next = self.page.next();
        self.check(next.as_ref()).map_err(|torn| Stopped::Error(Box::new(torn)))?;
        Ok(next)
    }

    fn check(&mut self, found: Option<&T>) -> Result<(), Torn> {
        let (name, next, end) = (T::NAME, self.next, self.end);
        match found.map(T::number) {
            Some(found) if found < next || T::WHOLE && found > next => Err(Torn::Gap { name, found, next }),
            Some(found) => {
                self.next = found.saturating_add(1);
                Ok(())
            }
            None if T::WHOLE && next < end => Err(Torn::End { name, next, end }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::{
        error::Error,
        model::{job::Reply, json::Json},
    };

    fn step(seq: u64) -> Step {
        Step { seq, hash: 0, reply: Reply::Value(Json::from_stored("1")) }
    }

    fn memo(number: u64) -> Memo {
        Memo { number, step: None, name: "name".into(), nth: number, value: Json::from_stored("1") }
    }

    /// The numbers that are read from these pages, and how the reading ends.
    fn read<T: Numbered>(pages: &[&[u64]], end: u64, made: fn(u64) -> T) -> (Vec<u64>, String) {
        let (sender, receiver) = mpsc::channel(9);
        for page in pages {
            sender.try_send(Ok(page.iter().copied().map(made).collect())).ok().unwrap();
        }
        let (mut recorded, mut numbers) = (Recorded::new(receiver, end), Vec::new());
        loop {
            match recorded.next().now_or_never().expect("all pages are there") {
                Ok(Some(one)) => numbers.push(one.number()),
                Ok(None) => return (numbers, "whole".to_owned()),
                Err(stopped) => return (numbers, stopped.to_string()),
            }
        }
    }

    #[test]
    fn steps_go_on_from_page_to_page() {
        assert_eq!(read(&[&[0, 1], &[2], &[]], 3, step), (vec![0, 1, 2], "whole".to_owned()));
    }

    #[test]
    fn a_step_that_is_missing_or_comes_again_is_an_error() {
        for (pages, read_before, text) in [
            (&[&[1, 2][..], &[]], 0, "step 1 came where step 0"),
            (&[&[0, 2], &[]], 1, "step 2 came where step 1"),
            (&[&[0, 1], &[1]], 2, "step 1 came where step 2"),
            (&[&[0, 1], &[3]], 2, "step 3 came where step 2"),
            (&[&[0, 1], &[]], 2, "it ends before step 2, and the job has 4"),
        ] {
            let (numbers, end) = read(pages, 4, step);
            assert!(numbers.len() == read_before && end.contains(text), "{pages:?}: {numbers:?}, {end}");
        }
    }

    #[test]
    fn memos_for_others_are_left_out_and_one_that_comes_again_is_an_error() {
        assert_eq!(read(&[&[1, 4], &[7], &[]], 9, memo), (vec![1, 4, 7], "whole".to_owned()));
        for (pages, text) in [
            (&[&[0, 1], &[1, 2]], "memo 1 came where memo 2 was expected"),
            (&[&[0, 3], &[2, 4]], "memo 2 came where memo 4 was expected"),
        ] {
            let (numbers, end) = read(pages.map(|page| &page[..]).as_slice(), 9, memo);
            assert!(numbers.len() == 2 && end.contains(text), "{pages:?}: {numbers:?}, {end}");
        }
    }

    #[test]
    fn a_page_that_cannot_be_read_is_an_error_and_the_end_of_the_runtime_is_none() {
        let (sender, receiver) = mpsc::channel::<Result<Vec<Step>>>(1);
        let mut recorded = Recorded::new(receiver, 1);
        sender.try_send(Err(Error::Misuse("no page"))).ok().unwrap();
        assert!(
            matches!(recorded.next().now_or_never(), Some(Err(Stopped::Error(error))) if error.to_string() == "no page")
        );
        drop(sender);
        assert!(matches!(recorded.next().now_or_never(), Some(Err(Stopped::Released))));
    }
}
