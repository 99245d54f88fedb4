//! The rustls configuration of a certificate.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate::Certificate;

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate is no PEM.
    #[error("the certificate cannot be read")]
    Certificate(#[source] pem::Error),
    /// The key is no PEM.
    #[error("the key of the certificate cannot be read")]
    Key(#[source] pem::Error),
    /// Key and certificate do not belong together.
    #[error("key and certificate do not belong together")]
    Pair(#[source] rustls::Error),
    /// The provider of rustls has none of its versions of TLS.
    #[error("TLS cannot be served")]
    Provider(#[source] rustls::Error),
}

/// Serves with this certificate, over HTTP/2 or HTTP/1.1.
///
/// # Errors
///
/// The certificate or its key cannot be read, or they do not belong together.
pub(super) fn server(certificate: &Certificate) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(certificate.chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(TlsError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).map_err(TlsError::Key)?;
    // The provider is named here: the process-wide default belongs to whichever code sets it first.
    let mut server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Provider)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(TlsError::Pair)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}
