//! The scripts of the store. The server runs each of them as a whole, with nothing in between.

use redis::{Cmd, RedisError, RedisResult, Script, aio::MultiplexedConnection, cmd};

macro_rules! scripts {
    ($($name:ident: $($part:ident)*;)*) => {
        /// The files that the scripts are made of.
        #[cfg(test)]
        pub(super) const SOURCES: &[&str] = &[
            include_str!("lua/head.lua"),
            $($(include_str!(concat!("lua/parts/", stringify!($part), ".lua")),)*
            include_str!(concat!("lua/", stringify!($name), ".lua")),)*
        ];

        /// All scripts, each with the parts that it needs. A script is called by its hash.
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

            /// Loads the scripts into the server, which forgets them when it ends.
            pub(super) async fn load(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
                let mut all = redis::pipe();
                $(all.load_script(&self.$name).ignore();)*
                all.query_async(connection).await.map_err(first)
            }
        }
    };
}

scripts! {
    enqueue: lines counting enqueuing notifying;
    lease: standing lines counting;
    renew:;
    leave: notifying;
    workers:;
    held: standing lines counting notifying;
    forget: standing;
    record: lines counting enqueuing notifying;
    settle: standing lines counting more keys moving after notifying;
    claim: standing lines counting enqueuing more keys moving claiming after beginning notifying;
    expired: standing lines more moving;
    place: standing lines counting more moving notifying;
    note: standing lines counting enqueuing more keys moving claiming notifying;
    find: standing lines heads;
    counts: standing;
    recount: lines heads;
    due_lanes:;
    attempts: standing;
    prune: standing lines counting more keys;
    add_rates:;
    rates:;
    prune_rates:;
    migrate:;
    take_over: standing lines counting enqueuing heads;
    rights:;
}

/// The first error among the answers to commands that were sent together.
fn first(error: RedisError) -> RedisError {
    let first = error.clone().into_server_errors().and_then(|errors| errors.first().map(|(_, first)| first.clone()));
    first.map_or(error, RedisError::from)
}

/// Begins a call of a script by a store. In a cluster, the key says which node has the jobs.
pub(super) fn call(script: &Script, prefix: &str, caller: [u8; 8]) -> Cmd {
    let mut call = cmd("EVALSHA");
    call.arg(script.get_hash()).arg(1).arg(prefix).arg(&caller);
    call
}
