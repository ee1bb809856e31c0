//! Another server takes the place of the one that fell behind or was ended, while connections to the old one stay open.

use std::{
    os::unix::fs::{MetadataExt as _, chown},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering::Relaxed},
    },
    time::Duration,
};

use qtasks::{prelude::*, store::Store};
use qtasks_tests::{
    eventually, in_time,
    servers::{
        Server, free_port,
        postgres::{Postgres, tell},
    },
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use crate::{app, new_job, open};

/// What stands before the servers: connections go to the one that is the right one when they are made, and stay there.
struct Switch {
    port: u16,
    target: Arc<AtomicU16>,
}

impl Switch {
    async fn to(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (port, target) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU16::new(server)));
        let switch = Self { port, target: Arc::clone(&target) };
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let server = target.load(Relaxed);
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        switch
    }

    fn url(&self) -> String {
        at(self.port)
    }
}

fn at(port: u16) -> String {
    format!("postgres://tests:secret@127.0.0.1:{port}/postgres")
}

/// A standby of a server, which repeats all that happens there.
struct Standby {
    _server: Server,
    port: u16,
}

impl Standby {
    async fn of(primary: &Postgres) -> Self {
        let ask = |sql| primary.tell(sql).unwrap();
        let data = std::fs::metadata(ask("SHOW data_directory")).unwrap();
        let programs = ask("SELECT setting FROM pg_config WHERE name = 'BINDIR'");
        let (port, from) = (free_port(), at(primary.port));
        let server = Server::start(|folder| {
            chown(folder, Some(data.uid()), Some(data.gid())).unwrap();
            let data_folder = folder.join("data").display().to_string();
            let copy =
                format!("'{programs}/pg_basebackup' -R -X stream -c fast --no-sync -D '{data_folder}' -d '{from}'");
            let listen =
                "-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=300 -c fsync=off";
            let run = format!("'{programs}/postgres' -D '{data_folder}' -p {port} {listen}");
            let both = format!("{copy} && exec {run}");
            let mut command = Vec::new();
            if data.uid() != std::fs::metadata("/proc/self").unwrap().uid() {
                let (user, group) = (format!("--reuid={}", data.uid()), format!("--regid={}", data.gid()));
                command.extend(["setpriv".to_owned(), user, group, "--clear-groups".to_owned()]);
            }
            command.extend(["sh", "-c", &both].map(str::to_owned));
            command
        });
        eventually("the standby answers", async || tell(&at(port), "SELECT 1").is_ok()).await;
        Self { _server: server, port }
    }

    /// Makes it the one that is written to, once it has all that was written to the old one.
    async fn take_over_from(&self, old: &Postgres) {
        // What clients of the old one see of that: it can only be read.
        old.tell("ALTER SYSTEM SET default_transaction_read_only = on").unwrap();
        old.tell("SELECT pg_reload_conf()").unwrap();
        eventually("it can only be read", async || old.tell("SHOW transaction_read_only").unwrap() == "on").await;
        let last = old.tell("SELECT pg_current_wal_insert_lsn()").unwrap();
        let has_all = format!("SELECT pg_last_wal_replay_lsn() >= '{last}'");
        eventually("the standby has all", async || tell(&at(self.port), &has_all).unwrap() == "t").await;
        tell(&at(self.port), "SELECT pg_promote()").unwrap();
    }
}

static LET_GO: AtomicBool = AtomicBool::new(false);

/// Runs until it is let go, and gives the number of its attempt.
#[qtask(echo = true)]
async fn hold_on(ctx: TaskContext) -> u32 {
    while !LET_GO.load(Relaxed) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    ctx.attempt()
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_live_worker_keeps_its_job_when_another_server_takes_over() {
    let old = Postgres::start(&["-c", "fsync=off"]);
    let (standby, switch) = (Standby::of(&old).await, Switch::to(old.port).await);
    let (one, other) = (app(&switch.url()).await, app(&switch.url()).await);
    // It has no workers, and hears of work all the same.
    let idle = open(&switch.url()).await;
    let worker = one.worker().queues(["held"]).start().await.unwrap();
    let job = one.enqueue(hold_on().queue("held")).await.unwrap();
    let runs = async || job.status().await.unwrap().state.name() == "running";
    eventually("the job runs", runs).await;
    let looker = other.worker().queues(["held"]).start().await.unwrap();

    standby.take_over_from(&old).await;
    let new = at(standby.port);
    let beats = || tell(&new, "SELECT string_agg(beat::text, ' ' ORDER BY id) FROM qtasks.workers").unwrap();
    let taken_over = beats();
    switch.target.store(standby.port, Relaxed);
    let longer_than_leases_last = || {
        let number = |text: &str| text.split(' ').map(|beat| beat.parse().unwrap()).collect::<Vec<u64>>();
        number(&beats()).iter().zip(number(&taken_over)).all(|(now, then)| *now > then + 4)
    };
    eventually("both renew there", async || longer_than_leases_last()).await;
    let state = "SELECT bool_and(state = 2 AND attempt = 1) FROM qtasks.jobs WHERE queue = 'held'";
    assert_eq!(tell(&new, state).unwrap(), "t", "the looker has not taken it");
    LET_GO.store(true, Relaxed);
    assert_eq!(in_time(job.result()).await.unwrap(), 1);

    let work = std::sync::Mutex::new(idle.notifier().work());
    let news = async || tell(&new, "SELECT qtasks.enqueue('task')").is_ok() && work.lock().unwrap().take_notification();
    eventually("news come from there", news).await;
    let last = new_job();
    idle.enqueue(vec![last.clone()]).await.unwrap();
    assert!(tell(&new, &format!("SELECT count(*) FROM qtasks.jobs WHERE id = '{}'", last.call.id)).unwrap() == "1");
    worker.shutdown().await.unwrap();
    looker.shutdown().await.unwrap();
}
