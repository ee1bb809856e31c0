//! Runs a program that is measured beside qtasks, on a store where nothing is yet.

use std::{ffi::OsString, process::Command};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use crate::target::Target;

pub(crate) fn run(target: &Target, program: &OsString, words: &[OsString]) -> anyhow::Result<()> {
    let folder = TempDir::with_prefix_in("qtasks-bench-", target.folder())?;
    let mut command = Command::new(program);
    command.args(words).env("QTASKS_BESIDE", target.address(folder.path()));
    let status = command.status().with_context(|| format!("{} does not start", program.display()))?;
    ensure!(status.success(), "{} ended with {status}", program.display());
    Ok(())
}
