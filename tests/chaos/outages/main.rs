//! What befalls the server of a store with work in flight: the promises hold, and work goes on by itself.
//!
//! Two worker processes enter all that they do into ledgers of their own. A user enqueues, and watches what becomes of it,
//! before, during and after. Nothing that was acknowledged may be lost, no handler be called for what is recorded, no stream
//! miss or repeat a value; and no worker may end.

mod calls;
mod power;
mod scene;
mod server;

// The rest of them is for those who work, or kill.
#[allow(dead_code)]
#[path = "../kills/kinds.rs"]
mod kinds;
#[allow(dead_code)]
#[path = "../kills/saves_on_postgres.rs"]
mod saves_on_postgres;
#[allow(dead_code)]
#[path = "../kills/saves_on_sqlite.rs"]
mod saves_on_sqlite;
#[allow(dead_code)]
#[path = "../kills/tasks.rs"]
mod tasks;
#[path = "../kills/watch.rs"]
mod watch;

use std::{process::ExitCode, time::Duration};

use libtest_mimic::{Arguments, Completion, Trial};
use qtasks_tests::{
    eventually,
    length::{by_length, in_turn},
};
use scene::{Scene, Setting};
use server::{Kind, Server};
use tokio::time::sleep;

/// Most of the time is spent waiting, so that many can do so at once, however few processors there are.
const AT_ONCE: usize = 26;
/// With this a call ends soon that nobody answers.
const IMPATIENT: &str = "&timeout=2";

fn main() -> ExitCode {
    let direct = Setting::default();
    let over_a_line = Setting { line: Some(Duration::ZERO), parameters: IMPATIENT };
    let over_a_long_line = Setting { line: Some(Duration::from_millis(25)), ..direct };
    let over_one_connection = Setting { parameters: "&connections=1", ..direct };
    let trials = [
        on_both("the_server_is_away_for_thirty_seconds", direct, is_away_for_thirty_seconds),
        on_both("the_server_stands_still_for_ten_seconds", direct, stands_still_for_ten_seconds),
        on_both("connections_go_dead_and_nobody_is_told", over_a_line, connections_go_dead),
        on_both("the_server_is_killed_again_and_again", direct, is_killed_again_and_again),
        on_both("every_connection_is_cut_again_and_again", direct, every_connection_is_cut),
        on_both("others_have_all_connections", direct, others_have_all_connections),
        on_both("every_answer_takes_fifty_milliseconds", over_a_long_line, nothing_else),
        vec![trial(Kind::Postgres, "all_share_one_connection", over_one_connection, every_connection_is_cut)],
        vec![power::trial()],
        calls::trials(),
    ];
    let arguments = Arguments::from_args();
    let at_once = arguments.test_threads.or(Some(AT_ONCE));
    libtest_mimic::run(&Arguments { test_threads: at_once, ..arguments }, trials.into_iter().flatten().collect())
        .exit_code()
}

fn on_both(name: &str, setting: Setting, befalls: impl AsyncFn(&mut Scene) + Copy + Send + 'static) -> Vec<Trial> {
    in_turn(&Kind::BOTH).iter().map(|kind| trial(*kind, name, setting, befalls)).collect()
}

/// That work goes on when this befalls a server of that kind.
fn trial(kind: Kind, name: &str, setting: Setting, befalls: impl AsyncFn(&mut Scene) + Send + 'static) -> Trial {
    test_on(kind, &format!("work_goes_on_when_{name}"), async move || {
        let mut scene = Scene::set(Server::start(kind), setting).await;
        scene.goes_on().await;
        befalls(&mut scene).await;
        scene.goes_on().await;
        scene.ends_well().await;
    })
}

/// A test that is ignored where there is no server of that kind.
fn test_on(kind: Kind, name: &str, test: impl AsyncFnOnce() + Send + 'static) -> Trial {
    let (group, missing) = match kind {
        Kind::Redis => ("redis", cfg!(missing = "redis").then_some("redis-server is not installed")),
        Kind::Postgres => ("postgres", cfg!(missing = "postgres").then_some("Postgres is not installed")),
    };
    Trial::ignorable_test(format!("{group}::{name}"), move || {
        if let Some(why) = missing {
            return Ok(Completion::ignored_with(why));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("there is a runtime").block_on(test());
        Ok(Completion::Completed)
    })
}

async fn is_killed_again_and_again(scene: &mut Scene) {
    for _ in 0..by_length(1, 3) {
        scene.server.kill();
        assert!(scene.is_away().await);
        scene.server.restart();
        scene.goes_on().await;
    }
}

async fn every_connection_is_cut(scene: &mut Scene) {
    for _ in 0..by_length(2, 4) {
        for _ in 0..3 {
            scene.server.cut_all();
        }
        scene.goes_on().await;
    }
}

/// The time is what befalls it: ten times as long as a lease lasts, in the short form twice as long.
async fn is_away_for_thirty_seconds(scene: &mut Scene) {
    scene.server.kill();
    sleep(Duration::from_secs(by_length(6, 30))).await;
    assert!(scene.is_away().await);
    scene.server.restart();
}

/// Here too: three times as long as a lease, or longer than one.
async fn stands_still_for_ten_seconds(scene: &mut Scene) {
    scene.server.freeze();
    sleep(Duration::from_secs(by_length(4, 10))).await;
    scene.server.thaw();
}

/// And here, for longer than a lease.
async fn others_have_all_connections(scene: &mut Scene) {
    let crowd = scene.server.crowd().await;
    sleep(Duration::from_secs(by_length(4, 5))).await;
    assert!(scene.is_away().await);
    drop(crowd);
}

async fn connections_go_dead(scene: &mut Scene) {
    let line = scene.proxy.as_ref().expect("there is a line");
    line.swallow();
    // Each of the workers has one, and the user.
    eventually("something got lost", async || line.lost() >= 3).await;
}

async fn nothing_else(scene: &mut Scene) {
    scene.goes_on().await;
}
