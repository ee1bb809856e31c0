//! What the stores give by themselves: the baselines.

pub(crate) mod sqlite;

mod postgres;
mod redis;

use crate::{place::Place, row::Scale};

/// Arguments, or whatever is stored, of about 100 bytes.
pub(crate) fn filling() -> String {
    "x".repeat(88)
}

/// Jobs a second that are inserted, claimed and completed, a hundred in a commit: three commits for a hundred jobs. Not on a
/// server that others use.
pub(crate) async fn lives(scale: &Scale, place: &Place, count: u64) -> anyhow::Result<Option<f64>> {
    let lives = sqlite::on(scale, || sqlite::lives(place, count))?;
    Ok(match (lives, scale.target.redis(), scale.target.postgres()) {
        (None, Some(server), _) => Some(redis::lives(server, count).await?),
        (None, _, Some(server)) => Some(postgres::lives(server, count).await?),
        (lives, ..) => lives,
    })
}
