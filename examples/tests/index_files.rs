//! Indexes a tree of 10,000 files, or of fewer in the short form, with all that file systems allow in it, and compares with `sha256sum`.

#![cfg(target_os = "linux")]

use std::{
    collections::{HashMap, HashSet},
    ffi::{OsStr, OsString},
    fs::{self, Permissions},
    io::{BufRead as _, BufReader},
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::{PermissionsExt as _, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use qtasks_tests::length::by_length;
use tempfile::TempDir;

/// How many files there are.
fn how_many() -> usize {
    by_length(2_000, 10_000)
}

#[test]
fn the_table_agrees_with_sha256sum_line_for_line() {
    let tree = Tree::grow();
    let (locked, locked_folder) = (tree.root.join("locked"), tree.root.join("locked folder"));
    fs::write(&locked, "secret").unwrap();
    fs::create_dir(&locked_folder).unwrap();
    fs::write(locked_folder.join("inside"), "secret too").unwrap();
    set_mode(&locked, 0o000);
    set_mode(&locked_folder, 0o000);

    let printed = tree.index();
    let skipped: Vec<_> = printed.iter().filter(|line| line.starts_with("skipped ")).collect();
    assert!(skipped[0].ends_with("locked\": Permission denied (os error 13)"), "{skipped:?}");
    assert!(skipped[1].ends_with("locked folder\": Permission denied (os error 13)"), "{skipped:?}");
    assert!(skipped[2].ends_with("File name too long (os error 36)"), "{skipped:?}");
    let bytes: u64 = tree.files.iter().map(|file| file.metadata().unwrap().len()).sum();
    let end = printed.last().unwrap();
    assert!(end.starts_with(&format!("{} files, {bytes} bytes, 3 skipped, ", how_many())), "{end}");
    tree.compare();

    // A second run sees the tree as it then is.
    set_mode(&locked, 0o644);
    set_mode(&locked_folder, 0o755);
    let mut tree = tree;
    tree.files.extend([locked, locked_folder.join("inside")]);
    fs::remove_file(tree.files.remove(7)).unwrap();
    fs::write(&tree.files[8], "changed").unwrap();
    // Killed half way, and started again, it goes on with the same job.
    let mut killed = tree.example().arg(&tree.root).stdout(Stdio::piped()).spawn().unwrap();
    let first = BufReader::new(killed.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(first.starts_with("1000 files, "), "{first}");

    let printed = tree.index();
    assert!(printed[0].starts_with("going on with job "), "{}", printed[0]);
    let end = printed.last().unwrap();
    assert!(end.starts_with(&format!("{} files, ", how_many() + 1)), "{end}");
    tree.compare();
}

/// The loop of the document on tests.
#[test]
fn fifty_kills_leave_every_hash_right_and_hash_nothing_again_that_is_recorded() {
    let tree = Tree::grow();
    let document = include_str!("../../docs/testing.md");
    let block = document.split("```sh").find(|block| block.contains("kill -9")).expect("the document has the loop");
    let (_names, script) = block.split_once("for kill in").expect("names first, then the loop");
    let script = script.split("```").next().unwrap().replace("seq 50", by_length("seq 5", "seq 50"));
    let mut shell = tree.user("sh");
    shell.env("program", tree.program()).env("folder", &tree.root).current_dir(tree.shared());
    let output = shell.arg("-c").arg(format!("for kill in{script}")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let end = format!("\n{} files, ", how_many());
    assert!(said.contains(&end) && said.ends_with("every hash is right\n"), "{said}{output:?}");
    tree.compare();

    let (mut recorded, mut starts, mut hashed) = (HashMap::new(), 0, HashSet::new());
    let log = fs::read_to_string(tree.shared().join("files.log")).unwrap();
    for line in log.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let (job, number): (&str, u64) = (words[1], words[2].parse().unwrap());
        if words[0] == "recorded" {
            starts += 1;
            recorded.insert(job, number);
        } else {
            assert!(recorded.get(job).is_none_or(|recorded| *recorded <= number), "{line}");
            hashed.insert((job, number));
        }
    }
    let hashings = log.lines().count() - starts;
    println!("{starts} times gone on; of {hashings} files hashed, {} again in flight", hashings - hashed.len());
    assert!(starts > 0 && hashed.len() >= how_many());
}

struct Tree {
    folder: TempDir,
    root: PathBuf,
    /// Regular files that can be read.
    files: Vec<PathBuf>,
}

impl Tree {
    fn grow() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        let mut files = Vec::with_capacity(how_many());
        for number in 0..how_many() {
            let branch = number / 100;
            let parent = root.join(format!("branch {}", branch % 10)).join(format!("{branch}"));
            if number % 100 == 0 {
                fs::create_dir_all(&parent).unwrap();
            }
            let file = parent.join(name(number));
            fs::write(&file, contents(number)).unwrap();
            files.push(file);
        }
        let tree = Self { folder, root, files };
        tree.add_what_is_no_file();
        tree.add_what_nobody_can_open();
        tree
    }

    fn add_what_is_no_file(&self) {
        symlink(&self.files[0], self.root.join("a link")).unwrap();
        symlink(&self.root, self.root.join("a link to the root")).unwrap();
        symlink("nowhere", self.root.join("a dangling link")).unwrap();
        UnixListener::bind(self.root.join("a socket")).unwrap();
        let fifo = Command::new("mkfifo").arg(self.root.join("a fifo")).status().unwrap();
        assert!(fifo.success());
        fs::create_dir(self.root.join("an empty folder")).unwrap();
    }

    /// A path that is longer than 4,096 bytes: no permission helps.
    fn add_what_nobody_can_open(&self) {
        let chain: PathBuf = std::iter::repeat_n("z".repeat(250), 12).collect();
        let (upper, lower) = (self.root.join(&chain), self.folder.path().join(&chain));
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(&lower).unwrap();
        fs::write(lower.join("deep"), "unreachable").unwrap();
        fs::rename(self.folder.path().join("z".repeat(250)), upper.join("lower")).unwrap();
    }

    /// Indexes the tree, and gives what was printed.
    fn index(&self) -> Vec<String> {
        let output = self.example().arg(&self.root).output().unwrap();
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
        out.lines().map(str::to_owned).collect()
    }

    fn compare(&self) {
        let listed = self.example().arg("--list").output().unwrap();
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        let mut files = self.files.clone();
        files.sort_by(|one, other| one.as_os_str().cmp(other.as_os_str()));
        let expected: Vec<u8> = files.chunks(1000).flat_map(sha256sum).collect();
        let lines = |text: &[u8]| text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
        for (listed, expected) in lines(&listed.stdout).iter().zip(lines(&expected)) {
            assert_eq!(OsStr::from_bytes(listed), OsStr::from_bytes(&expected));
        }
        assert_eq!(listed.stdout.len(), expected.len());
    }

    /// The example, on a database beside the tree.
    fn example(&self) -> Command {
        let mut command = self.user(self.program());
        command.arg("--db").arg(self.shared().join("files.db"));
        command
    }

    /// A program run by a user for whom permissions count.
    fn user(&self, program: impl AsRef<OsStr>) -> Command {
        match is_root(self.folder.path()) {
            false => Command::new(program),
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program);
                command
            }
        }
    }

    fn program(&self) -> PathBuf {
        self.shared().join("index_files")
    }

    /// A folder that belongs to everybody, with the example in it: the build folder may be out of reach for that user.
    fn shared(&self) -> PathBuf {
        let shared = self.folder.path().join("shared");
        if !shared.exists() {
            fs::create_dir(&shared).unwrap();
            fs::copy(built(), shared.join("index_files")).unwrap();
            set_mode(self.folder.path(), 0o755);
            set_mode(&shared, 0o777);
        }
        shared
    }
}

