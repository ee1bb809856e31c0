//! What a program did to its files, read from what `strace` wrote down.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::disk::{Change, Disk, Moment};

/// All calls by which a file can be changed. Those that the model knows nothing of make the test fail.
const CALLS: &str = "trace=openat,creat,write,writev,pwrite64,pwritev,pwritev2,ftruncate,truncate,fallocate,fdatasync,\
                     fsync,sync_file_range,unlink,unlinkat,rename,renameat,renameat2,link,linkat,copy_file_range,sendfile";

/// The changes that a program made to a database, and what it wrote down meanwhile, in one order.
pub(crate) struct Trace {
    pub(crate) disk: Disk,
    /// Lines, each with the moment in which it was written.
    pub(crate) lines: Vec<(Moment, String)>,
    /// The moment after the last.
    pub(crate) end: Moment,
}

/// Whether programs can be traced here; if not, why.
pub(crate) fn possible() -> Result<(), String> {
    let tried = Command::new("strace").args(["-f", "--seccomp-bpf", "-o", "/dev/null", "true"]).output();
    match tried {
        Err(error) => Err(format!("strace cannot be started: {error}")),
        Ok(output) if !output.status.success() => {
            Err(format!("strace may not trace: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Ok(_) => Ok(()),
    }
}

/// Runs `program`, and traces what it does to the files of the database at `database` and to the file at `lines`.
pub(crate) fn record(program: &mut Command, database: &Path, lines: &Path) -> Trace {
    let trace = database.with_extension("trace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "--seccomp-bpf", "-xx", "-y", "-s", "100000000", "-e", "signal=none", "-e", CALLS, "-o"]);
    strace.arg(&trace).arg(program.get_program()).args(program.get_args());
    let output = strace.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut reader = Reader {
        database: database.to_owned(),
        acks: lines.to_owned(),
        begun: HashMap::new(),
        disk: Disk::default(),
        lines: Vec::new(),
    };
    let text = fs::read_to_string(&trace).unwrap();
    let mut end = 0;
    for (moment, line) in text.lines().enumerate() {
        reader.read(moment, line);
        end = moment + 1;
    }
    Trace { disk: reader.disk, lines: reader.lines, end }
}

struct Reader {
    database: PathBuf,
    acks: PathBuf,
    /// Calls that have not returned, by thread: when they began, and their line up to there.
    begun: HashMap<String, (Moment, String)>,
    disk: Disk,
    lines: Vec<(Moment, String)>,
}

impl Reader {
    /// Reads a line: a call, the beginning of one, the end of one, or something else.
    fn read(&mut self, moment: Moment, line: &str) {
        let (thread, rest) = line.split_once(' ').expect("a line begins with the thread");
        let rest = rest.trim_start();
        if let Some(beginning) = rest.strip_suffix(" <unfinished ...>") {
            self.begun.insert(thread.to_owned(), (moment, beginning.to_owned()));
        } else if rest.starts_with("<... ") {
            let (_, end) = rest.split_once("resumed>").expect("the end of a call says so");
            let (begun, beginning) = self.begun.remove(thread).expect("what ends has begun");
            self.call(begun, moment, &(beginning + end));
        } else if !rest.starts_with("+++") && !rest.starts_with("---") {
            self.call(moment, moment, rest);
        }
    }

    fn call(&mut self, begun: Moment, done: Moment, call: &str) {
        let (name, rest) = call.split_once('(').expect("a call has arguments");
        let (arguments, answer) = rest.rsplit_once(" = ").expect("a call has an answer");
        // One that the end of the program cut short says `?`.
        let answer: i64 =
            answer.split(|c: char| c != '-' && !c.is_ascii_digit()).next().unwrap_or("").parse().unwrap_or(-1);
        let arguments = arguments.trim_end().trim_end_matches(')');
        let mut paths = paths(arguments);
        let Some(path) = paths.pop() else { return };
        if name == "write" && path == self.acks {
            let line = String::from_utf8(data(arguments)).expect("the lines are text");
            self.lines.push((begun, line.trim_end().to_owned()));
            return;
        }
        if path == self.database.parent().expect("a file is in a folder") {
            if name == "fdatasync" || name == "fsync" {
                self.disk.folder_synced(begun, done);
            }
            return;
        }
        let Some(file) = self.file(&path).filter(|_| answer >= 0) else { return };
        let number = |place: usize| -> u64 {
            let number = arguments.rsplit(", ").nth(place).and_then(|number| number.parse().ok());
            number.expect("the last arguments of this call are numbers")
        };
        match name {
            "openat" if arguments.contains("O_CREAT") => self.disk.opened(&file, begun, done),
            "openat" => {}
            "pwrite64" => {
                let data = data(arguments);
                assert_eq!(answer as usize, data.len(), "a write that was cut short is not modelled");
                self.disk.changed(&file, begun, done, Change::Write { at: number(0) as usize, data });
            }
            "ftruncate" => self.disk.changed(&file, begun, done, Change::Length(number(0) as usize)),
            "fdatasync" | "fsync" => self.disk.synced(&file, begun, done),
            "unlink" => self.disk.unlinked(&file, begun, done),
            other => panic!("`{other}` on the files of the database is not modelled"),
        }
    }

    /// The end of a file's name, where it belongs to the database and does not only live in memory.
    fn file(&self, path: &Path) -> Option<String> {
        let end = path.to_str()?.strip_prefix(self.database.to_str()?)?;
        ["", "-wal", "-journal"].contains(&end).then(|| end.to_owned())
    }
}

/// The paths in the arguments, the one that the call is about as the last.
fn paths(arguments: &str) -> Vec<PathBuf> {
    let text = |hex: &str| String::from_utf8(unhex(hex)).ok().map(PathBuf::from);
    let of_descriptor = arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    let quoted = arguments.split_once('"').and_then(|(_, rest)| rest.split_once('"'));
    match (of_descriptor, quoted) {
        // A descriptor, and what is written to it; or the folder that a path starts from.
        (Some((of, _)), Some((path, _))) => {
            let is_open = arguments.starts_with("AT_FDCWD");
            text(if is_open { path } else { of }).into_iter().collect()
        }
        (Some((of, _)), None) => text(of).into_iter().collect(),
        (None, Some((path, _))) => text(path).into_iter().collect(),
        (None, None) => Vec::new(),
    }
}

/// What is written.
fn data(arguments: &str) -> Vec<u8> {
    let (_, rest) = arguments.split_once('"').expect("data is quoted");
    let (hex, rest) = rest.split_once('"').expect("data is quoted");
    assert!(!rest.starts_with("..."), "the trace holds all data");
    unhex(hex)
}

/// The bytes of `\x71\x74`.
fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).expect("strace was told to write hex digits") as u8;
    text.as_bytes().chunks_exact(4).map(|byte| digit(byte[2]) << 4 | digit(byte[3])).collect()
}
