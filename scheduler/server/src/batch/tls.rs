//! The batch service behind TLS.

use std::io;
use std::path::Path;
use std::sync::Arc;

use muster_config::BatchTlsConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;

use super::accounts;
use crate::error::ServerError;

/// Reads a certificate and its key. Blocks for as long as the disk takes.
///
/// # Errors
/// [`ServerError::File`] if a file cannot be read or holds something else, or others may read the key;
/// [`ServerError::BatchTls`] if the two do not belong together.
pub fn acceptor(config: &BatchTlsConfig) -> Result<TlsAcceptor, ServerError> {
    let file = &config.certificate_file;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|error| ServerError::file("read the certificate", file)(io::Error::other(error)))?;
    if chain.is_empty() {
        let none =
            io::Error::other("it holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----");
        return Err(ServerError::file("use the certificate", file)(none));
    }
    let key = read_key(&config.key_file)?;
    let wrong = |source| ServerError::BatchTls { certificate_file: file.clone(), source };
    let mut server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(wrong)?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, ServerError> {
    let text = accounts::read(path)?;
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|error| ServerError::file("read the key", path)(io::Error::other(error)))
}
