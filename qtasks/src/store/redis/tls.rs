//! Redis through TLS.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};

use super::Redis;
use crate::store::{Scheme, Store};

inventory::submit! {
    Scheme {
        name: "rediss",
        form: "rediss://HOST",
        open: |url| Box::pin(async move {
            // Where a program has several to choose from and does not, the first connection would panic.
            if CryptoProvider::get_default().is_none() {
                // Somebody else may just have done it.
                _ = ring::default_provider().install_default();
            }
            Ok(Arc::new(Redis::open(url).await?) as Arc<dyn Store>)
        }),
    }
}
