//! Hashes every file of a folder into a table, and goes on where it was after it is stopped or killed half way.
//!
//! ```sh
//! cargo run --release --example index_files -- DIR --db FILE
//! cargo run --release --example index_files -- --list --db FILE | sha256sum --check
//! ```
//!
//! The task walks the folder and yields each file; the handler hashes it and writes its row to `files(path, size, sha256)`.
//! That table and the job share FILE, a SQLite database, so that the old rows go and the new job comes in one transaction.
//!
//! Only regular files count, and symbolic links are not followed. What cannot be read is reported and left out.
//!
//! A job that was cut short goes on by walking the folder again, without hashing again what it has hashed. So the folder
//! must stay as it is until the job is done: if it changed, the job ends with an error, and the next run begins anew.

use std::{
    ffi::OsString,
    fmt,
    fs::{self, File, FileType},
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Parser;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use qtasks::{Count, Find, job::StateKind, prelude::*, store::Budget};
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

/// Hashes every file of a folder into a table of a SQLite database.
#[derive(Parser)]
struct Args {
    /// The folder.
    #[arg(required_unless_present = "list")]
    dir: Option<PathBuf>,
    /// The database; made if it is not there.
    #[arg(long, value_name = "FILE")]
    db: String,
    /// Print the table as `sha256sum` would.
    #[arg(long, conflicts_with = "dir")]
    list: bool,
    /// Append a line to this file for each file that is hashed, and at each start one with how many are recorded.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match args.dir {
        Some(dir) => index(dir, &args.db, Log::open(args.log)?).await,
        None => list(&args.db),
    }
}

// The task: walk, yield, hash.

/// Yields every file below `dir`; the result is how many could be hashed.
// Steps are recorded ten times a second and not one by one, for the handler's own writes to the same file wait meanwhile.
// A job that is lost again and again before it gets anywhere would be dead after three times: this one may be killed often.
#[qtask(generate_handler = save_hash, on_error = "skip", checkpoint = "within 100ms", retry = 1000)]
async fn index_files(dir: FilePath, co: Co<FilePath, qtasks::Result<u64>>) -> Count {
    walk(dir.into(), &co).await;
}

async fn walk(dir: PathBuf, co: &Co<FilePath, qtasks::Result<u64>>) {
    let listed = spawn_blocking({
        let dir = dir.clone();
        move || entries(&dir)
    });
    let Ok(Ok(entries)) = listed.await else {
        // A folder that cannot be listed is yielded itself: it cannot be read either, and so is reported like a file.
        return co.emit(dir.into()).await;
    };
    for (path, kind) in entries {
        if kind.is_dir() {
            Box::pin(walk(path, co)).await;
        } else if kind.is_file() {
            co.emit(path.into()).await;
        }
    }
}

/// What is in `dir`, sorted: a body must yield the same values in the same order whenever it runs.
fn entries(dir: &Path) -> io::Result<Vec<(PathBuf, FileType)>> {
    let entries = fs::read_dir(dir)?.map(|entry| entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))));
    let mut entries = entries.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(entries)
}

/// Hashes a file and writes its row; replies its size.
async fn save_hash(file: FilePath, table: State<Table>, ctx: TaskContext) -> anyhow::Result<u64> {
    // Reading files blocks, so it is kept off the threads that run async code.
    spawn_blocking(move || {
        let path = PathBuf::from(file);
        // The key is the job and the number of the file.
        table.log.write(format_args!("hashing {} {path:?}", ctx.idempotency_key().replace(':', " ")))?;
        let (size, sha256) = hash(&path).with_context(|| format!("{path:?}"))?;
        table.put(&path, size, &sha256).map_err(|error| {
            // A row that cannot be written is no reason to skip the file: the job is to try again at this value.
            anyhow::Error::new(TaskError::retry_after(Duration::from_secs(1))).context(error)
        })?;
        Ok(size)
    })
    .await?
}

