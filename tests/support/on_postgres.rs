//! Runs a command beside a Postgres server that ends with it; `QTASKS_POSTGRES` is the URL of a database there.

use std::{
    env,
    process::{Command, ExitCode},
};

use qtasks_tests::servers::postgres::shared;

fn main() -> ExitCode {
    let mut words = env::args_os().skip(1);
    let mut command = Command::new(words.next().expect("a command follows"));
    let status = command.args(words).env("QTASKS_POSTGRES", shared().new_database()).status();
    if status.expect("the command starts").success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
