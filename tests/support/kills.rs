//! What is known of worker processes that bad things happen to: what they did, by ledgers of their own, and what that says
//! against what was promised.

pub mod check;
pub mod ledger;
pub mod process;
