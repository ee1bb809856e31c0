//! Runs the examples as a user would, and reads what they print.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use rusqlite::Connection;

/// The program of an example, which `cargo test` has built beside this test.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).expect("a test stands in target/PROFILE/deps");
    let program = profile.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.exists(), "{} is not built; `cargo build --examples` builds it", program.display());
    program
}

/// The lines that an example prints.
fn run(name: &str, args: &[&str]) -> Vec<String> {
    // An empty folder to work in, which must stay empty.
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(program(name)).args(args).current_dir(&folder).output().unwrap();
    assert_eq!(folder.path().read_dir().unwrap().count(), 0, "{name} leaves something in the working folder");
    lines(output)
}

fn lines(output: Output) -> Vec<String> {
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out.lines().map(str::to_owned).collect()
}

#[test]
fn yield_task_gives_the_result_of_the_page() {
    let handled = (6..=10).map(|value| format!("Обработан: {value}"));
    let expected: Vec<_> = handled.chain(["[8, 9, 10, 11, 12]".to_owned()]).collect();
    assert_eq!(run("yield_task", &[]), expected);
}

#[test]
fn sync_generator_gives_the_result_of_the_page() {
    let handled = (1..=5).map(|value| format!("SYNC: {value}"));
    let expected: Vec<_> = handled.chain(["[2, 4, 6, 8, 10]".to_owned()]).collect();
    assert_eq!(run("sync_generator", &[]), expected);
}

#[test]
fn save_ids_gives_what_then_stands_in_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let users = ["user_0", "user_1", "user_2", "user_3", "user_4"];
    // Twice: the second time all rows are there already.
    for _ in 0..2 {
        let printed = run("save_ids", &[path.to_str().unwrap()]);
        assert_eq!(printed.last(), Some(&format!("{users:?}")));
    }
    let database = Connection::open(path).unwrap();
    let mut rows = database.prepare("SELECT value FROM users ORDER BY value").unwrap();
    let rows: Vec<String> = rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows, users);
}

#[test]
fn save_ids_once_inserts_each_value_of_a_job_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let users = ["user_0", "user_1", "user_2", "user_3", "user_4"];
    // The second job inserts its own.
    for _ in 0..2 {
        let printed = run("save_ids_once", &[path.to_str().unwrap()]);
        let saved = users.map(|user| format!("saved: {user}"));
        assert_eq!(printed, [&saved[..], &[format!("{users:?}")]].concat());
    }
    let database = Connection::open(path).unwrap();
    let mut rows = database.prepare("SELECT value FROM users ORDER BY rowid").unwrap();
    let rows: Vec<String> = rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows, [users, users].concat());
}

#[test]
fn save_ids_leaves_nothing_behind_without_a_path() {
    let printed = run("save_ids", &[]);
    assert_eq!(printed[0], "saved: user_0");
}

#[test]
fn notifications_go_to_every_employee_in_the_file() {
    let printed = run("notifications", &[]);
    let emails = ["anna@example.com", "boris@example.com", "vera@example.com", "gleb@example.com"];
    for (line, email) in printed.iter().zip(emails) {
        assert!(line.ends_with(&format!("Отправлено: Отправлено уведомление: {email}")), "{line}");
    }
    let result = emails.map(|email| format!("    \"Отправлено уведомление: {email}\","));
    assert_eq!(printed[emails.len()], "[");
    assert_eq!(printed[emails.len() + 1..][..emails.len()], result);
}

#[test]
fn stream_shows_values_of_another_process_before_the_job_has_ended() {
    let printed = run("stream", &[]);
    let position = |end: &str| printed.iter().position(|line| line.ends_with(end)).unwrap();
    let process = |line: &str| line.split(']').next().unwrap().to_owned();

    assert_eq!(printed.last().unwrap(), "[1, 4, 9, 16, 25, 36, 49, 64, 81, 100]");
    assert!(position("sees 1") < position("works on 10"), "{printed:#?}");
    assert_ne!(process(&printed[position("sees 1")]), process(&printed[position("works on 1")]));
}

#[test]
fn log_store_finds_the_jobs_of_an_earlier_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.log");
    for jobs in 1..=2 {
        let printed = run("log_store", &[path.to_str().unwrap()]);
        assert_eq!(printed, ["[1, 4, 9, 16, 25]".to_owned(), format!("jobs in the log: {jobs}")]);
    }
}
