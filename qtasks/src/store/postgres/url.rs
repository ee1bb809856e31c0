//! The URL of a store, which says which database it is, and how to connect:
//! `postgres://USER:PASSWORD@HOST/DATABASE?schema=jobs&connections=4`.

use std::{borrow::Cow, fmt, path::PathBuf, time::Duration};

use tokio_postgres::config::{Config, Host, SslMode};

use crate::{
    error::{Error, Result, chain},
    store::secret::{self, Parts},
};

const OPENING: &str = "open its database";
/// The longest time that an answer to a renewal may take. Leases last 3 s, and their connection must be given up early enough
/// for another try.
const OF_SESSIONS: Duration = Duration::from_millis(1_500);
/// How much longer than a handler may take its transaction may be idle.
const IDLE: Duration = Duration::from_secs(2);

/// What the URL of a store says.
#[derive(Clone)]
pub(super) struct StoreUrl {
    /// The configuration of connections that calls share.
    pub(super) config: Config,
    /// The configuration of connections on which handlers run. The server plans their statements as it does for any client.
    pub(super) of_handlers: Config,
    /// The configuration of the connection on which leases are renewed.
    pub(super) of_sessions: Config,
    /// The schema that all of qtasks stands in.
    pub(super) schema: String,
    /// How many connections calls share.
    pub(super) connections: usize,
    /// How long a call may take.
    pub(super) patience: Duration,
    /// Whether connections go through a pooler that gives each transaction another session.
    pub(super) pooled: bool,
    pub(super) trust: Trust,
}

/// Which certificates of the server are good, where the connection is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Any certificate, as libpq does for `prefer` and `require`. The connection cannot be listened in on, except by an
    /// attacker who stands in for the server.
    AnyCertificate,
    /// Certificates that the system trusts.
    System,
    /// Certificates that those in this file vouch for.
    File(PathBuf),
}

impl StoreUrl {
    pub(super) fn parse(url: &str) -> Result<Self> {
        let Some(parts) = secret::parts(url) else {
            let form = "a URL of Postgres looks like `postgres://USER:PASSWORD@HOST/DATABASE`";
            return refuse(if url.contains("://") { secret::UNCLEAR } else { form }.to_owned());
        };
        let mut parsed = Self {
            config: Config::new(),
            of_handlers: Config::new(),
            of_sessions: Config::new(),
            schema: "qtasks".to_owned(),
            connections: 8,
            patience: Duration::from_secs(10),
            pooled: false,
            trust: Trust::AnyCertificate,
        };
        let set = parsed.set_all(&parts);
        if set.is_err() && !parts.can_be_shown {
            return refuse("one of the parameters of its URL is not understood".to_owned());
        }
        set?;
        parsed.complete()?;
        Ok(parsed)
    }

    fn set_all(&mut self, parts: &Parts<'_>) -> Result<()> {
        let (mut theirs, mut encrypted) = (Vec::new(), None);
        for &(name, value) in &parts.parameters {
            match name {
                "sslmode" => encrypted = Some(value),
                "sslrootcert" => self.trust = Trust::File(value.into()),
                _ if self.set(name, value)? => {}
                _ => theirs.push(format!("{name}={value}")),
            }
        }
        // The driver takes the first `@` for the end of the password.
        let user = parts.user.map(|user| user.replace('@', "%40") + "@").unwrap_or_default();
        let url = format!("postgres://{user}{}{}?{}", parts.hosts, parts.path, theirs.join("&"));
        let not_understood = |error| format!("its URL is not understood: {}", chain(&error));
        self.config = url.parse().map_err(|error| Error::store(OPENING, not_understood(error)))?;
        self.encrypt(encrypted)
    }

    /// The role of the connections, for lines of SQL that an operator can run.
    pub(super) fn role(&self) -> String {
        self.config.get_user().map_or_else(|| "ROLE".to_owned(), quoted)
    }

    /// The name of the database, as SQL writes it.
    pub(super) fn name(&self) -> String {
        self.config.get_dbname().or(self.config.get_user()).map_or_else(|| "DATABASE".to_owned(), quoted)
    }

