//! Postgres servers.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::{Server, carry_out, free_port, make_certificate};

/// How long a server may take to be there.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Postgres server, with a superuser `tests` whose password is `secret`.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    folder: PathBuf,
    /// Where it listens.
    pub port: u16,
}

/// The URL of a store of its own on the server that all tests of this process share, which forgets all with it.
pub fn url() -> String {
    shared().url()
}

/// The server that all tests of this process share.
pub fn shared() -> &'static Postgres {
    static SHARED: OnceLock<Postgres> = OnceLock::new();
    SHARED.get_or_init(|| Postgres::start(&["-c", "fsync=off"]))
}

impl Postgres {
    /// Starts a server with these arguments.
    ///
    /// # Panics
    ///
    /// When Postgres is not installed, or the server does not answer.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_on(arguments, |_| {})
    }

    /// Starts a server that encrypts connections, with a certificate that nobody knows: its `certificate()`.
    ///
    /// # Panics
    ///
    /// When Postgres or OpenSSL is not installed, or the server does not answer.
    pub fn start_encrypted() -> Self {
        Self::start_on(&["-c", "fsync=off", "-c", "ssl=on"], |data| {
            let mut command = unprivileged("openssl");
            command.extend(make_certificate("tests"));
            carry_out(&command, data);
        })
    }

    /// The certificate of an encrypted one.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("data/server.crt")
    }

    fn start_on(arguments: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let port = free_port();
        let mut place = PathBuf::new();
        let server = Server::start(|folder| {
            place = folder.to_owned();
            make_cluster(folder);
            prepare(&folder.join("data"));
            let own = [
                "-D".to_owned(),
                folder.join("data").display().to_string(),
                "-p".to_owned(),
                port.to_string(),
                "-clisten_addresses=127.0.0.1".to_owned(),
                "-cunix_socket_directories=".to_owned(),
                "-cmax_connections=300".to_owned(),
                // Shared memory of a server that is killed would stay; its folder goes.
                "-cdynamic_shared_memory_type=mmap".to_owned(),
            ];
            let arguments = arguments.iter().map(|&argument| argument.to_owned());
            unprivileged("postgres").into_iter().chain(own).chain(arguments).collect::<Vec<_>>()
        });
        let postgres = Self { server, folder: place, port };
        postgres.answers(0);
        postgres
    }

    /// The URL of a store of its own: in a schema that is not there yet.
    pub fn url(&self) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        format!("{}?schema=test_{}", self.database(), COUNT.fetch_add(1, Relaxed))
    }

    /// The URL of the database in which they are.
    pub fn database(&self) -> String {
        format!("postgres://tests:secret@127.0.0.1:{}/postgres", self.port)
    }

    /// The URL of a new database.
    pub fn new_database(&self) -> String {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("fresh_{}", COUNT.fetch_add(1, Relaxed));
        self.tell(&format!("CREATE DATABASE {name}")).expect("a database is made");
        format!("postgres://tests:secret@127.0.0.1:{}/{name}", self.port)
    }

    /// Tells it a statement, and gives what it answers, without decoration.
    ///
    /// # Errors
    ///
    /// What the server says when it refuses.
    pub fn tell(&self, sql: &str) -> Result<String, String> {
        tell(&self.database(), sql)
    }

    /// Kills it with SIGKILL.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Starts it again after its end, and waits until it answers.
    pub fn restart(&self) {
        let refusals = self.refusals();
        self.server.restart();
        self.answers(refusals);
    }

    /// Stops it with all its processes: they keep their connections and answer nobody.
    pub fn freeze(&self) {
        self.server.freeze();
        self.signal_children(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal_children(Signal::CONT);
        self.server.thaw();
    }

    /// Ends every connection, as an operator can.
    pub fn cut_all(&self) {
        const CUT: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
        self.tell(CUT).expect("connections are cut");
    }

    fn signal_children(&self, signal: Signal) {
        let file = fs::read_to_string(self.folder.join("data/postmaster.pid")).expect("the server runs");
        let server = file.lines().next().expect("the file begins with the process").trim().to_owned();
        for entry in fs::read_dir("/proc").expect("there is /proc").flatten() {
            let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            let is_child = status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|id| id.trim() == server));
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            if let Some(pid) = pid.filter(|_| is_child) {
                // It may just have ended.
                _ = kill_process(pid, signal);
            }
        }
    }

    /// How often it has refused to start since processes of one that was killed were not gone yet.
    fn refusals(&self) -> usize {
        self.server.log().matches("HINT:  Terminate any old").count()
    }

    /// Waits until it answers; it had refused so often before it was started.
    fn answers(&self, mut refusals: usize) {
        let end = Instant::now() + PATIENCE;
        while self.tell("SELECT 1").is_err() {
            assert!(Instant::now() < end, "Postgres does not answer\n{}", self.server.log());
            if self.refusals() > refusals {
                refusals = self.refusals();
                self.server.kill();
                self.server.restart();
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Tells the database at `url` a statement, and gives what it answers, without decoration.
///
/// # Errors
///
/// What the server says when it refuses.
pub fn tell(url: &str, sql: &str) -> Result<String, String> {
    let told = Command::new(program("psql")).args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql, url]).output();
    let told = told.map_err(|error| error.to_string())?;
    if told.status.success() {
        return Ok(String::from_utf8_lossy(&told.stdout).trim().to_owned());
    }
    Err(String::from_utf8_lossy(&told.stderr).trim().to_owned())
}

/// Makes the files of a server in `folder`: a copy of those that were made once for all tests, which is sooner there.
fn make_cluster(folder: &Path) {
    let template = template();
    if !template.exists() {
        let fresh = tempfile::tempdir().expect("a temporary folder can be made");
        initialize(fresh.path());
        let beside = tempfile::tempdir_in(env!("OUT_DIR")).expect("the build has a folder");
        copy(&fresh.path().join("data"), &beside.path().join("data"));
        // Another process may just have been sooner, with the same files.
        _ = fs::rename(beside.path().join("data"), &template);
    }
    give_away(&[folder]);
    copy(&template, &folder.join("data"));
}

/// Where the files stand that are copied: of one version of Postgres and one user.
fn template() -> PathBuf {
    let version = Command::new(program("initdb")).arg("--version").output().expect("Postgres is installed");
    let version = String::from_utf8_lossy(&version.stdout).replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    Path::new(env!("OUT_DIR")).join(format!("{version}{}-small", geteuid().as_raw()))
}

/// Copies a folder with all that is in it, and whose it is.
fn copy(from: &Path, to: &Path) {
    carry_out(&["cp".into(), "-a".into(), from.display().to_string(), to.display().to_string()], Path::new("/"));
}

/// Has Postgres make the files of a server in `folder`.
fn initialize(folder: &Path) {
    let password = folder.join("password");
    fs::write(&password, "secret").expect("a file is written");
    give_away(&[folder, &password]);
    let mut command = unprivileged("initdb");
    // Small segments, for each server has a copy of them.
    let options = ["--auth=scram-sha-256", "--username=tests", "--encoding=UTF8", "--locale=C", "--no-sync"];
    command.extend(options.into_iter().chain(["--wal-segsize=1"]).map(str::to_owned));
    command.extend([
        format!("--pwfile={}", password.display()),
        "-D".to_owned(),
        folder.join("data").display().to_string(),
    ]);
    carry_out(&command, folder);
}

/// Gives files to who runs the server.
pub(super) fn give_away(paths: &[&Path]) {
    if let Some((user, group)) = unprivileged_user() {
        for path in paths {
            chown(path, Some(user), Some(group)).expect("a file is given away");
        }
    }
}

/// The command of one of its programs, which refuse to be run as root.
pub(super) fn unprivileged(name: &str) -> Vec<String> {
    let program = program(name).display().to_string();
    match unprivileged_user() {
        None => vec![program],
        Some((user, group)) => vec![
            "setpriv".to_owned(),
            format!("--reuid={user}"),
            format!("--regid={group}"),
            "--clear-groups".to_owned(),
            program,
        ],
    }
}

/// Who runs the server in place of root: its own user, or one that owns nothing.
fn unprivileged_user() -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |name: &str| {
        let fields: Vec<_> =
            users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|line| line[0] == name)?;
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    Some(find("postgres").or_else(|| find("nobody")).unwrap_or((65_534, 65_534)))
}

/// Where a program of Postgres is: the newest, where there are several.
fn program(name: &str) -> PathBuf {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = installed.map(|version| version.path().join("bin").join(name)).collect();
    found.retain(|program| program.is_file());
    found.sort();
    // Programs for operators stand where not everybody looks for them.
    found.extend(Some(Path::new("/usr/sbin").join(name)).filter(|program| program.is_file()));
    found.pop().unwrap_or_else(|| name.into())
}
