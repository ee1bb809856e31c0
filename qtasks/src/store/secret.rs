//! What of a URL may be shown: nothing that can be a part of a password, however the URL is written.

/// What the name of a parameter with a password has in it.
const NAMES: [&str; 4] = ["pass", "pwd", "secret", "token"];

/// `url` with stars for its password, and for all that may be a part of it.
pub(crate) fn without_password(url: &str) -> String {
    let start = url.find("://").map_or(0, |colon| colon + 3);
    let (scheme, rest) = url.split_at(start);
    let named = named_password(rest);
    let Some((colon, host)) = password_of_user(rest, start > 0) else {
        let Some(end) = named else { return url.to_owned() };
        return format!("{scheme}{}***", &rest[..end]);
    };
    match host.filter(|_| named.is_none()) {
        Some(host) => format!("{scheme}{}:***@{host}", &rest[..colon]),
        None => format!("{scheme}{}:***", &rest[..colon]),
    }
}

/// Where the value of a parameter begins that is a password, by its name.
fn named_password(rest: &str) -> Option<usize> {
    let lower = rest.to_ascii_lowercase();
    let first = NAMES.iter().filter_map(|name| lower.find(name)).min()?;
    let equals = rest[first..].find('=')?;
    Some(first + equals + 1)
}

/// The colon before the password of a user, and the host behind it, where there is one.
fn password_of_user(rest: &str, has_scheme: bool) -> Option<(usize, Option<&str>)> {
    let colon = rest.find(':')?;
    if let Some((_, host)) = rest[colon..].rsplit_once('@') {
        return Some((colon, Some(host)));
    }
    // A port, or a password without a host behind it.
    let behind = rest[colon + 1..].split(['/', '?', '#']).next().unwrap_or_default();
    let is_port = behind.bytes().all(|byte| byte.is_ascii_digit());
    (has_scheme && !is_port && !rest.starts_with('[')).then_some((colon, None))
}

/// A URL of a server in its parts, none of which can be a part of a password but for the first.
#[cfg(any(feature = "postgres", feature = "redis"))]
#[cfg_attr(not(feature = "postgres"), allow(dead_code, reason = "the driver of Redis takes the URL as it is"))]
pub(super) struct Parts<'u> {
    /// `USER:PASSWORD`, where the URL has it.
    pub(super) user: Option<&'u str>,
    /// The hosts and ports of the URL.
    pub(super) hosts: &'u str,
    /// The slash and what follows it, up to the parameters. Empty where there is no slash.
    pub(super) path: &'u str,
    /// The name and the value of each parameter. The value is empty where there is none.
    pub(super) parameters: Vec<(&'u str, &'u str)>,
    /// Whether parameters may be quoted in an error: there is no password among them.
    pub(super) can_be_shown: bool,
}

/// What is said of a URL in which a password may stand where something else belongs.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(super) const UNCLEAR: &str =
    "its URL is not understood; in a user or password `@ : / ? # %` are written as `%40 %3A %2F %3F %23 %25`";

/// The parts of a URL, if it is clear where each of them ends.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(super) fn parts(url: &str) -> Option<Parts<'_>> {
    let (_, rest) = url.split_once("://")?;
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (Some(user), hosts),
        None => (None, authority),
    };
    let (path, parameters) = tail.split_once('?').unwrap_or((tail, ""));
    // What looks like a port or a host may be the start of a password that goes on behind it.
    let may_go_on = authority.contains([':', '@']) && tail.contains('@');
    if may_go_on || path.contains(['#', '@']) {
        return None;
    }
    let can_be_shown = !NAMES.iter().any(|name| parameters.to_ascii_lowercase().contains(name));
    let parameters = parameters.split('&').filter(|parameter| !parameter.is_empty());
    let parameters = parameters.map(|parameter| parameter.split_once('=').unwrap_or((parameter, ""))).collect();
    Some(Parts { user, hosts, path, parameters, can_be_shown })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_what_may_be_a_part_of_its_password() {
        for (url, shown) in [
            ("mysql://me:secret@db/x", "mysql://me:***@db/x"),
            ("mysql://me:s@e/c?r#e:t@db/x", "mysql://me:***@db/x"),
            ("mysql://me:secret", "mysql://me:***"),
            ("mysql://me:secret/db", "mysql://me:***"),
            ("mysql://db:3306/x", "mysql://db:3306/x"),
            ("mysql://[::1]:3306/x", "mysql://[::1]:3306/x"),
            ("mysql://me@db/x", "mysql://me@db/x"),
            ("mysql://db/x?a=b&password=secret", "mysql://db/x?a=b&password=***"),
            ("mysql://db/x?PASSWORD=sec&ret@x", "mysql://db/x?PASSWORD=***"),
            ("mysql://me:sec@ret?pwd=secret", "mysql://me:***"),
            ("host=db user=me password = 'sec ret'", "host=db user=me password =***"),
            ("mysql:me:secret@db", "mysql:***@db"),
            ("qtasks.db", "qtasks.db"),
            (r"C:\data\q.db", r"C:\data\q.db"),
        ] {
            assert_eq!(without_password(url), shown, "{url}");
        }
    }

    #[cfg(any(feature = "postgres", feature = "redis"))]
    #[test]
    fn a_url_whose_password_may_go_on_elsewhere_has_no_parts() {
        for url in [
            "redis://me:12/secret@db",
            "redis://me:12?app=secret@db",
            "redis://me:12#secret@db",
            "redis://me:se@db/cret@db",
            "redis://db/0#cret",
            "redis:db",
        ] {
            assert!(parts(url).is_none(), "{url}");
        }
        let found = parts("postgres://me:p@ss:word@a:1,b/app?schema=jobs&on").unwrap();
        assert_eq!((found.user, found.hosts, found.path), (Some("me:p@ss:word"), "a:1,b", "/app"));
        assert_eq!((found.parameters, found.can_be_shown), (vec![("schema", "jobs"), ("on", "")], true));
        assert!(!parts("postgres://db/app?user=me&password=secret").unwrap().can_be_shown);
        assert!(parts("postgres:///app?host=db&user=me@corp").is_some());
    }
}
