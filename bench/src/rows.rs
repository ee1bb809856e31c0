//! The rows of the table, in its order: one file each.

mod cursor;
mod drain;
mod drive;
mod enqueue;
mod footprint;
mod generator;
mod held;
mod idle;
mod jobs;
pub(crate) mod kill;
mod look;
mod memory;
mod queued;
mod raw;
mod replay;
mod resident;
mod run;
mod size;
mod start;
mod steps;
mod tick;
pub(crate) mod watch;
mod workers;

use crate::row::Row;

pub(crate) const ROWS: &[Row] = &[
    run::ROW,
    drive::ROW,
    enqueue::ROW,
    jobs::ROW,
    drain::FEW,
    drain::MANY,
    drain::DEEP,
    drain::MILLION,
    workers::TWO,
    workers::FOUR,
    workers::SHARES_OF_TWO,
    workers::SHARES_OF_FOUR,
    steps::ROW,
    generator::ROW,
    replay::ROW,
    cursor::ROW,
    kill::ROW,
    start::ROW,
    tick::ROW,
    watch::HERE,
    watch::ELSEWHERE,
    queued::ROW,
    look::COUNTS,
    look::PAGE,
    look::SEARCH,
    idle::ROW,
    memory::ROW,
    size::JOB,
    size::STEP,
    resident::JOB,
    resident::BODY,
    held::ROW,
    footprint::LOG,
    footprint::DEAD,
    footprint::GROWTH,
    footprint::OLD_SNAPSHOT,
];
