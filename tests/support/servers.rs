//! Servers of the tests' own: each on a free port and in a temporary folder, to be killed, frozen and started again.
//!
//! A shell keeps watch over each: when the process that runs the tests ends, in whatever way, it kills the server and
//! deletes the folder. A test that needs a server says so, for then it shows as ignored where there is none:
//! `#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]`.

pub mod pgbouncer;
pub mod postgres;
pub mod proxy;
pub mod redis;

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// Does what it is told line by line, and ends the server when there are no more lines. `$1` is the folder, the rest the
/// server.
const WATCH: &str = r#"
trap '' INT TERM HUP
folder=$1
shift
while read -r word; do
    case $word in
        start) "$@" < /dev/null >> "$folder/log" 2>&1 & server=$! ;;
        kill) kill -KILL "$server"; wait "$server" ;;
        end) kill -TERM "$server"; wait "$server" ;;
        freeze) kill -STOP "$server" ;;
        thaw) kill -CONT "$server" ;;
    esac
    echo "$word"
done
kill -KILL "$server"
wait "$server"
rm -rf "$folder"
"#;

/// A server that ends with this, or with the process.
#[derive(Debug)]
pub struct Server {
    folder: PathBuf,
    watch: Mutex<Watch>,
}

#[derive(Debug)]
struct Watch {
    words: Option<ChildStdin>,
    done: BufReader<ChildStdout>,
    shell: Child,
}

impl Server {
    /// Starts what `command` makes of the server's folder.
    pub fn start<A: AsRef<OsStr>>(command: impl FnOnce(&Path) -> Vec<A>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made").keep();
        let mut shell = Command::new("sh");
        shell.args(["-c", WATCH, "sh"]).arg(&folder).args(command(&folder));
        let mut shell =
            shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("there is a shell");
        let (words, done) = (shell.stdin.take(), shell.stdout.take().expect("it is piped"));
        let server = Self { folder, watch: Mutex::new(Watch { words, done: BufReader::new(done), shell }) };
        server.tell("start");
        server
    }

    /// Starts it again, on the same port and with the same files.
    pub fn restart(&self) {
        self.tell("start");
    }

    /// Kills it with SIGKILL.
    pub fn kill(&self) {
        self.tell("kill");
    }

    /// Ends it as its operator would.
    pub fn end(&self) {
        self.tell("end");
    }

    /// Stops it: it keeps its connections and answers nobody.
    pub fn freeze(&self) {
        self.tell("freeze");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.tell("thaw");
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it has written to its output.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn tell(&self, word: &str) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = String::new();
        writeln!(watch.words.as_mut().expect("it is told until it is dropped"), "{word}").expect("the shell lives");
        watch.done.read_line(&mut done).expect("the shell answers");
        assert_eq!(done.trim_end(), word);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let watch = self.watch.get_mut().unwrap_or_else(PoisonError::into_inner);
        watch.words = None;
        _ = watch.shell.wait();
    }
}

/// A port of the loopback interface that no program listens to. This function gives each port once in a process: a server that is
/// down for a while keeps its own.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    // Below those that the system gives to clients: one of them could have it before the server is there.
    loop {
        let port = fastrand::u16(20_000..32_000);
        let is_new = GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
        if is_new && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// What OpenSSL is told to make a certificate for 127.0.0.1 that nobody vouches for: `server.crt`, with `server.key`.
fn make_certificate(name: &str) -> Vec<String> {
    let kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let of = ["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=IP:127.0.0.1", "-addext"];
    let files = ["basicConstraints=critical,CA:FALSE", "-keyout", "server.key", "-out", "server.crt"];
    kind.into_iter().chain(of).chain(files).map(str::to_owned).collect()
}

/// Has a command do something in `folder` that must succeed.
fn carry_out(command: &[String], folder: &Path) {
    let done = Command::new(&command[0]).args(&command[1..]).current_dir(folder).output();
    let done = done.unwrap_or_else(|error| panic!("{command:?}: {error}; is it installed?"));
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}
