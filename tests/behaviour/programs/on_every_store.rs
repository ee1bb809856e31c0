//! The examples of the page print the same on every store, which they are told by `QTASKS_URL`.

use std::{
    collections::HashSet,
    path::PathBuf,
    process::{Command, Output},
};

use qtasks::{Budget, Find, job::StateKind, store};
use qtasks_tests::servers::{postgres::Postgres, redis::Redis};

/// With the end of what each prints.
const EXAMPLES: [(&str, &str); 4] = [
    ("yield_task", "[8, 9, 10, 11, 12]"),
    ("sync_generator", "[2, 4, 6, 8, 10]"),
    ("save_ids", r#"["user_0", "user_1", "user_2", "user_3", "user_4"]"#),
    ("notifications", "]"),
];

/// The program of an example, which `cargo test --workspace` has built.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).expect("a test stands in target/PROFILE/deps");
    let program = profile.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    let build = "cargo build -p qtasks-examples --examples --features redis,postgres";
    assert!(program.exists(), "{} is not built; `{build}` builds it", program.display());
    program
}

/// What an example prints, without the times and the ids of jobs that stand before what is logged.
fn printed(example: &str, url: Option<&str>) -> Vec<String> {
    let mut command = Command::new(program(example));
    match url {
        Some(url) => command.env("QTASKS_URL", url),
        None => command.env_remove("QTASKS_URL"),
    };
    let Output { status, stdout, stderr } = command.output().unwrap();
    let out = String::from_utf8(stdout).unwrap();
    assert!(status.success(), "{example} on {url:?}: {status}\n{out}\n{}", String::from_utf8_lossy(&stderr));
    let said = |line: &str| match line.split_once("INFO") {
        Some((_time, said)) => said.split_once("}: ").map_or(said, |(_job, said)| said).to_owned(),
        None => line.to_owned(),
    };
    out.lines().map(said).collect()
}

fn print_the_same_on(url: &str) {
    for (example, end) in EXAMPLES {
        let lines = printed(example, Some(url));
        assert_eq!(lines.last().unwrap(), end, "{example} on {url}");
        assert_eq!(lines, printed(example, None), "{example} on {url}");
    }
}

/// It is there that they had their jobs; then one process works and another one watches.
async fn share(url: &str) {
    let store = store::open(url).await.unwrap();
    let done = store.find(Find::default().state(StateKind::Done), None, Budget::jobs(100)).await.unwrap().jobs;
    let tasks: HashSet<_> = done.iter().map(|job| &job.call.task).collect();
    assert_eq!(tasks.len(), EXAMPLES.len());
    assert_eq!(printed("stream", Some(url)).last().unwrap(), "[1, 4, 9, 16, 25, 36, 49, 64, 81, 100]");
}

#[test]
fn in_memory() {
    print_the_same_on("memory:");
}

#[tokio::test]
async fn on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/jobs.db", folder.path().display());
    print_the_same_on(&url);
    share(&url).await;
}

#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
#[tokio::test]
async fn on_redis() {
    // Of one that forgets the store warns, and one of the examples prints what is logged.
    let server = Redis::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let url = server.url();
    print_the_same_on(&url);
    share(&url).await;
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn on_postgres() {
    let server = Postgres::start(&[]);
    let url = server.url();
    print_the_same_on(&url);
    share(&url).await;
}
