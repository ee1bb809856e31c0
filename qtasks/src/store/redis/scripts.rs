//! The changes, each of them one script that the server runs without a break.

use redis::{Cmd, RedisError, RedisResult, Script, aio::MultiplexedConnection, cmd};

macro_rules! scripts {
    ($($name:ident: $($part:ident)*;)*) => {
        /// What the scripts are made of.
        #[cfg(test)]
        pub(super) const SOURCES: &[&str] = &[
            include_str!("lua/head.lua"),
            $($(include_str!(concat!("lua/parts/", stringify!($part), ".lua")),)*
            include_str!(concat!("lua/", stringify!($name), ".lua")),)*
        ];

        /// All scripts, each of the parts that it needs, to be called by its hash.
        pub(super) struct Scripts {
            $(pub(super) $name: Script,)*
        }

        impl Scripts {
            pub(super) fn new() -> Self {
                Self {
                    $($name: Script::new(concat!(
                        include_str!("lua/head.lua"),
                        $(include_str!(concat!("lua/parts/", stringify!($part), ".lua")),)*
                        include_str!(concat!("lua/", stringify!($name), ".lua")),
                    )),)*
                }
            }

            /// Has the server learn them, which forgets them when it ends.
            pub(super) async fn load(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
                let mut all = redis::pipe();
                $(all.load_script(&self.$name).ignore();)*
                all.query_async(connection).await.map_err(first)
            }
        }
    };
}

scripts! {
    enqueue: lines enqueuing news;
    lease: standing lines;
    renew:;
    leave: news;
    workers:;
    held: standing lines news;
    forget: standing;
    record: lines enqueuing news;
    settle: standing lines news;
    jobs:;
    due_lanes:;
    attempts: standing;
    prune: standing;
    migrate: lines;
    rights:;
}

/// The first of the errors with which commands that went together were answered.
fn first(error: RedisError) -> RedisError {
    let first = error.clone().into_server_errors().and_then(|errors| errors.first().map(|(_, first)| first.clone()));
    first.map_or(error, RedisError::from)
}

/// Begins a call of a script by a store: the one key tells the node of a cluster.
pub(super) fn call(script: &Script, prefix: &str, caller: [u8; 8]) -> Cmd {
    let mut call = cmd("EVALSHA");
    call.arg(script.get_hash()).arg(1).arg(prefix).arg(&caller);
    call
}