fn hash(path: &Path) -> io::Result<(u64, String)> {
    let (mut file, mut hasher, mut buffer, mut size) = (File::open(path)?, Sha256::new(), vec![0; 1 << 16], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((size, hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())),
            read => {
                hasher.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
}

/// A path that survives JSON whatever its bytes: a text where it is UTF-8, as in `"a/b"`, else `{"Unix":[97,47,255]}`.
#[derive(Serialize, Deserialize, PartialEq)]
#[serde(untagged)]
enum FilePath {
    Text(String),
    Raw(OsString),
}

impl From<PathBuf> for FilePath {
    fn from(path: PathBuf) -> Self {
        path.into_os_string().into_string().map_or_else(Self::Raw, Self::Text)
    }
}

impl From<FilePath> for PathBuf {
    fn from(path: FilePath) -> Self {
        match path {
            FilePath::Text(text) => text.into(),
            FilePath::Raw(raw) => raw.into(),
        }
    }
}

// The table, which the handler gets as `State<Table>`.

struct Table {
    connection: Mutex<Connection>,
    log: Log,
}

impl Table {
    fn open(db: &str, log: Log) -> rusqlite::Result<Self> {
        let connection = Connection::open(db)?;
        // The queue writes to the same database, and each waits for the other (here up to 5 s, which rusqlite sets). Its
        // commits go to disk, and with them all that came before; so ours, each made before its step is recorded, need not.
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS files (
                 path BLOB PRIMARY KEY,
                 size INTEGER NOT NULL,
                 sha256 TEXT NOT NULL
             ) WITHOUT ROWID",
        )?;
        Ok(Self { connection: Mutex::new(connection), log })
    }

    /// Writes a row, over an older one: a value may be handled again if the process dies before its step is recorded.
    fn put(&self, path: &Path, size: u64, sha256: &str) -> rusqlite::Result<()> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let mut put =
            connection.prepare_cached("INSERT OR REPLACE INTO files (path, size, sha256) VALUES (?1, ?2, ?3)")?;
        put.execute((path.as_os_str().as_encoded_bytes(), size as i64, sha256))?;
        Ok(())
    }
}

/// What is hashed, for those who want to see that nothing is hashed again that is recorded.
#[derive(Clone)]
struct Log(Option<Arc<File>>);

impl Log {
    fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let open = |path| File::options().create(true).append(true).open(path).map(Arc::new);
        Ok(Self(path.map(open).transpose()?))
    }

    /// Writes a line at once, so that it is there whenever the process is killed.
    fn write(&self, line: fmt::Arguments<'_>) -> io::Result<()> {
        self.0.as_deref().map_or(Ok(()), |mut file| file.write_all(format!("{line}\n").as_bytes()))
    }
}

// The program around it.

async fn index(dir: PathBuf, db: &str, log: Log) -> anyhow::Result<()> {
    anyhow::ensure!(dir.is_dir(), "{} is not a folder", dir.display());
    let table = Table::open(db, log.clone())?;
    let app = QueueTasks::builder().store(format!("sqlite:{db}")).state(table).build().await?;
    let job = match unfinished(&app, &dir).await? {
        Some(job) => {
            let recorded = job.status().await?.steps;
            println!("going on with job {} after {recorded} files", job.id());
            log.write(format_args!("recorded {} {recorded}", job.id()))?;
            job
        }
        None => begin(&app, &dir, db)?,
    };
    let worker = app.worker().start().await?;
    let watched = tokio::select! {
        watched = watch(&job, &dir) => watched,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("stopped; run it again to go on")),
    };
    worker.shutdown().await?;
    watched
}

/// The job of an earlier run on `dir` that was cut short.
async fn unfinished(app: &QueueTasks, dir: &Path) -> qtasks::Result<Option<JobHandle<Count>>> {
    let dir = FilePath::from(dir.to_owned());
    for state in [StateKind::Running, StateKind::Waiting] {
        let filter = Find::default().task("index_files").state(state);
        for job in app.find(filter.oldest_first()).budget(Budget::jobs(100)).await?.jobs {
            if job.call.args.decode::<index_files>().is_ok_and(|call| call.dir == dir) {
                return Ok(Some(app.job::<index_files>(job.call.id).await?));
            }
        }
    }
    Ok(None)
}

