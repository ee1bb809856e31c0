//! How jobs, steps, memos and attempts stand on the server: as bytes, with the highest byte of a number first.
//!
//! Of a job that waits for the first time there is one value, so that a million of them fit into memory:
//!
//! | from | bytes | the job, which changes only when it is moved before its first attempt |
//! | --- | --- | --- |
//! | 0 | 2 | rank: the priority turned round |
//! | 2 | 8 | when it was due first |
//! | 10 | 8 | when it was enqueued |
//! | 18 | 8 | time limit, or -1 |
//! | 26 | 2 | bytes of what few calls have (see `store::more`), the lowest byte first |
//! | 28 | 2 | bytes of the lane |
//! | 30 | | lane, what few calls have, arguments |
//!
//! The lane is queue and task: `7:default:send`. Once the job has been leased, cancelled or moved, a second value says how it
//! stands. A lease or a settlement sets this value as a whole, for many jobs at once:
//!
//! | from | bytes | how it stands |
//! | --- | --- | --- |
//! | 0 | 1 | state: 0 waiting, 1 running, 2 done, 3 dead, 4 cancelled |
//! | 1 | 1 | 1 for a suspect, and 2 more while it is liable |
//! | 2 | 4 | attempt |
//! | 6 | 16 | the worker, while it runs |
//! | 22 | 4 | failures before this attempt |
//! | 26 | 8 | when it is due, or has ended |
//! | 34 | 1 | what steps are collected into, or 255 |
//! | 35 | 4 | bytes of the attempt that it ended with |
//! | 39 | | what is known of it as a suspect, if it is one; that attempt, outcome, or the lane while it runs |
//!
//! What is known of a suspect is as follows. The script that leases it sets the last of these values and the flags above:
//!
//! | from | bytes | what is known of a suspect |
//! | --- | --- | --- |
//! | 0 | 8 | what it has survived |
//! | 8 | 4 | losses before this attempt |
//! | 12 | 8 | when it was leased, or the least number where that is not known or it does not run |
//!
//! When the job has steps, memos or progress, a third value holds its counts, which only recording changes:
//!
//! | from | bytes | its counts |
//! | --- | --- | --- |
//! | 0 | 4 | the attempt that recorded the last step: it has had no failures or losses since, and is not liable |
//! | 4 | 8 | steps |
//! | 12 | 8 | skipped steps |
//! | 20 | 8 | memos |
//! | 28 | 1 | 1 where there is progress |
//! | 29 | 16 | progress: done, total |
//!
//! How many jobs a lane has in a state stands in a hash, under the number of the state and the lane behind it:
//! `27:default:send` for those that are done. The scripts that change jobs change it too.

mod bytes;
mod codes;
mod conditions;
mod history;
mod job;
mod lane;
mod note;
mod settlement;
mod worker;

pub(super) use self::{
    bytes::job_id,
    codes::state_of_code,
    conditions::conditions,
    history::{attempt, is_skipped, memo, read_attempt, read_memo, read_step, step},
    job::{Parts, UP_TO_DUE, USUAL, job, jobs, lane_of, leased, new_job, rank, replacing_job, standing},
    lane::{lane, read_lane},
    note::{note, read_note},
    settlement::{destination, hold, settled, time_of},
    worker::{beat, lease, presence, read_lease},
};
pub(super) use crate::store::codec::{limit_millis, millis, time};
