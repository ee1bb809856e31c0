//! Whether a server can be a store.

use super::{encoding, pool::Database};
use crate::error::{Error, Result};

const ASKED: &str = "
    SELECT current_setting('server_version_num')::int8, current_setting('server_version'),
        current_setting('server_encoding'), pg_is_in_recovery(), current_setting('fsync') = 'on',
        current_setting('full_page_writes') = 'on', current_setting('synchronous_commit') <> 'off',
        current_setting('enable_mergejoin') = 'on'";

const UNSAID: &str = "these connections to Postgres go through a pooler, such as PgBouncer, that does not pass on their \
                      settings; say so with `?pooler=transaction`, and give workers a URL that leads past it";

/// Refuses a server that cannot be a store, and warns of one that may lose commits.
pub(super) async fn check(database: &Database) -> Result<()> {
    let rows = match database.query(ASKED, &[]).await {
        Err(fault) if fault.is_of_a_pooler() => return Err(Error::Unsupported(UNSAID)),
        rows => rows.map_err(|fault| fault.into_error("reach its database"))?,
    };
    let unread = |fault: super::error::Fault| fault.into_error("read what its server is");
    let row = &rows[0];
    let refuse = |why: String| Err(Error::ForeignStore { store: database.place.to_string(), why });
    if encoding::get::<i64>(row, 0).map_err(unread)? < 130_000 {
        let version: &str = encoding::get(row, 1).map_err(unread)?;
        return refuse(format!("it is Postgres {version}, and qtasks needs 13 or newer"));
    }
    let encoding: &str = encoding::get(row, 2).map_err(unread)?;
    if encoding != "UTF8" {
        return refuse(format!("its encoding is {encoding}, and qtasks needs UTF8"));
    }
    if encoding::get(row, 3).map_err(unread)? {
        return refuse("the server is a standby, which can only be read".to_owned());
    }
    // All connections of the store switch it off.
    if !database.place.pooled && encoding::get(row, 7).map_err(unread)? {
        return Err(Error::Unsupported(UNSAID));
    }
    for (column, setting, lost) in [
        (4, "fsync", "a crash of the server's machine may lose or break the whole database"),
        (5, "full_page_writes", "a crash of the server's machine may break the whole database"),
        (6, "synchronous_commit", "a crash of the server may lose the last commits"),
    ] {
        if !encoding::get::<bool>(row, column).map_err(unread)? {
            tracing::warn!(place = %database.place, "Postgres runs with `{setting} = off`: {lost}");
        }
    }
    Ok(())
}
