//! What the account on the server may do, and the line that gives it what it lacks.

use redis::RedisError;

use super::{error::Fault, url::StoreUrl};

/// The commands that scripts call, as the rights of an account name them.
pub(super) const OF_SCRIPTS: &str = "append del exists get getrange hdel hget hgetall hincrby hset hsetnx lindex llen lpop lpush lrange ltrim \
                          mget mset msetnx publish rename rpush sadd set setnx setrange smembers smismember srem time unlink \
                          zadd zrange zrangebylex zrangebyscore zrem";

/// What the error of a script says whose command was refused: in Redis 6.2 and 7.0, and from 7.2 on.
const IN_SCRIPTS: [&str; 2] = ["The user executing the script can't", "ACL failure in script"];

pub(super) const FULL: &str = "the memory of the server is full: let it have more (`CONFIG SET maxmemory`), or finished jobs be pruned \
                    sooner; jobs that are there are worked off all the same";

/// Whether the account may not call this command.
pub(super) fn is_denied(fault: &Fault) -> bool {
    matches!(fault, Fault::Refused { error, .. } if error.code() == Some("NOPERM"))
}

/// Whether the server answers this command for no account, or not for this one.
pub(super) fn is_kept_secret(fault: &Fault) -> bool {
    let is_unknown = |error: &RedisError| error.detail().is_some_and(|detail| detail.contains("unknown command"));
    is_denied(fault) || matches!(fault, Fault::Redis(error) if is_unknown(error))
}

/// The line with which an operator gives the account these rights.
pub(super) fn line(url: &StoreUrl, rights: &str) -> String {
    format!("`ACL SETUSER {} {rights}` allows it", url.account())
}

/// The hint for a connection that the server refused, if there is one.
pub(super) fn of_connecting(error: &RedisError, url: &StoreUrl) -> Option<String> {
    let detail = error.detail().unwrap_or_default();
    right(detail, url).map(|right| line(url, &right))
}

/// The right that the account lacks, where the server says which.
pub(super) fn right(detail: &str, url: &StoreUrl) -> Option<String> {
    let named = |(_, rest): (&str, &str)| rest.split_once('\'').map(|(command, _)| format!("+{command}"));
    if let Some(right) = detail.split_once("permissions to run the '").and_then(named) {
        return Some(right);
    }
    let is_refused = detail.contains("permissions to access") || is_of_a_script(detail);
    if is_refused && detail.contains("channel") {
        return Some(format!("&{}", url.channel()));
    }
    (is_refused && detail.contains("key")).then(|| format!("~{}*", url.prefix))
}

/// Whether this is the error of a script whose command was refused.
pub(super) fn is_of_a_script(detail: &str) -> bool {
    IN_SCRIPTS.iter().any(|said| detail.contains(said))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The commands that sources call by `marks`, each up to the next quote.
    fn called(sources: &[&str], marks: &[&str]) -> BTreeSet<String> {
        let calls = |(source, mark): (&str, &str)| {
            source
                .split(mark)
                .skip(1)
                .filter_map(|rest| rest.split(['\'', '"']).next())
                .map(str::to_lowercase)
                .collect()
        };
        let pairs = sources.iter().flat_map(|source| marks.iter().map(move |mark| (*source, *mark)));
        pairs.map(calls).collect::<Vec<Vec<_>>>().concat().into_iter().collect()
    }

    #[test]
    fn the_rights_that_are_documented_are_those_that_are_used() {
        let documented = include_str!("store.rs")
            .lines()
            .skip_while(|line| !line.contains("-@all"))
            .take(8)
            .collect::<Vec<_>>()
            .join(" ");
        let documented = documented.split_whitespace().take_while(|word| !word.starts_with("```"));
        let documented: BTreeSet<_> = documented.filter_map(|word| word.strip_prefix('+')).map(str::to_owned).collect();
        let scripts = crate::store::redis::scripts::SOURCES;
        let marks = ["call('", "insist('", "insist, '", "call_all('", "call_all, '", "call_range('"];
        let of_scripts = called(scripts, &marks);
        assert_eq!(of_scripts, OF_SCRIPTS.split(' ').map(str::to_owned).collect());
        let others = [
            include_str!("calls/note.rs"),
            include_str!("calls/read.rs"),
            include_str!("presence.rs"),
            include_str!("notify.rs"),
            include_str!("server.rs"),
            include_str!("large.rs"),
        ];
        let mut used = called(&others, &["cmd(\"", "link.command(\""]);
        used.extend(of_scripts);
        used.extend(["evalsha", "script|load", "subscribe"].map(str::to_owned));
        // Without these it warns.
        used.retain(|command| command != "info" && command != "config");
        assert_eq!(documented, used);
    }

    #[test]
    fn the_right_that_is_missing_is_found_in_the_words_of_every_version() {
        let url = StoreUrl::parse("redis://me:secret@db?app=shop").unwrap();
        for (said, right_of) in [
            ("this user has no permissions to run the 'config|get' command", Some("+config|get")),
            ("this user has no permissions to run the 'script' command or its subcommand", Some("+script")),
            ("User me has no permissions to run the 'info' command", Some("+info")),
            (
                "ACL failure in script: User me has no permissions to run the 'hset' command script: 1f, on @user_script:1.",
                Some("+hset"),
            ),
            ("The user executing the script can't run this command or subcommand script: 1f, on @user_script:1.", None),
            ("this user has no permissions to access one of the keys used as arguments", Some("~{shop}:*")),
            ("No permissions to access a key", Some("~{shop}:*")),
            (
                "The user executing the script can't access at least one of the keys mentioned in the command arguments",
                Some("~{shop}:*"),
            ),
            ("this user has no permissions to access one of the channels used as arguments", Some("&{shop}:news")),
            ("No permissions to access a channel", Some("&{shop}:news")),
            (
                "The user executing the script can't publish to the channel mentioned in the command",
                Some("&{shop}:news"),
            ),
            ("wrong number of arguments", None),
        ] {
            assert_eq!(right(said, &url).as_deref(), right_of, "{said}");
        }
    }
}