/// Enqueues a job in the transaction that deletes the rows of an earlier one.
fn begin(app: &QueueTasks, dir: &Path, db: &str) -> anyhow::Result<JobHandle<Count>> {
    let mut connection = Connection::open(db)?;
    let transaction = connection.transaction()?;
    let below = dir.join("");
    transaction
        .execute("DELETE FROM files WHERE substr(path, 1, length(?1)) = ?1", [below.as_os_str().as_encoded_bytes()])?;
    let job = app.enqueue_in(&transaction, index_files(dir.to_owned().into()))?;
    transaction.commit()?;
    Ok(job)
}

/// Shows the values as they come: a bar on a terminal, plain lines elsewhere.
async fn watch(job: &JobHandle<Count>, dir: &Path) -> anyhow::Result<()> {
    let (started, bar) = (Instant::now(), bar(dir)?);
    let (mut files, mut bytes, mut skipped) = (0_u64, 0, 0);
    let mut sizes = job.stream_as::<u64>();
    while let Some(size) = sizes.next().await {
        bar.inc(1);
        match size {
            Ok(size) => {
                files += 1;
                bytes += size;
                bar.set_message(HumanBytes(bytes).to_string());
            }
            Err(qtasks::Error::Skipped { error, .. }) => {
                skipped += 1;
                bar.suspend(|| println!("skipped {error}"));
            }
            Err(error) => return Err(error.into()),
        }
        if bar.is_hidden() && (files + skipped) % 1000 == 0 {
            println!("{} files, {}", files + skipped, HumanBytes(bytes));
        }
    }
    bar.finish_and_clear();
    let (files, seconds) = (job.result().await?, started.elapsed().as_secs_f64());
    println!("{files} files, {bytes} bytes, {skipped} skipped, {seconds:.1} s");
    Ok(())
}

/// A bar whose length is counted while the work has begun already.
fn bar(dir: &Path) -> anyhow::Result<ProgressBar> {
    fn count(dir: &Path, bar: &ProgressBar) {
        for (path, kind) in entries(dir).into_iter().flatten() {
            match kind.is_dir() {
                true => count(&path, bar),
                false => bar.inc_length(kind.is_file().into()),
            }
        }
    }
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} files, {msg}, {elapsed}")?;
    let bar = ProgressBar::new(0).with_style(style);
    if !bar.is_hidden() {
        let (dir, bar) = (dir.to_owned(), bar.clone());
        thread::spawn(move || count(&dir, &bar));
    }
    Ok(bar)
}

/// Prints the table as `sha256sum` prints files.
fn list(db: &str) -> anyhow::Result<()> {
    let connection = Connection::open_with_flags(db, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut statement = connection.prepare("SELECT sha256, path FROM files ORDER BY path")?;
    let mut rows = statement.query([])?;
    let mut out = BufWriter::new(io::stdout().lock());
    while let Some(row) = rows.next()? {
        let (sha256, path): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
        out.write_all(&line(&sha256, &path))?;
    }
    Ok(out.flush()?)
}

/// A line of `sha256sum`: one with a backslash before it holds a name in which `\`, line feed and return are escaped.
fn line(sha256: &str, path: &[u8]) -> Vec<u8> {
    let mut line = format!("{sha256}  ").into_bytes();
    for byte in path {
        match byte {
            b'\\' => line.extend(br"\\"),
            b'\n' => line.extend(br"\n"),
            b'\r' => line.extend(br"\r"),
            other => line.push(*other),
        }
    }
    if path.iter().any(|byte| b"\\\n\r".contains(byte)) {
        line.insert(0, b'\\');
    }
    line.push(b'\n');
    line
}
