//! Other processes that take part in what a row measures: this program again, told to play that row's part.

use std::{env, process::Stdio};

use anyhow::Context as _;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// A process that plays a part; it is killed when this is dropped.
pub(crate) struct Part {
    process: Child,
    words: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Part {
    /// Starts the part of the row of this name, with what it is to know.
    pub(crate) fn start(row: &str, knowing: &[String]) -> anyhow::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["--part", row]).args(knowing).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn()?;
        let words = process.stdin.take().context("it has an input")?;
        let lines = BufReader::new(process.stdout.take().context("it has an output")?).lines();
        Ok(Self { process, words, lines })
    }

    /// The next line that it prints.
    pub(crate) async fn line(&mut self) -> anyhow::Result<String> {
        self.lines.next_line().await?.context("a part ended early; what it said stands above")
    }

    /// Lets it go on that [waits](wait) for it.
    pub(crate) async fn go_on(&mut self) -> anyhow::Result<()> {
        Ok(self.words.write_all(b"\n").await?)
    }

    /// Sends it a SIGKILL.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.process.start_kill()?)
    }
}

/// In a part: waits until the process that has started it lets it go on.
pub(crate) async fn wait() -> anyhow::Result<()> {
    let line = tokio::task::spawn_blocking(|| std::io::stdin().lines().next()).await?;
    line.context("the process that has started it is gone")??;
    Ok(())
}
