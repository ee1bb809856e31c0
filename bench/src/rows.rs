//! The rows of the table, in its order: one file each.

mod drive;
mod run;

#[cfg(feature = "sqlite")]
mod cursor;
#[cfg(feature = "sqlite")]
mod enqueue;
#[cfg(feature = "sqlite")]
mod generator;
#[cfg(feature = "sqlite")]
mod idle;
#[cfg(feature = "sqlite")]
mod jobs;
#[cfg(feature = "sqlite")]
pub(crate) mod kill;
#[cfg(feature = "sqlite")]
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod queued;
#[cfg(feature = "sqlite")]
mod raw;
#[cfg(feature = "sqlite")]
mod replay;
#[cfg(feature = "sqlite")]
mod start;
#[cfg(feature = "sqlite")]
mod steps;
#[cfg(feature = "sqlite")]
pub(crate) mod watch;

use crate::row::Row;

pub(crate) const ROWS: &[Row] = &[
    run::ROW,
    drive::ROW,
    #[cfg(feature = "sqlite")]
    enqueue::ROW,
    #[cfg(feature = "sqlite")]
    jobs::ROW,
    #[cfg(feature = "sqlite")]
    steps::ROW,
    #[cfg(feature = "sqlite")]
    generator::ROW,
    #[cfg(feature = "sqlite")]
    replay::ROW,
    #[cfg(feature = "sqlite")]
    cursor::ROW,
    #[cfg(feature = "sqlite")]
    kill::ROW,
    #[cfg(feature = "sqlite")]
    start::ROW,
    #[cfg(feature = "sqlite")]
    watch::HERE,
    #[cfg(feature = "sqlite")]
    watch::ELSEWHERE,
    #[cfg(feature = "sqlite")]
    queued::ROW,
    #[cfg(feature = "sqlite")]
    idle::ROW,
    #[cfg(feature = "sqlite")]
    memory::ROW,
    #[cfg(feature = "postgres")]
    postgres::JOBS,
    #[cfg(feature = "postgres")]
    postgres::STEPS,
    #[cfg(feature = "postgres")]
    postgres::START,
    #[cfg(feature = "postgres")]
    postgres::HELD,
];
