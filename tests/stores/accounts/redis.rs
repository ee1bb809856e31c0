//! What an account needs on a Redis server, and what is said of one that lacks it.

mod shared;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use qtasks::{
    QueueTasks,
    store::{Redis, Store},
};
use qtasks_tests::{jobs::new_job, servers::redis, whole};

use shared::{documented, jobs_are_done};

/// The line of the documentation that gives an account its rights, for this account and the application of its name.
fn line(name: &str) -> String {
    let line = documented("redis/store.rs", "ACL SETUSER").join(" ");
    line.replace("{qtasks}", &format!("{{{name}}}")).replace("SETUSER worker", &format!("SETUSER {name}"))
}

/// The URL for a new account with exactly these rights.
fn account(server: &redis::Redis, change: impl Fn(String) -> String) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("account-{}", COUNT.fetch_add(1, Relaxed));
    assert_eq!(server.tell(&change(line(&name))).unwrap(), "+OK");
    format!("redis://{name}:SECRET@127.0.0.1:{}?app={name}", server.port)
}

fn shared() -> &'static redis::Redis {
    static SHARED: OnceLock<redis::Redis> = OnceLock::new();
    SHARED.get_or_init(|| redis::Redis::start(&[]))
}

async fn refused(url: &str) -> String {
    whole(&Redis::open(url).await.unwrap_err())
}

mod with_exactly_the_documented_rights {
    use super::*;

    qtasks::store_conformance!(
        #[cfg_attr(missing = "redis", ignore = "redis-server is not installed")];
        async || ((), Arc::new(Redis::open(&account(shared(), |line| line)).await.unwrap()) as _)
    );
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn an_account_with_the_documented_rights_has_jobs_done() {
    jobs_are_done(&QueueTasks::open(&account(shared(), |line| line)).await.unwrap()).await;
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn an_account_with_the_documented_rights_brings_an_older_store_up_to_date() {
    let url = account(shared(), |line| line);
    let key = |kind: &str| format!("{{{}}}:{kind}", url.split_once("app=").unwrap().1);
    // A job of format 2 that is a suspect and waits.
    let (id, standing) = ("a".repeat(16), format!("\"\\x00\\x01{}\"", "b".repeat(37)));
    let job = format!("\"\\xff\\xff{}\\x00\\x00\\x00\\x051:a:b{{}}\"", "c".repeat(24));
    let set = |name: &str, rest: &str| assert!(!shared().tell(&format!("{name} {rest}")).unwrap().starts_with('-'));
    set("SET", &format!("{} 2", key("format")));
    set("RPUSH", &format!("{} {id}", key("ids")));
    set("SADD", &format!("{} 1:a:b", key("lanes")));
    set("ZADD", &format!("{} 1 {id}", key("later:1:a:b")));
    set("SET", &format!("{} {job}", key(&format!("j:{id}"))));
    set("SET", &format!("{} {standing}", key(&format!("p:{id}"))));
    Redis::open(&url).await.unwrap();
    assert_eq!(
        shared().tell(&format!("STRLEN {}", key(&format!("4:p:{id}")))).unwrap(),
        ":59",
        "what is known was added"
    );
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_server_that_may_not_be_asked_what_it_is_can_be_opened() {
    for denied in ["-info", "-config|get -config", "-info -config"] {
        let url = account(shared(), |line| format!("{line} +info +config|get {denied}"));
        Redis::open(&url).await.unwrap().enqueue(vec![new_job()]).await.unwrap();
    }
    let server = redis::Redis::start(&["--rename-command", "INFO", "", "--rename-command", "CONFIG", ""]);
    Redis::open(&server.url()).await.unwrap();
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_channel_that_is_forbidden_is_named_with_the_line_that_allows_it() {
    let url = account(shared(), |line| format!("{line} resetchannels"));
    let app = url.split_once("app=").unwrap().1;
    let said = refused(&url).await;
    assert!(said.contains(&format!("`ACL SETUSER {app} &{{{app}}}:news`")), "{said}");
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_command_that_is_forbidden_is_named_with_the_line_that_allows_it() {
    // Of its own: on one that others use, they load the scripts again that are flushed here.
    let server = redis::Redis::start(&[]);
    for command in ["subscribe", "ping", "get", "evalsha", "script|load"] {
        let url = account(&server, |line| format!("{line} -{command}"));
        let app = url.split_once("app=").unwrap().1;
        let said = match Redis::open(&url).await {
            Err(error) => whole(&error),
            Ok(store) => {
                server.tell("SCRIPT FLUSH").unwrap();
                whole(&store.enqueue(vec![new_job()]).await.unwrap_err())
            }
        };
        assert!(said.contains(&format!("`ACL SETUSER {app} +{command}`")), "{said}");
    }
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_command_that_is_forbidden_to_a_script_is_named_with_the_line_that_allows_it() {
    let url = account(shared(), |line| format!("{line} -msetnx"));
    let app = url.split_once("app=").unwrap().1;
    let said = whole(&Redis::open(&url).await.unwrap().enqueue(vec![new_job()]).await.unwrap_err());
    assert!(said.contains(&format!("`ACL SETUSER {app} +msetnx`")), "{said}");
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn keys_that_are_forbidden_are_named_with_the_line_that_allows_them() {
    let url = account(shared(), |line| format!("{line} resetkeys"));
    let app = url.split_once("app=").unwrap().1;
    let said = refused(&url).await;
    assert!(said.contains(&format!("`ACL SETUSER {app} ~{{{app}}}:*`")), "{said}");
}
