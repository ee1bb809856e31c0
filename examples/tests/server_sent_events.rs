//! Reads the events of the example `server_sent_events` as a browser would, with its connection lost half way.

#![cfg(unix)]

use std::{
    io::{BufRead as _, BufReader, Lines, Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// The program, which `cargo test` has built beside this test.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).expect("a test stands in target/PROFILE/deps");
    let program = profile.join("examples/server_sent_events");
    assert!(program.exists(), "{} is not built; `cargo build --examples` builds it", program.display());
    program
}

/// A service of its own for each test.
struct Service {
    process: Child,
    // A program that prints to a pipe which is closed would fail.
    _output: Lines<BufReader<ChildStdout>>,
    address: String,
}

impl Service {
    fn start() -> Self {
        let mut process = Command::new(program())
            .arg("127.0.0.1:0")
            .env("QTASKS_URL", "memory:")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = output.next().unwrap().unwrap();
        let address = first.strip_prefix("listening on http://").expect(&first).to_owned();
        Self { process, _output: output, address }
    }

    fn request(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn answer(&self, request: &str) -> String {
        let mut text = String::new();
        self.request(request).read_to_string(&mut text).unwrap();
        text
    }

    /// Starts a job that counts, and gives its id.
    fn count(&self, to: u32, pause: u64) -> String {
        let body = format!("{{\"to\":{to},\"pause\":{pause}}}");
        let answer = self.answer(&format!(
            "POST /jobs HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        answer.rsplit("\r\n").next().unwrap().trim_matches('"').to_owned()
    }

    fn events(&self, job: &str, last: Option<u64>) -> Events {
        let last = last.map_or_else(String::new, |last| format!("Last-Event-ID: {last}\r\n"));
        let request = format!("GET /jobs/{job}/events HTTP/1.1\r\nHost: test\r\n{last}\r\n");
        Events { lines: BufReader::new(self.request(&request)).lines(), id: None }
    }

    /// Asks the program to stop, and gives how it ended.
    fn stop(mut self) -> ExitStatus {
        let killed = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let (ended, end) = mpsc::channel();
        thread::spawn(move || ended.send(self.process.wait().unwrap()));
        end.recv_timeout(PATIENCE).expect("the program stops")
    }
}

/// The events of a connection: each value with its id, up to the event `end` or the end of the connection.
struct Events {
    lines: Lines<BufReader<TcpStream>>,
    id: Option<u64>,
}

impl Iterator for Events {
    type Item = (u64, u32);

    fn next(&mut self) -> Option<(u64, u32)> {
        loop {
            let line = self.lines.next()?.ok()?;
            match line.trim_end().split_once(": ") {
                Some(("id", id)) => self.id = id.parse().ok(),
                Some(("data", value)) => return Some((self.id?, value.parse().ok()?)),
                Some(("event", "end")) => return None,
                _ => {}
            }
        }
    }
}

#[test]
fn a_browser_that_comes_back_gets_the_rest_without_a_gap_or_a_repeat() {
    let service = Service::start();
    let job = service.count(12, 5);
    let first: Vec<_> = service.events(&job, None).take(5).collect();
    let rest: Vec<_> = service.events(&job, first.last().map(|(id, _)| *id)).collect();
    let expected: Vec<_> = (0..12).zip(1..).collect();
    assert_eq!([first, rest].concat(), expected);
    let status = service.answer(&format!("GET /jobs/{job} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"));
    assert!(status.contains("\"task\":\"count\"") && status.contains("\"steps\":12"), "{status}");
    assert!(service.stop().success());
}

#[test]
fn an_open_stream_does_not_hold_up_the_shutdown() {
    let service = Service::start();
    let job = service.count(u32::MAX, 5);
    let mut events = service.events(&job, None);
    assert_eq!(events.next(), Some((0, 1)));
    assert!(service.stop().success());
    let more = events.map(|(id, _)| id).last();
    assert!(more < Some(1_000_000), "the connection is at its end");
}

#[test]
fn an_unknown_job_is_not_found() {
    let service = Service::start();
    let unknown = "01932b2e-7c5d-7b54-8f3c-0b7c6a2f9d10";
    let answer =
        service.answer(&format!("GET /jobs/{unknown}/events HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(service.stop().success());
}
