//! Redis by itself, on one connection.

use std::time::Instant;

use qtasks_tests::servers::redis::Redis;
use redis::{Client, Script, pipe};

use super::filling;
use crate::row::per_second;

/// Takes jobs out of the line, and keeps them among those that run.
const CLAIM: &str = "
    local ids = redis.call('LPOP', KEYS[1], 100)
    redis.call('SADD', KEYS[2], unpack(ids))
    return { ids, redis.call('MGET', unpack(ids)) }";

pub(super) async fn lives(server: &Redis, count: u64) -> anyhow::Result<f64> {
    let mut connection = Client::open(server.url())?.get_multiplexed_async_connection().await?;
    let (claim, args) = (Script::new(CLAIM), filling());
    let start = Instant::now();
    for batch in 0..count / 100 {
        let ids: Vec<_> = (batch * 100..(batch + 1) * 100).map(|id| format!("raw:{id}")).collect();
        let jobs: Vec<_> = ids.iter().map(|id| (id, &args)).collect();
        pipe().atomic().mset(&jobs).rpush("raw", &ids).exec_async(&mut connection).await?;
        let mut claim = claim.prepare_invoke();
        let (claimed, _args): (Vec<String>, Vec<String>) =
            claim.key("raw").key("raw:running").invoke_async(&mut connection).await?;
        let mut complete = pipe();
        complete.atomic().srem("raw:running", &claimed).rpush("raw:done", &claimed);
        complete.exec_async(&mut connection).await?;
    }
    Ok(per_second(count, start.elapsed()))
}
