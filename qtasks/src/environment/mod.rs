//! What every part of an application shares.

pub(crate) mod outage;
pub(crate) mod suspects;
