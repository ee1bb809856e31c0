//! Other processes that take part in what a row measures: this program again, told to play that row's part.

use std::{env, process::Stdio};

use anyhow::Context as _;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// A process that plays a part; it is killed when this is dropped.
pub(crate) struct Part {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Part {
    /// Starts the part of the row of this name, with what it is to know.
    pub(crate) fn start(row: &str, knowing: &[String]) -> anyhow::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["--part", row]).args(knowing).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn()?;
        let lines = BufReader::new(process.stdout.take().context("it has an output")?).lines();
        Ok(Self { process, lines })
    }

    /// The next line that it prints.
    pub(crate) async fn line(&mut self) -> anyhow::Result<String> {
        self.lines.next_line().await?.context("a part ended early; what it said stands above")
    }

    /// Sends it a SIGKILL.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.process.start_kill()?)
    }
}
