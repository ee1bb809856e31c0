//! How a URL leads to a store.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::{contract::Store, secret};
use crate::{
    error::{Error, Result},
    model::spelling::{did_you_mean, nearest},
};

/// A form of URL that names a kind of store. Each kind that is built in submits one.
#[derive(Debug)]
pub struct Scheme {
    /// The first part of the URL, without the colon.
    pub name: &'static str,
    /// The form of the whole URL, for errors.
    pub form: &'static str,
    /// Opens the store at a URL of this scheme.
    pub open: Open,
}

/// Opens the store at a URL.
pub type Open = for<'a> fn(&'a str) -> BoxFuture<'a, Result<Arc<dyn Store>>>;

inventory::collect!(Scheme);

/// Schemes of stores that a build may be without, and the features that bring them.
const FEATURES: [(&str, &str); 5] = [
    ("sqlite", "sqlite"),
    ("redis", "redis"),
    ("rediss", "redis-tls"),
    ("postgres", "postgres"),
    ("postgresql", "postgres"),
];

/// Opens the store at `url`.
///
/// # Errors
///
/// [`Error::UnknownStore`], and those of the store.
pub async fn open(url: &str) -> Result<Arc<dyn Store>> {
    let name = url.split(':').next().unwrap_or_default();
    match inventory::iter::<Scheme>.into_iter().find(|scheme| scheme.name == name && url.contains(':')) {
        Some(scheme) => (scheme.open)(url).await,
        None => {
            let mut known: Vec<&str> = inventory::iter::<Scheme>.into_iter().map(|scheme| scheme.form).collect();
            known.sort_unstable();
            let missing = FEATURES.iter().find(|(scheme, _)| *scheme == name && url.contains(':'));
            let missing = missing.map(|(_, feature)| format!("; add the feature `{feature}` of qtasks for it"));
            let names = inventory::iter::<Scheme>.into_iter().map(|scheme| scheme.name);
            let meant = nearest(name, names).filter(|_| missing.is_none()).map(|name| format!("{name}:"));
            let known = known.join(", ") + missing.as_deref().unwrap_or_default() + &did_you_mean(meant.as_deref());
            Err(Error::UnknownStore { url: secret::without_password(url), known })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unknown_url_is_answered_with_the_known_ones_and_without_its_password() {
        for (url, shown) in [
            ("mysql://me:secret@db/x", "mysql://me:***@db/x"),
            ("mysql://db/x?a=b&password=secret", "mysql://db/x?a=b&password=***"),
            ("qtasks.db", "qtasks.db"),
        ] {
            let error = open(url).await.unwrap_err().to_string();
            assert!(error.starts_with(&format!("no store for `{shown}`; this build knows memory:")), "{error}");
            assert!(!error.contains("feature"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_url_that_is_nearly_right_is_answered_with_the_kind_that_may_be_meant() {
        for url in ["memmory:", "Memory:", "memory"] {
            let error = open(url).await.unwrap_err().to_string();
            assert!(error.ends_with("; did you mean `memory:`?"), "{error}");
        }
    }

    #[cfg(not(feature = "redis-tls"))]
    #[tokio::test]
    async fn a_store_that_was_not_built_in_is_answered_with_the_feature_that_brings_it() {
        let error = open("rediss://:secret@db").await.unwrap_err().to_string();
        assert!(error.starts_with("no store for `rediss://:***@db`; this build knows memory:"), "{error}");
        assert!(error.ends_with("; add the feature `redis-tls` of qtasks for it"), "{error}");
    }

    #[tokio::test]
    #[cfg(not(feature = "postgres"))]
    async fn a_url_whose_feature_is_off_is_answered_with_it() {
        let error = open("postgres://me:secret@db/x").await.unwrap_err().to_string();
        assert!(error.starts_with("no store for `postgres://me:***@db/x`; this build knows memory:"), "{error}");
        assert!(error.ends_with("; add the feature `postgres` of qtasks for it"), "{error}");
    }
}