fn built() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).expect("a test stands in target/PROFILE/deps");
    profile.join("examples/index_files")
}

/// Whether this user can read what nobody may read.
fn is_root(folder: &Path) -> bool {
    let probe = folder.join("probe");
    fs::write(&probe, "").unwrap();
    set_mode(&probe, 0o000);
    let readable = fs::read(&probe).is_ok();
    fs::remove_file(probe).unwrap();
    readable
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn name(number: usize) -> OsString {
    let begin: &[u8] = match number % 10 {
        0 => b"plain",
        1 => b"with  spaces ",
        2 => b"'single' \"double\" `back`",
        3 => b"line\nfeed",
        4 => b"back\\slash",
        5 => b"not \xff\xfe UTF-8 \xc3",
        6 => "кириллица".as_bytes(),
        7 => b"-n --help *?[a] $HOME ;&|",
        8 => b" {\"Unix\":[1]} ",
        _ => b"\t\x01\x7f",
    };
    let mut name = begin.to_vec();
    name.extend(number.to_string().into_bytes());
    OsString::from_vec(name)
}

/// Nothing at all, a few bytes, and now and then more than one buffer of the reader.
fn contents(number: usize) -> Vec<u8> {
    let length = match number {
        number if number.is_multiple_of(7) => 0,
        number if number.is_multiple_of(1999) => 200_000 + number,
        number => number % 500,
    };
    (0..length).map(|byte| (byte * 31 + number) as u8).collect()
}

fn sha256sum(files: &[PathBuf]) -> Vec<u8> {
    let output = Command::new("sha256sum").args(files).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
