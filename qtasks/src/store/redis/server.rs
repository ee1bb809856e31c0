//! Whether a server can keep jobs, and the warnings at the start if it may lose some.

use std::collections::HashMap;

use redis::{Value, cmd};

use super::{account, connection::Link, error::Fault, url::StoreUrl};
use crate::error::{Error, Result};

/// The oldest version of Redis that has all commands of the scripts.
const OLDEST: (u32, u32) = (6, 2);
/// The number of the format in which jobs stand on the server.
pub(super) const FORMAT: i64 = 5;
/// The oldest format that scripts turn into this one.
const OLDEST_FORMAT: i64 = 2;

/// Checks the server. Gives warnings of what it may lose.
pub(super) async fn check(link: &Link) -> Result<Vec<String>> {
    let failed = |fault: Fault| Error::store("connect to its server", fault);
    let facts = Facts::of(link).await.map_err(failed)?;
    let store = link.url.to_string();
    if facts.version().is_some_and(|version| version < OLDEST) {
        let why =
            format!("it is Redis {}, and {}.{} or newer is needed", facts.info("redis_version"), OLDEST.0, OLDEST.1);
        return Err(Error::ForeignStore { store, why });
    }
    let key = format!("{}format", link.url.prefix);
    let (mut set, mut get) = (cmd("SETNX"), cmd("GET"));
    let get = get.arg(&key);
    let found = match link.ask::<Option<i64>>(get).await.map_err(failed)? {
        Some(found) => found,
        None => {
            link.ask::<()>(set.arg(&key).arg(FORMAT)).await.map_err(failed)?;
            // Another process may just have set it.
            link.ask(get).await.map_err(failed)?
        }
    };
    if found > FORMAT {
        return Err(Error::NewerStore { store, found, known: FORMAT });
    }
    if found < OLDEST_FORMAT {
        let why = format!("it has the format {found}, which was never released; use another `app`");
        return Err(Error::ForeignStore { store, why });
    }
    migrate(link).await.map_err(failed)?;
    Ok(facts.warnings().into_iter().chain(facts.silence(&link.url)).collect())
}

/// Brings jobs of older formats into this one, some at a time, so that other calls wait for none of it long. Each program that
/// opens the store does so until all are there, and goes on where another one was interrupted.
pub(super) async fn migrate(link: &Link) -> std::result::Result<(), Fault> {
    let mut begin = link.call(|scripts| &scripts.migrate);
    link.ask::<()>(begin.arg(FORMAT)).await?;
    while link.ask::<bool>(&link.call(|scripts| &scripts.take_over)).await? {}
    Ok(())
}

/// What a server says of itself.
#[derive(Debug, Default)]
struct Facts {
    info: HashMap<String, String>,
    /// The setting `save`, unless the server keeps its configuration to itself, as some services do.
    save: Option<String>,
    /// The setting `appendfsync`, unless the server keeps its configuration to itself.
    appendfsync: Option<String>,
    /// The rights that the account would need for the rest of the facts.
    denied: Vec<&'static str>,
}

impl Facts {
    async fn of(link: &Link) -> std::result::Result<Self, Fault> {
        let mut denied = Vec::new();
        let info = match link.ask(&cmd("INFO")).await {
            Ok(said) => read_info(said),
            Err(fault) if account::is_kept_secret(&fault) => {
                denied.extend(account::is_denied(&fault).then_some("+info"));
                HashMap::new()
            }
            Err(fault) => return Err(fault),
        };
        let settings = [configured(link, "save").await, configured(link, "appendfsync").await];
        if settings.iter().any(|setting| setting.as_ref().is_err_and(account::is_denied)) {
            denied.push("+config|get");
        }
        let [save, appendfsync] = settings.map(|setting| setting.ok().flatten());
        Ok(Self { info, save, appendfsync, denied })
    }

    fn info(&self, name: &str) -> &str {
        self.info.get(name).map_or("", String::as_str)
    }

