//! Workers that are killed, frozen and stopped by chance: the short form of what `--bin kills` does at length.

use std::process::{Command, Output};

use qtasks_tests::length::by_length;

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kills")).args(args).output().unwrap()
}

fn is_well(output: &Output) {
    let (said, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{}: {said}{complaints}", output.status);
}

fn kills(args: &[&str]) {
    is_well(&run(args));
}

/// Signals at workers of a store, with more arguments.
fn lose_nothing(store: &str, more: &[&str]) {
    let some = by_length(["4", "1", "500"], ["12", "3", "3000"]);
    kills(
        &[&["--store", store, "--fires", "--kills", some[0], "--seconds", some[1], "--values", some[2]], more].concat(),
    );
}

/// That another worker takes over in time; there is one job at a time, so that none waits for its turn, and whoever has it
/// is killed. A machine that does something else just then is late once; what never takes over in time is late each time.
fn goes_on(store: &str, within: &str) {
    const TOO_LATE: i32 = 3;
    let alone = ["--workers", "2", "--jobs", "1", "--values", by_length("100", "1000"), "--longest", "500"];
    let some = by_length(["3", "2"], ["3", "6"]);
    let args = [&["--store", store, "--within", within, "--kills", some[0], "--seconds", some[1]], &alone[..]].concat();
    let tries = (0..3).map(|_| run(&args));
    let mut in_time = tries.skip_while(|output| output.status.code() == Some(TOO_LATE));
    is_well(&in_time.next().expect("a job of a killed worker goes on in time, in one of three runs"));
}

/// The same with three workers whose clocks are ten seconds behind, right, and ten seconds ahead.
fn by_other_clocks(store: &str) {
    let clocks = ["--skew", "10", "--workers", "3", "--fires"];
    let some = by_length(["4", "1", "300"], ["8", "10", "3000"]);
    kills(&[&["--store", store, "--kills", some[0], "--seconds", some[1], "--values", some[2]], &clocks[..]].concat());
}

#[test]
fn kills_on_sqlite_lose_nothing_and_repeat_nothing_that_is_recorded() {
    lose_nothing("sqlite", &[]);
}

#[test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
fn kills_on_redis_lose_nothing_and_repeat_nothing_that_is_recorded() {
    lose_nothing("redis", &[]);
}

#[test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
fn the_job_of_a_killed_worker_goes_on_within_five_seconds_on_redis() {
    goes_on("redis", "5");
}

#[test]
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
fn kills_on_postgres_lose_nothing_and_repeat_nothing_that_is_recorded() {
    lose_nothing("postgres", &[]);
}

#[test]
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
fn the_job_of_a_killed_worker_goes_on_within_two_seconds_on_postgres() {
    goes_on("postgres", "2");
}

#[test]
fn what_is_written_in_transactions_is_there_exactly_once() {
    lose_nothing("sqlite", &["--transactional"]);
}

#[test]
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
fn what_is_written_in_transactions_of_postgres_is_there_exactly_once() {
    lose_nothing("postgres", &["--transactional"]);
}

#[test]
#[cfg_attr(missing = "shim", ignore = "clocks are shifted on Linux, where there is a C compiler")]
fn kills_of_workers_with_other_clocks_lose_nothing_on_sqlite() {
    by_other_clocks("sqlite");
}

#[test]
#[cfg_attr(missing = "shim", ignore = "clocks are shifted on Linux, where there is a C compiler")]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
fn kills_of_workers_with_other_clocks_lose_nothing_on_redis() {
    by_other_clocks("redis");
}

#[test]
#[cfg_attr(missing = "shim", ignore = "clocks are shifted on Linux, where there is a C compiler")]
#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
fn kills_of_workers_with_other_clocks_lose_nothing_on_postgres() {
    by_other_clocks("postgres");
}
