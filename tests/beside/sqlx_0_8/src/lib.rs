//! qtasks and sqlx 0.8 in one program.

#[cfg(test)]
#[path = "../../enqueueing.rs"]
mod enqueueing;

/// A statement that was made at run time, as this version takes it.
#[cfg(test)]
fn safe(sql: &str) -> &str {
    sql
}