    /// The statement for the schema of this store.
    pub(super) fn sql<'s>(&self, sql: &'s str) -> Cow<'s, str> {
        in_schema(&self.schema, sql)
    }

    /// How long an answer may take on the connection on which leases are renewed.
    pub(super) fn patience_of_sessions(&self) -> Duration {
        self.patience.min(OF_SESSIONS)
    }

    /// Takes a parameter that is one of qtasks, and not of the driver. Gives whether it is.
    fn set(&mut self, name: &str, value: &str) -> Result<bool> {
        match name {
            "schema" if is_name(value) => self.schema = value.to_owned(),
            "schema" => {
                return refuse(format!("`schema` is made of up to 40 of `a-z`, `0-9` and `_`, not `{value}`"));
            }
            "connections" => match value.parse() {
                Ok(connections) if connections > 0 => self.connections = connections,
                _ => return refuse(format!("`connections` is a number from 1 on, not `{value}`")),
            },
            "timeout" => match value.parse() {
                Ok(seconds) if (1..=3_600).contains(&seconds) => self.patience = Duration::from_secs(seconds),
                _ => return refuse(format!("`timeout` is a number of seconds up to 3600, not `{value}`")),
            },
            "pooler" if value == "transaction" => self.pooled = true,
            "pooler" => return refuse(format!("`pooler` is `transaction`, or left out, not `{value}`")),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn encrypt(&mut self, mode: Option<&str>) -> Result<()> {
        let mode = match mode {
            Some("disable") => SslMode::Disable,
            None if self.trust != Trust::AnyCertificate => SslMode::Require,
            None | Some("prefer") => SslMode::Prefer,
            Some("require") => SslMode::Require,
            Some("verify-full") => {
                if self.trust == Trust::AnyCertificate {
                    self.trust = Trust::System;
                }
                SslMode::Require
            }
            Some(other) => {
                return refuse(format!("`sslmode` is `disable`, `prefer`, `require` or `verify-full`, not `{other}`"));
            }
        };
        self.config.ssl_mode(mode);
        Ok(())
    }

    /// The configuration of the connection on which leases are renewed. A renewal does not wait for the disk: if a crash of
    /// the server takes it back, the next one follows. Nor does it wait long for a row that another process has locked,
    /// since other renewals wait behind it.
    fn of_sessions(&self, ours: &str, theirs: &str) -> Config {
        let patience = self.patience_of_sessions();
        let (statement, lock) = ((patience * 4 / 5).as_millis(), (patience / 2).as_millis());
        let limits = format!("-c synchronous_commit=off -c statement_timeout={statement} -c lock_timeout={lock}");
        let mut config = self.config.clone();
        config.options(format!("{ours} {limits}{theirs}"));
        let theirs = config.get_connect_timeout().copied();
        config.connect_timeout(theirs.map_or(patience, |theirs| theirs.min(patience)));
        config
    }

    /// Fills in what the URL leaves open.
    fn complete(&mut self) -> Result<()> {
        if self.config.get_hosts().is_empty() && self.config.get_hostaddrs().is_empty() {
            return refuse("its URL names no host; say `postgres://USER@HOST/DATABASE`".to_owned());
        }
        let config = &mut self.config;
        if config.get_application_name().is_none() {
            config.application_name("qtasks");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(self.patience.min(Duration::from_secs(5)));
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(self.patience);
        }
        if !self.pooled {
            let theirs = config.get_options().map(|theirs| format!(" {theirs}")).unwrap_or_default();
            // A statement whose caller has given up ends too, and so does a transaction whose caller is gone: otherwise the
            // server may notice hours later, and holds its locks until then.
            let all = format!(
                "-c default_transaction_isolation=read\\ committed -c lock_timeout=0 -c statement_timeout={}",
                self.patience.as_millis()
            );
            // If a process with an open transaction stands still, others do not wait for it longer than this.
            let idle = (self.patience + IDLE).as_millis();
            self.of_handlers = config.clone();
            self.of_handlers.options(format!("{all} -c idle_in_transaction_session_timeout={idle}{theirs}"));
            // The contents of the tables change faster than the statistics, and then a plan without their indexes looks
            // cheap. Besides, planning takes longer than running the statement.
            let ours = "-c enable_seqscan=off -c enable_bitmapscan=off -c enable_mergejoin=off -c jit=off \
                        -c plan_cache_mode=force_generic_plan";
            let idle = self.patience.as_millis();
            config.options(format!("{ours} {all} -c idle_in_transaction_session_timeout={idle}{theirs}"));
            self.of_sessions = self.of_sessions(&format!("{ours} {all}"), &theirs);
        }
        Ok(())
    }
}

/// The statement for `schema`, which the text of the statement names `qtasks`.
pub(super) fn in_schema<'s>(schema: &str, sql: &'s str) -> Cow<'s, str> {
    if schema == "qtasks" { sql.into() } else { sql.replace("qtasks.", &format!("\"{schema}\".")).into() }
}

/// A name as SQL writes it: in quotes where it needs them.
fn quoted(name: &str) -> String {
    if is_name(name) { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn is_name(text: &str) -> bool {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    !text.is_empty() && text.len() <= 40 && text.chars().all(known) && !text.starts_with(|c: char| c.is_ascii_digit())
}

/// Displays the URL without the password.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = self.config.get_user() {
            write!(f, "{user}@")?;
        }
        for (index, host) in self.config.get_hosts().iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}")?,
                #[cfg(unix)]
                Host::Unix(path) => write!(f, "{comma}{}", path.display())?,
            }
            let ports = self.config.get_ports();
            if let Some(port) = ports.get(index).or(ports.first()) {
                write!(f, ":{port}")?;
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())?;
        if self.schema != "qtasks" {
            write!(f, "?schema={}", self.schema)?;
        }
        Ok(())
    }
}

