//! The URL of a store, which says which server it is, and which application on it:
//! `redis://USER:PASSWORD@HOST:PORT/DATABASE?app=NAME&timeout=SECONDS`.

use std::{fmt, path::Path, time::Duration};

use redis::{ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo as _, ProtocolVersion, RedisError};

use crate::{
    error::{Error, Result, chain},
    store::secret,
};

const PARAMETERS: &str = "there are `app=NAME`, `timeout=SECONDS` and `sslrootcert=FILE`";

/// What the URL of a store says. It is displayed without the password.
#[derive(Clone)]
pub(super) struct StoreUrl {
    info: ConnectionInfo,
    /// What every key begins with. It is in braces, so that all keys stand on one node of a cluster.
    pub(super) prefix: String,
    /// How long a call waits for the server.
    pub(super) patience: Duration,
}

impl StoreUrl {
    pub(super) fn parse(url: &str) -> Result<Self> {
        if !url.contains("://") {
            return refuse("a URL of Redis looks like `redis://localhost:6379`".into());
        }
        let Some(parts) = secret::parts(url) else { return refuse(secret::UNCLEAR.into()) };
        let server = url.split('?').next().unwrap_or_default();
        let Ok(info) = server.into_connection_info() else {
            return refuse("a URL of Redis looks like `redis://USER:PASSWORD@HOST:PORT/DATABASE`".into());
        };
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let info = info.set_redis_settings(settings);
        let mut parsed = Self { info, prefix: "{qtasks}:".into(), patience: Duration::from_secs(5) };
        for (name, value) in parts.parameters {
            match parsed.set(name, value) {
                Err(_) if !parts.can_be_shown => {
                    return refuse(format!("{PARAMETERS}; a password stands before the host: `USER:PASSWORD@HOST`"));
                }
                set => set?,
            }
        }
        Ok(parsed)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "app" if value.is_empty() || value.contains(['{', '}']) => {
                return refuse(format!("`app` is the name of an application, without braces, not `{value}`"));
            }
            "app" => self.prefix = format!("{{{value}}}:"),
            "timeout" => match value.parse() {
                Ok(seconds @ 1..) => self.patience = Duration::from_secs(seconds),
                _ => return refuse(format!("`timeout` is a number of seconds from 1 on, not `{value}`")),
            },
            "sslrootcert" if self.is_encrypted() => self.info = trusting(self.info.clone(), Path::new(value))?,
            "sslrootcert" => return refuse("`sslrootcert` goes with `rediss://`, which is encrypted".into()),
            _ => return refuse(format!("no parameter `{name}`; {PARAMETERS}")),
        }
        Ok(())
    }

    /// The same server, for calls that wait no longer than `patience`.
    pub(super) fn within(self, patience: Duration) -> Self {
        Self { patience: self.patience.min(patience), ..self }
    }

    /// The account on the server.
    pub(super) fn account(&self) -> &str {
        self.info.redis_settings().username().unwrap_or("default")
    }

    /// The channel for notifications.
    pub(super) fn channel(&self) -> String {
        format!("{}news", self.prefix)
    }

    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self.info.addr(), ConnectionAddr::TcpTls { .. })
    }

    /// What may be wrong with the URL, where a server is there but has not answered as Redis does.
    pub(super) fn hint(&self, error: &RedisError) -> Option<&'static str> {
        let is_garbled =
            error.kind() == ErrorKind::Parse || error.is_connection_dropped() && !error.is_connection_refusal();
        if self.is_encrypted() {
            let is_plain = chain(error).contains("InvalidContentType");
            return is_plain.then_some("does the server speak TLS? if not, write `redis://`");
        }
        is_garbled.then_some("does the server speak TLS? then write `rediss://`")
    }

    /// How to connect: to `node`, the node of a cluster that is known to have the keys, or to the server of the URL.
    pub(super) fn info(&self, node: Option<&(String, u16)>) -> ConnectionInfo {
        let Some((host, port)) = node.cloned() else { return self.info.clone() };
        let addr = match self.info.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        self.info.clone().set_addr(addr)
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.info.addr())
    }
}

/// The same server, which is trusted if the certificates in this file vouch for it.
#[cfg(feature = "redis-tls")]
fn trusting(info: ConnectionInfo, certificates: &Path) -> Result<ConnectionInfo> {
    super::tls::trusting(info, certificates)
}

#[cfg(not(feature = "redis-tls"))]
fn trusting(info: ConnectionInfo, _: &Path) -> Result<ConnectionInfo> {
    Ok(info)
}

fn refuse<T>(why: String) -> Result<T> {
    Err(Error::store("find its server", why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_the_server_the_application_and_how_long_to_wait() {
        let url = StoreUrl::parse("redis://me:secret@db:7000/3?app=shop&timeout=9").unwrap();
        assert_eq!((url.prefix.as_str(), url.patience), ("{shop}:", Duration::from_secs(9)));
        assert_eq!(url.to_string(), "db:7000");
        let settings = url.info.redis_settings();
        assert_eq!((settings.username(), settings.password(), settings.db()), (Some("me"), Some("secret"), 3));
        let url = StoreUrl::parse("redis://localhost").unwrap();
        assert_eq!((url.to_string().as_str(), url.prefix.as_str()), ("localhost:6379", "{qtasks}:"));
        assert_eq!(url.info(Some(&("node".into(), 7))).addr().to_string(), "node:7");
    }

    #[test]
    fn a_wrong_url_is_told_what_it_could_be() {
        for (url, why) in [
            ("redis:localhost", "a URL of Redis looks like `redis://localhost:6379`"),
            ("redis://:secret@:x", "a URL of Redis looks like `redis://USER:PASSWORD@HOST:PORT/DATABASE`"),
            ("redis://db?app=", "`app` is the name of an application, without braces, not ``"),
            ("redis://db?app={a}", "`app` is the name of an application, without braces, not `{a}`"),
            ("redis://db?timeout=0", "`timeout` is a number of seconds from 1 on, not `0`"),
            ("redis://db?tag=a", "no parameter `tag`; there are `app=NAME`, `timeout=SECONDS` and `sslrootcert=FILE`"),
            ("redis://db?sslrootcert=ca.pem", "`sslrootcert` goes with `rediss://`, which is encrypted"),
            ("redis://me:12/secret@db", secret::UNCLEAR),
            (
                "redis://db?password=secret",
                "there are `app=NAME`, `timeout=SECONDS` and `sslrootcert=FILE`; a password stands before the host: \
                 `USER:PASSWORD@HOST`",
            ),
        ] {
            let error = StoreUrl::parse(url).err().unwrap();
            assert_eq!(chain(&error), format!("the store could not find its server: {why}"));
        }
    }
}
