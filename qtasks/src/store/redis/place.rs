//! Which server, and which application on it: `redis://USER:PASSWORD@HOST:PORT/DATABASE?app=NAME&timeout=SECONDS`.

use std::{fmt, time::Duration};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion};

use crate::error::{Error, Result};

/// What the URL of a store says. Shown without the password.
#[derive(Clone)]
pub(super) struct Place {
    info: ConnectionInfo,
    /// What every key begins with: in braces, so that all of them stand on one node of a cluster.
    pub(super) prefix: String,
    /// How long a call waits for the server.
    pub(super) patience: Duration,
}

impl Place {
    pub(super) fn parse(url: &str) -> Result<Self> {
        let (server, parameters) = url.split_once('?').unwrap_or((url, ""));
        if !server.contains("://") {
            return refuse("a URL of Redis looks like `redis://localhost:6379`".into());
        }
        let Ok(info) = server.into_connection_info() else {
            return refuse("a URL of Redis looks like `redis://USER:PASSWORD@HOST:PORT/DATABASE`".into());
        };
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let info = info.set_redis_settings(settings);
        let mut place = Self { info, prefix: "{qtasks}:".into(), patience: Duration::from_secs(5) };
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            place.set(parameter)?;
        }
        Ok(place)
    }

    fn set(&mut self, parameter: &str) -> Result<()> {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name {
            "app" if value.is_empty() || value.contains(['{', '}']) => {
                return refuse(format!("`app` is the name of an application, without braces, not `{value}`"));
            }
            "app" => self.prefix = format!("{{{value}}}:"),
            "timeout" => match value.parse() {
                Ok(seconds @ 1..) => self.patience = Duration::from_secs(seconds),
                _ => return refuse(format!("`timeout` is a number of seconds from 1 on, not `{value}`")),
            },
            _ => return refuse(format!("no parameter `{name}`; there are `app=NAME` and `timeout=SECONDS`")),
        }
        Ok(())
    }

    /// The same server for calls that wait no longer than this.
    pub(super) fn within(self, patience: Duration) -> Self {
        Self { patience: self.patience.min(patience), ..self }
    }

    /// How to connect: to the node of a cluster that is known to have the keys, or to the server of the URL.
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

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.info.addr())
    }
}

fn refuse<T>(why: String) -> Result<T> {
    Err(Error::store("find its server", why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;

    #[test]
    fn a_url_names_the_server_the_application_and_how_long_to_wait() {
        let place = Place::parse("redis://me:secret@db:7000/3?app=shop&timeout=9").unwrap();
        assert_eq!((place.prefix.as_str(), place.patience), ("{shop}:", Duration::from_secs(9)));
        assert_eq!(place.to_string(), "db:7000");
        let settings = place.info.redis_settings();
        assert_eq!((settings.username(), settings.password(), settings.db()), (Some("me"), Some("secret"), 3));
        let place = Place::parse("redis://localhost").unwrap();
        assert_eq!((place.to_string().as_str(), place.prefix.as_str()), ("localhost:6379", "{qtasks}:"));
        assert_eq!(place.info(Some(&("node".into(), 7))).addr().to_string(), "node:7");
    }

    #[test]
    fn a_wrong_url_is_told_what_it_could_be() {
        for (url, why) in [
            ("redis:localhost", "a URL of Redis looks like `redis://localhost:6379`"),
            ("redis://:secret@:x", "a URL of Redis looks like `redis://USER:PASSWORD@HOST:PORT/DATABASE`"),
            ("redis://db?app=", "`app` is the name of an application, without braces, not ``"),
            ("redis://db?app={a}", "`app` is the name of an application, without braces, not `{a}`"),
            ("redis://db?timeout=0", "`timeout` is a number of seconds from 1 on, not `0`"),
            ("redis://db?tag=a", "no parameter `tag`; there are `app=NAME` and `timeout=SECONDS`"),
        ] {
            let error = Place::parse(url).err().unwrap();
            assert_eq!(chain(&error), format!("the store could not find its server: {why}"));
        }
    }
}
