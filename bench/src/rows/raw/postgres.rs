//! Postgres by itself, on one connection, with one statement for each commit.

use std::time::Instant;

use qtasks::postgres::tokio_postgres::{NoTls, connect};
use qtasks_tests::servers::postgres::Postgres;

use super::filling;
use crate::row::per_second;

/// The statements are planned while the table is empty: they are to go by its indexes all the same.
const TABLE: &str = "
    SET enable_seqscan = off;
    SET enable_bitmapscan = off;
    CREATE TABLE IF NOT EXISTS jobs (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, state smallint NOT NULL, args text NOT NULL);
    CREATE INDEX IF NOT EXISTS ready ON jobs (id) WHERE state = 0";
const INSERT: &str = "INSERT INTO jobs (state, args) SELECT 0, unnest($1::text[])";
const CLAIM: &str = "
    UPDATE jobs SET state = 1 WHERE id IN (
        SELECT id FROM jobs WHERE state = 0 ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED)
    RETURNING id, args";
const COMPLETE: &str = "UPDATE jobs SET state = 2 WHERE id = ANY($1::bigint[])";

pub(super) async fn lives(server: &Postgres, count: u64) -> anyhow::Result<f64> {
    let (client, connection) = connect(&server.new_database(), NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute(TABLE).await?;
    let [insert, claim, complete] =
        [client.prepare(INSERT).await?, client.prepare(CLAIM).await?, client.prepare(COMPLETE).await?];
    let args = vec![filling(); 100];
    let start = Instant::now();
    for _ in 0..count / 100 {
        client.execute(&insert, &[&args]).await?;
        let claimed: Vec<i64> = client.query(&claim, &[]).await?.iter().map(|row| row.get(0)).collect();
        client.execute(&complete, &[&claimed]).await?;
    }
    Ok(per_second(count, start.elapsed()))
}
