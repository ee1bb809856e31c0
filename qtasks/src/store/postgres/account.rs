//! What a role may do, and the line of SQL that gives it a right that it lacks.

use tokio_postgres::{
    config::SslMode,
    error::{DbError, SqlState},
};

use super::url::StoreUrl;

/// What an operator can do when the server has refused a statement or a connection, where that is known.
pub(super) fn mend(said: &DbError, url: &StoreUrl) -> Option<String> {
    let role = url.role();
    match *said.code() {
        SqlState::INSUFFICIENT_PRIVILEGE => Some(grant(said.message(), said.severity() == "FATAL", url)),
        SqlState::READ_ONLY_SQL_TRANSACTION => Some(to_write(url)),
        SqlState::UNDEFINED_DATABASE => Some(format!("`CREATE DATABASE {}` makes it", url.name())),
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION if said.message().contains("log in") => {
            Some(format!("`ALTER ROLE {role} LOGIN` allows it"))
        }
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION
            if said.message().contains("no encryption") && url.config.get_ssl_mode() == SslMode::Disable =>
        {
            Some("does the server want TLS? then write `?sslmode=require`".to_owned())
        }
        _ => None,
    }
}

/// How an operator lets a role write that may only read.
pub(super) fn to_write(url: &StoreUrl) -> String {
    let set = format!("`ALTER ROLE {} SET default_transaction_read_only = off`", url.role());
    format!("it is a standby, or it is set so: {set} lets the role write")
}

/// How an operator lets a role make the tables, in a schema that `is_there` or together with the schema.
pub(super) fn to_make(url: &StoreUrl, is_there: bool) -> String {
    let (role, schema) = (url.role(), &url.schema);
    let line = if is_there {
        format!("GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}")
    } else {
        format!("GRANT CREATE ON DATABASE {} TO {role}", url.name())
    };
    format!("`{line}` allows it, once; or let a role open the store first that may")
}

/// The line that gives the missing right. A server that speaks another language does not say which right it is.
fn grant(message: &str, is_connecting: bool, url: &StoreUrl) -> String {
    let (role, schema) = (url.role(), &url.schema);
    let usage = format!("GRANT USAGE ON SCHEMA {schema} TO {role}");
    let tables = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}");
    match message.split_once(" denied for ").and_then(|(_, of)| of.split(' ').next()) {
        Some("database") if is_connecting => {
            format!("`GRANT CONNECT ON DATABASE {} TO {role}` allows it", url.name())
        }
        Some("database") => to_make(url, false),
        Some("schema") => format!("`{usage}` allows it"),
        Some("table" | "relation" | "view") => format!("`{tables}` allows it"),
        Some("function") => format!("`GRANT EXECUTE ON FUNCTION {schema}.enqueue TO {role}` allows it"),
        _ => format!("`{usage}; {tables}` gives what a worker needs"),
    }
}
