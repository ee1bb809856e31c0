//! Parts of a test that are played by a process of its own: as a user with few rights, or where something else is mounted.

use std::{
    env,
    path::Path,
    process::{Command, ExitCode, Output},
};

use libtest_mimic::{Completion, Trial};
use qtasks::prelude::*;

use crate::{places, volume};

const ROLE: &str = "QTASKS_ROLE";

/// Whether this process plays a part.
pub(crate) fn is_one() -> bool {
    env::var_os(ROLE).is_some()
}

/// Plays the part that this process was started for.
pub(crate) fn play() -> ExitCode {
    let (role, at) = (env::var(ROLE).expect("it is text"), env::args_os().nth(1).expect("a place is given"));
    let at = Path::new(&at);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("there is a runtime").block_on(async {
        match &*role {
            "nothing" => {}
            "open" => places::open(at).await,
            "start" => places::start(at).await,
            "fill" => volume::fill(at).await,
            "drain" => volume::drain(at).await,
            "crowd" => volume::crowd(at).await,
            _ => panic!("what is `{role}`?"),
        }
    });
    ExitCode::SUCCESS
}

/// Who plays a part, and where.
#[derive(Clone, Copy)]
pub(crate) enum Cast {
    /// A process like this one.
    Anybody,
    /// A user whom rights bind.
    Nobody,
    /// Somebody who has had this script do something to the mounts, which no other process sees; `$1` is the place.
    Mounting(&'static str),
}

impl Cast {
    fn command(self) -> Command {
        let program = env::current_exe().expect("it is known");
        match self {
            Self::Anybody => Command::new(program),
            Self::Nobody if !rustix::process::geteuid().is_root() => Command::new(program),
            Self::Nobody => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
                command
            }
            Self::Mounting(script) => {
                let mut command = Command::new("unshare");
                let script = format!("program=$1; shift; set -e; {script}\nexec \"$program\" \"$1\"");
                command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]).arg(program);
                command
            }
        }
    }

    fn output(self, role: &str, at: &Path) -> std::io::Result<Output> {
        self.command().arg(at).env(ROLE, role).output()
    }

    /// Why this cannot be played here.
    fn missing(self) -> Option<String> {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let cast = match self {
            Self::Anybody | Self::Nobody => self,
            Self::Mounting(_) => Self::Mounting("mount -t tmpfs none \"$1\""),
        };
        match cast.output("nothing", folder.path()) {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Has the part played, and gives what was printed.
    pub(crate) fn play(self, role: &str, at: &Path) -> String {
        let output = self.output(role, at).expect("a process is started");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }
}

/// A test that is ignored where its parts cannot be played.
pub(crate) fn trial(cast: Cast, name: &'static str, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || match cast.missing() {
        Some(why) => Ok(Completion::ignored_with(format!("it needs other rights or mounts: {why}"))),
        None => {
            test();
            Ok(Completion::Completed)
        }
    })
}

/// An application on the database in a folder.
pub(crate) async fn app(folder: &Path) -> qtasks::Result<QueueTasks> {
    // A full disk is not waited out for long.
    QueueTasks::open(&format!("sqlite:{}?busy=1", folder.join("jobs.db").display())).await
}