fn refuse<T>(why: String) -> Result<T> {
    Err(Error::store(OPENING, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_database_and_is_shown_without_its_password() {
        for (url, shown) in [
            ("postgres://me:secret@db.example:5433/app", "postgres://me@db.example:5433/app"),
            ("postgresql://me:secret@a,b/app?schema=jobs", "postgres://me@a:5432,b:5432/app?schema=jobs"),
            ("postgres://me@%2Frun%2Fpostgresql/app", "postgres://me@/run/postgresql:5432/app"),
            ("postgres:///app?host=db&user=me&password=secret", "postgres://me@db/app"),
        ] {
            let url = StoreUrl::parse(url).unwrap();
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{:?}", url.config).contains("secret"));
        }
    }

    #[test]
    fn parameters_say_how() {
        let plain = StoreUrl::parse("postgres://me@db/app").unwrap();
        assert_eq!((&*plain.schema, plain.connections, plain.pooled), ("qtasks", 8, false));
        assert_eq!((plain.patience, plain.config.get_ssl_mode()), (Duration::from_secs(10), SslMode::Prefer));
        let url = StoreUrl::parse(
            "postgres://me@db/app?schema=jobs&connections=3&timeout=60&pooler=transaction&sslmode=require",
        )
        .unwrap();
        assert_eq!((&*url.schema, url.connections, url.pooled), ("jobs", 3, true));
        assert_eq!((url.patience, url.config.get_ssl_mode()), (Duration::from_mins(1), SslMode::Require));
        assert_eq!(url.config.get_options(), None, "poolers refuse them");
    }

    #[test]
    fn leases_are_renewed_on_a_connection_that_is_given_up_before_they_run_out() {
        for (timeout, patience, statement) in [("10", 1_500, "1200"), ("1", 1_000, "800")] {
            let url = StoreUrl::parse(&format!("postgres://me@db/app?timeout={timeout}")).unwrap();
            let patience = Duration::from_millis(patience);
            assert_eq!(url.patience_of_sessions(), patience);
            assert_eq!(url.of_sessions.get_connect_timeout(), Some(&patience));
            let options = url.of_sessions.get_options().unwrap();
            assert!(options.contains(&format!("-c statement_timeout={statement} ")), "{options}");
        }
    }

    #[test]
    fn certificates_are_checked_where_that_is_asked_for() {
        for (parameters, mode, trust) in [
            ("sslmode=disable", SslMode::Disable, Trust::AnyCertificate),
            ("sslmode=require", SslMode::Require, Trust::AnyCertificate),
            ("sslmode=verify-full", SslMode::Require, Trust::System),
            ("sslrootcert=ca.pem", SslMode::Require, Trust::File("ca.pem".into())),
            ("sslmode=verify-full&sslrootcert=ca.pem", SslMode::Require, Trust::File("ca.pem".into())),
        ] {
            let url = StoreUrl::parse(&format!("postgres://me@db/app?{parameters}")).unwrap();
            assert_eq!((url.config.get_ssl_mode(), url.trust), (mode, trust), "{parameters}");
        }
    }

    #[test]
    fn what_a_url_cannot_mean_is_said_without_its_password() {
        for (parameters, said) in [
            ("?schema=Jobs", "`schema` is made of up to 40 of `a-z`, `0-9` and `_`, not `Jobs`"),
            ("?connections=0", "`connections` is a number from 1 on, not `0`"),
            ("?timeout=long", "`timeout` is a number of seconds up to 3600, not `long`"),
            ("?pooler=session", "`pooler` is `transaction`, or left out, not `session`"),
            ("?sslmode=maybe", "`sslmode` is `disable`, `prefer`, `require` or `verify-full`, not `maybe`"),
            ("?fast=yes", "its URL is not understood: invalid connection string: unknown option `fast`"),
        ] {
            let said = format!("the store could not open its database: {said}");
            let refused = StoreUrl::parse(&format!("postgres://me:secret@db/app{parameters}")).err().unwrap();
            assert!(chain(&refused).starts_with(&said), "{refused:?}");
            assert!(!chain(&refused).contains("secret"));
        }
        let refused = StoreUrl::parse("postgres:///app").err().unwrap();
        assert_eq!(
            chain(&refused),
            "the store could not open its database: its URL names no host; say `postgres://USER@HOST/DATABASE`"
        );
    }
}
