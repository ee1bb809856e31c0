//! What a role may do, and the line of SQL that gives it what it lacks.

use tokio_postgres::{
    config::SslMode,
    error::{DbError, SqlState},
};

use super::url::StoreUrl;

/// What mends it that the server has refused something, where that is known.
pub(super) fn mend(said: &DbError, place: &StoreUrl) -> Option<String> {
    let role = place.role();
    match *said.code() {
        SqlState::INSUFFICIENT_PRIVILEGE => Some(grant(said.message(), said.severity() == "FATAL", place)),
        SqlState::READ_ONLY_SQL_TRANSACTION => Some(to_write(place)),
        SqlState::UNDEFINED_DATABASE => Some(format!("`CREATE DATABASE {}` makes it", place.name())),
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION if said.message().contains("log in") => {
            Some(format!("`ALTER ROLE {role} LOGIN` allows it"))
        }
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION
            if said.message().contains("no encryption") && place.config.get_ssl_mode() == SslMode::Disable =>
        {
            Some("does the server want TLS? then write `?sslmode=require`".to_owned())
        }
        _ => None,
    }
}

/// What lets a role write that may only read.
pub(super) fn to_write(place: &StoreUrl) -> String {
    let set = format!("`ALTER ROLE {} SET default_transaction_read_only = off`", place.role());
    format!("it is a standby, or it is set so: {set} lets the role write")
}

/// What lets the tables be made, in a schema that is there or with it.
pub(super) fn to_make(place: &StoreUrl, is_there: bool) -> String {
    let (role, schema) = (place.role(), &place.schema);
    let line = if is_there {
        format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}")
    } else {
        format!("GRANT CREATE ON DATABASE {} TO {role}", place.name())
    };
    format!("`{line}` allows it, once; or let a role open the store first that may")
}

/// The line that gives the right that is missing; some servers say which in another language.
fn grant(message: &str, is_connecting: bool, place: &StoreUrl) -> String {
    let (role, schema) = (place.role(), &place.schema);
    let usage = format!("GRANT USAGE ON SCHEMA {schema} TO {role}");
    let tables = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}");
    match message.split_once(" denied for ").and_then(|(_, of)| of.split(' ').next()) {
        Some("database") if is_connecting => {
            format!("`GRANT CONNECT ON DATABASE {} TO {role}` allows it", place.name())
        }
        Some("database") => to_make(place, false),
        Some("schema") => format!("`{usage}` allows it"),
        Some("table" | "relation") => format!("`{tables}` allows it"),
        Some("function") => format!("`GRANT EXECUTE ON FUNCTION {schema}.enqueue TO {role}` allows it"),
        _ => format!("`{usage}; {tables}` gives what a worker needs"),
    }
}
