//! Connections to Redis through TLS.

use std::{fs, path::Path};

use redis::{Client, ConnectionInfo, TlsCertificates};
use rustls::{
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::error::{Error, Result, chain};

/// Chooses the library that encrypts. If a program has several and chooses none, the first connection would panic.
pub(super) fn provide() {
    if CryptoProvider::get_default().is_none() {
        // Another thread may just have chosen.
        _ = ring::default_provider().install_default();
    }
}

/// The server of `info`, which is trusted if these certificates vouch for it.
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