    fn version(&self) -> Option<(u32, u32)> {
        let mut parts = self.info("redis_version").split('.').map(str::parse);
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.info.is_empty() {
            return warnings;
        }
        let appends = self.info("aof_enabled") == "1";
        match (appends, self.appendfsync.as_deref(), self.save.as_deref()) {
            (true, Some("everysec"), _) => warnings.push(
                "the server may lose the last second when it ends without notice; to lose nothing: appendfsync always"
                    .to_owned(),
            ),
            (true, Some("no"), _) => warnings.push(
                "the server may lose what the operating system has not written yet; to lose nothing: appendfsync always"
                    .to_owned(),
            ),
            (false, _, Some("")) => warnings.push(
                "the server keeps jobs in memory only and forgets them when it ends; to keep them: appendonly yes"
                    .to_owned(),
            ),
            (false, ..) => warnings.push(
                "the server may lose all that came after its last snapshot; to lose less: appendonly yes".to_owned(),
            ),
            _ => {}
        }
        let policy = self.info("maxmemory_policy");
        if !policy.is_empty() && policy != "noeviction" {
            warnings.push(format!(
                "the server may delete jobs when its memory is full (maxmemory-policy {policy}); to refuse new ones \
                 instead: maxmemory-policy noeviction"
            ));
        }
        warnings
    }

    /// The warning that it is not known whether the server may lose jobs, with the line that lets the store find out.
    fn silence(&self, url: &StoreUrl) -> Option<String> {
        let unknown = "whether the server may lose jobs is not known";
        match &self.denied[..] {
            [] if self.info.is_empty() => Some(format!("{unknown}, since it does not answer `INFO`")),
            [] => None,
            rights => Some(format!(
                "{unknown} for sure, since it may not be asked: {}",
                account::line(url, &rights.join(" "))
            )),
        }
    }
}

fn read_info(said: Value) -> HashMap<String, String> {
    let text = match said {
        Value::BulkString(text) => String::from_utf8_lossy(&text).into_owned(),
        Value::VerbatimString { text, .. } => text,
        _ => String::new(),
    };
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.to_owned(), value.trim_end().to_owned())).collect()
}

/// A setting, if the server has it.
pub(super) async fn configured(link: &Link, name: &str) -> std::result::Result<Option<String>, Fault> {
    let mut ask = cmd("CONFIG");
    let settings: HashMap<String, String> = link.ask(ask.arg("GET").arg(name)).await?;
    Ok(settings.into_values().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(info: &[(&str, &str)], save: &str, appendfsync: &str) -> Facts {
        let info = info.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let [save, appendfsync] = [save, appendfsync].map(|setting| Some(setting.to_owned()));
        Facts { info, save, appendfsync, denied: Vec::new() }
    }

    #[test]
    fn a_server_that_may_forget_or_evict_is_warned_of() {
        for (append, save, fsync, policy, warned) in [
            ("1", "", "always", "noeviction", vec![]),
            (
                "1",
                "",
                "everysec",
                "noeviction",
                vec![
                    "the server may lose the last second when it ends without notice; to lose nothing: appendfsync always",
                ],
            ),
            (
                "1",
                "3600 1",
                "no",
                "",
                vec![
                    "the server may lose what the operating system has not written yet; to lose nothing: appendfsync always",
                ],
            ),
            (
                "0",
                "",
                "everysec",
                "noeviction",
                vec![
                    "the server keeps jobs in memory only and forgets them when it ends; to keep them: appendonly yes",
                ],
            ),
            (
                "0",
                "3600 1",
                "everysec",
                "allkeys-lru",
                vec![
                    "the server may lose all that came after its last snapshot; to lose less: appendonly yes",
                    "the server may delete jobs when its memory is full (maxmemory-policy allkeys-lru); to refuse new \
                     ones instead: maxmemory-policy noeviction",
                ],
            ),
        ] {
            let facts = facts(&[("aof_enabled", append), ("maxmemory_policy", policy)], save, fsync);
            assert_eq!(facts.warnings(), warned, "appendonly {append}, save {save}, appendfsync {fsync}");
        }
    }

    #[test]
    fn a_server_that_keeps_its_configuration_to_itself_is_judged_by_the_rest() {
        let facts = Facts { info: [("aof_enabled".to_owned(), "1".to_owned())].into(), ..Facts::default() };
        assert_eq!(facts.warnings(), Vec::<String>::new());
    }

    #[test]
    fn versions_are_compared_by_number() {
        for (version, is_old) in
            [("6.0.16", true), ("6.2.0", false), ("7.0.15", false), ("10.0.0", false), ("5.0", true)]
        {
            let facts = facts(&[("redis_version", version)], "", "");
            assert_eq!(facts.version().unwrap() < OLDEST, is_old, "{version}");
        }
    }
}
