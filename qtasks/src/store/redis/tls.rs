//! Redis through TLS.

use std::{fs, path::Path, sync::Arc};

use redis::{Client, ConnectionInfo, TlsCertificates};
use rustls::{
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::Redis;
use crate::{
    error::{Error, Result, chain},
    store::{Scheme, Store},
};

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

/// The server of `info`, trusted if these certificates vouch for it.
pub(super) fn trusting(info: ConnectionInfo, certificates: &Path) -> Result<ConnectionInfo> {
    let failed =
        |why: String| Error::store("read the certificates to trust", format!("`{}`: {why}", certificates.display()));
    let pem = fs::read(certificates).map_err(|error| failed(error.to_string()))?;
    if CertificateDer::pem_slice_iter(&pem).next().is_none() {
        return Err(failed("it holds no certificate".to_owned()));
    }
    let trusted = TlsCertificates { client_tls: None, root_cert: Some(pem) };
    let client = Client::build_with_tls(info, trusted).map_err(|error| failed(chain(&error)))?;
    Ok(client.get_connection_info().clone())
}
