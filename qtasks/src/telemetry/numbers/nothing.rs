//! Counts and times nothing.

use super::event::Event;

pub(super) const IS_ON: bool = false;

#[inline]
pub(super) fn note(_event: &Event<'_>) {}
