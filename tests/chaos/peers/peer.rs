//! A worker process that is told line by line what else to do, and answers each line with one of its own: what befalls a
//! worker from within its own program. It ends with the test that started it.

// What only those use who start it.
#![allow(dead_code)]

mod tasks;

use std::{
    io,
    process::exit,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use qtasks::{
    Scope,
    prelude::*,
    store::{Budget, Find},
};
use qtasks_tests::kills::ledger::now;
use tokio::runtime::{Builder, Runtime};

use crate::tasks::tells_when;

fn main() -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, queues, concurrency] = &args[..] else { bail!("usage: peer URL QUEUE,QUEUE CONCURRENCY") };
    let mut runtime = Some(Builder::new_multi_thread().worker_threads(2).enable_all().build()?);
    let started = runtime.as_ref().context("there is one")?.block_on(async {
        let app = QueueTasks::open(url).await?;
        let worker = app.worker().queues(queues.split(',')).concurrency(concurrency.parse()?).start().await?;
        anyhow::Ok((app, worker))
    });
    let (app, _worker) = started?;
    println!("works");
    for line in io::stdin().lines() {
        let line = line?;
        if line == "outlive" {
            // The worker is still there; what it ran on is not.
            runtime.take().context("there is one")?.shutdown_background();
            println!("outlives");
        } else {
            println!("{}", obey(&line, &app, runtime.as_ref().context("there is one")?)?);
        }
    }
    exit(1);
}

fn obey(line: &str, app: &QueueTasks, runtime: &Runtime) -> anyhow::Result<String> {
    match line.split(' ').collect::<Vec<_>>()[..] {
        ["time"] => return Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis().to_string()),
        ["enqueue", queue, delay] => {
            let call = tells_when().queue(queue).delay(Duration::from_millis(delay.parse()?));
            let before = now();
            let job = runtime.block_on(app.enqueue(call))?;
            return Ok(format!("{} {before} {}", job.id(), now()));
        }
        // Answers when it has returned.
        ["pause", queue] => {
            runtime.block_on(async { app.pause(Scope::Queue(queue)).await })?;
            return Ok(now().to_string());
        }
        ["ask", job] => {
            let id: JobId = job.parse()?;
            for _ in 0..16 {
                let app = app.clone();
                runtime.spawn(async move {
                    loop {
                        // An application that cannot be answered asks again.
                        if let Ok(job) = app.any_job(id).await {
                            _ = job.status().await;
                        }
                    }
                });
            }
        }
        ["block", seconds] => {
            let time = Duration::from_secs(seconds.parse()?);
            for _ in 0..520 {
                runtime.spawn_blocking(move || thread::sleep(time));
            }
        }
        ["list"] => {
            for _ in 0..60 {
                let app = app.clone();
                runtime.spawn(async move {
                    loop {
                        _ = app.find(Find::default().oldest_first()).budget(Budget::jobs(1_000_000)).await;
                    }
                });
            }
        }
        _ => bail!("what is `{line}`?"),
    }
    Ok("done".to_owned())
}
