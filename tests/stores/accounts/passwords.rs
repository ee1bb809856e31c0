//! No part of a password is told, however the URL is written.

use futures::{StreamExt as _, stream};
use qtasks::store;
use qtasks_tests::{
    length::by_length,
    servers::{postgres, redis},
};

/// Each is made of parts that stand nowhere else.
const PASSWORDS: &[&str] = &[
    "zork",
    "zork@zork",
    "@zork@",
    "zork:zork",
    "zork/zork",
    "zork?zork",
    "zork#zork",
    "zork%zork",
    "zork%",
    "zork%40zork",
    "zork%2Fzork",
    "zork%ffzork",
    "zork&zork",
    "zork&app=zork",
    "zork=zork",
    "zork+zork",
    "zork zork",
    "'zork'",
    "zork\\zork",
    "\"zork`zork\"",
    "zork@zork:44321/zork",
    "44321/zork@zork",
    "44321?zork",
    "44321#zork",
    "44321?timeout=zork",
    "44321?schema=zork&connections=zork",
    "44321?password=zork",
    "zork[zork]",
    "zork;zork,zork",
    "zork\tzork\nzork",
    "жzorkж",
];

/// Those that are tried: all, or some of them.
fn passwords() -> impl Iterator<Item = &'static str> {
    PASSWORDS.iter().copied().step_by(by_length(4, 1))
}

/// The URLs of a scheme with this password: of servers that are not there, and such as cannot be understood.
fn urls(scheme: &str, password: &str) -> Vec<String> {
    vec![
        format!("{scheme}://me:{password}@127.0.0.1:1/0"),
        format!("{scheme}://:{password}@127.0.0.1:1"),
        format!("{scheme}://me:{password}@127.0.0.1:port/0"),
        format!("{scheme}://me:{password}@127.0.0.1:1/0?wrong=1"),
        format!("{scheme}://me:{password}@127.0.0.1:1/0?timeout=no"),
        format!("{scheme}://me:{password}@127.0.0.1:1/0?sslrootcert=/no/such/file"),
        format!("{scheme}://me:{password}@[::1/0"),
        format!("{scheme}://me:{password}@/0"),
        format!("{scheme}://me:{password}@"),
        format!("{scheme}://127.0.0.1:1/0?password={password}"),
        format!("{scheme}://127.0.0.1:1/0?user=me&password={password}&wrong=1"),
        format!("{scheme}:me:{password}@127.0.0.1"),
        format!("{scheme}:host=127.0.0.1 port=1 user=me password={password}"),
        format!("host=127.0.0.1 port=1 user=me password={password}"),
        format!("host=127.0.0.1 port=1 user=me password = '{password}'"),
    ]
}

/// What `error` says with all its sources, in every form in which it may come to be printed.
fn all_forms(error: &qtasks::Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text += &format!(" {error} {error:?} {error:#?}");
        source = error.source();
    }
    text
}

/// What opening a store at `url` says that tells of its password.
async fn tell_tale(url: &str) -> Option<String> {
    let Err(error) = store::open(url).await else { return Some("it was opened".to_owned()) };
    let said = all_forms(&error);
    (said.contains("zork") || said.contains("44321")).then_some(said)
}

async fn none_tells(urls: Vec<String>) {
    let told = stream::iter(urls).map(|url| async move { tell_tale(&url).await.map(|told| (url, told)) });
    let told: Vec<_> = told.buffer_unordered(32).filter_map(async |told| told).collect().await;
    let shown: Vec<_> = told.iter().take(20).map(|(url, told)| format!("{url:?}\n    {told}")).collect();
    assert!(told.is_empty(), "{} URLs tell of their password:\n{}", told.len(), shown.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_that_opens_no_store_does_not_tell_its_password() {
    for scheme in ["redis", "rediss", "postgres", "postgresql", "mysql", "REDIS", "redis+tls", "Postgres"] {
        none_tells(passwords().flat_map(|password| urls(scheme, password)).collect()).await;
    }
    none_tells(passwords().map(|password| format!("sqlite:/no/such/q.db?password={password}")).collect()).await;
}

/// A password as a URL has it.
fn encoded(password: &str) -> String {
    password.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_a_password_does_not_tell_it() {
    let (redis, postgres) = (redis::Redis::start(&[]), postgres::shared());
    let database = postgres.database();
    for password in passwords() {
        let mut urls = Vec::new();
        for password in [password.to_owned(), encoded(password)] {
            urls.push(format!("redis://me:{password}@127.0.0.1:{}", redis.port));
            urls.push(database.replace("secret", &password));
            urls.push(format!("{}?user=tests&password={password}", database.replace("tests:secret@", "")));
        }
        none_tells(urls).await;
    }
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
#[tokio::test(flavor = "multi_thread")]
async fn a_password_with_signs_of_a_url_lets_in() {
    let (redis, postgres) = (redis::Redis::start(&[]), postgres::shared());
    for password in ["zork@zork", "zork:zork", "zo%rk", "zo/r?k#"] {
        assert_eq!(redis.tell(&format!("ACL SETUSER me on resetpass >{password} ~* &* +@all")).unwrap(), "+OK");
        let named = format!(
            "DO $$ BEGIN CREATE ROLE odd SUPERUSER LOGIN; EXCEPTION WHEN OTHERS THEN END $$; ALTER ROLE odd PASSWORD '{password}'"
        );
        postgres.tell(&named).unwrap();
        let as_it_is = (!password.contains(['/', '?', '#'])).then(|| password.to_owned());
        for password in as_it_is.into_iter().chain([encoded(password)]) {
            store::open(&format!("redis://me:{password}@127.0.0.1:{}", redis.port)).await.unwrap();
            store::open(&postgres.url().replace("tests:secret", &format!("odd:{password}"))).await.unwrap();
        }
    }
}
