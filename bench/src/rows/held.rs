//! Whether Postgres stays fast while somebody holds a transaction: it then keeps every row that ever was.

use anyhow::Context as _;
use qtasks::postgres::tokio_postgres::{NoTls, connect};

use super::jobs;
use crate::{
    place::Place,
    row::{Floor, Round, Row, Scale},
    target::Kind,
};

pub(crate) const ROW: Row = Row {
    name: "held",
    what: "last tenth of 500,000 jobs, a transaction held; over the first",
    floor: |kind| (kind == Kind::Postgres).then_some(Floor::Part(0.9)),
    own_server: true,
    most_rounds: 1,
    measure: |scale| Box::pin(measure(scale)),
    ..Row::PLAIN
};

const PARTS: u64 = 10;

async fn measure(scale: &Scale) -> anyhow::Result<Round> {
    let server = scale.target.postgres().context("it holds a transaction on its own server")?;
    let place = Place::new(scale)?;
    let app = place.app().await?;
    let (client, connection) = connect(&server.database(), NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class").await?;
    let (mut first, mut last) = (None, None);
    for _ in 0..PARTS {
        let rate = jobs::through(scale, &app, scale.of(500_000) / PARTS).await?;
        first.get_or_insert(rate.per_second);
        last = Some(rate);
    }
    client.batch_execute("COMMIT").await?;
    Ok(last.expect("there are parts").over(first))
}
