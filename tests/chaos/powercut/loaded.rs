//! A program under load: enqueues jobs, works on them, watches them, and writes down in a file of its own what it was
//! told is durable, line by line.

use std::{
    fmt,
    fs::File,
    io::Write as _,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use qtasks::{prelude::*, sqlite::rusqlite::Connection};
use tokio::task::JoinSet;

/// Yields numbers that tell to which job and step they belong.
#[qtask]
async fn numbers(job: u64, steps: u64) -> Vec<u64> {
    for step in 0..steps {
        yield_!(job * 1000 + step);
    }
}

/// The same, each of them durable before the next.
#[qtask(checkpoint = "each")]
async fn careful_numbers(job: u64, steps: u64) -> Vec<u64> {
    for step in 0..steps {
        yield_!(job * 1000 + step);
    }
}

#[tokio::main]
async fn main() -> qtasks::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, parameters, acks] = &args[..] else { panic!("usage: loaded PATH PARAMETERS ACKS") };
    let acks = Acks(File::create(acks).expect("the file can be made"));
    let app = QueueTasks::open(&format!("sqlite:{path}{parameters}")).await?;
    let worker = app.worker().concurrency(4).start().await?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| checkpoint(path, parameters, &over));
        let done = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(load(&app, &acks)));
        over.store(true, Relaxed);
        done
    })?;
    worker.shutdown().await
}

async fn load(app: &QueueTasks, acks: &Acks) -> qtasks::Result<()> {
    let mut watching = JoinSet::new();
    for number in 0..60 {
        let steps = 2 + number % 20;
        let job = match number % 3 {
            0 => app.enqueue(careful_numbers(number, steps)).await?,
            _ => app.enqueue(numbers(number, steps)).await?,
        };
        acks.write(format_args!("enqueued {} {number} 0", job.id()));
        let acks = acks.clone();
        watching.spawn(async move {
            let mut values = job.stream().enumerate();
            while let Some((step, value)) = values.next().await {
                acks.write(format_args!("step {} {step} {}", job.id(), value?));
            }
            job.result().await?;
            acks.write(format_args!("done {} {number} {steps}", job.id()));
            qtasks::Result::Ok(())
        });
    }
    watching.join_all().await.into_iter().collect()
}

/// Moves the log into the database again and again, as happens to a large log by itself.
fn checkpoint(path: &str, parameters: &str, over: &AtomicBool) {
    let connection = Connection::open(path).expect("the database can be opened");
    let level = parameters.strip_prefix("?synchronous=").unwrap_or("full");
    connection.pragma_update(None, "synchronous", level).expect("a level that SQLite knows");
    connection.busy_timeout(Duration::from_secs(5)).expect("it can be set");
    for kind in ["PASSIVE", "RESTART", "PASSIVE", "TRUNCATE"].iter().cycle() {
        if over.load(Relaxed) {
            return;
        }
        // One that the load gets in the way of does less, which is as good here.
        let _ = connection.execute_batch(&format!("PRAGMA wal_checkpoint({kind})"));
        thread::sleep(Duration::from_millis(20));
    }
}

/// What is known to be durable, one write of the operating system for each line.
struct Acks(File);

impl Acks {
    fn write(&self, line: fmt::Arguments<'_>) {
        (&self.0).write_all(format!("{line}\n").as_bytes()).expect("the file can be written");
    }

    fn clone(&self) -> Self {
        Self(self.0.try_clone().expect("a file can be shared"))
    }
}
