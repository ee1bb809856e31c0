//! qtasks and sqlx 0.9 in one program; and the page about that.

#[cfg(test)]
#[path = "../../enqueueing.rs"]
mod enqueueing;

/// A statement that was made at run time, as this version takes it.
#[cfg(test)]
fn safe(sql: &str) -> sqlx::AssertSqlSafe<String> {
    sqlx::AssertSqlSafe(sql.to_owned())
}

#[cfg(doctest)]
#[doc = include_str!("../../../../docs/with-sqlx.md")]
struct Page;
