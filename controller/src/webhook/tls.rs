//! The rustls configuration of a certificate.

use std::sync::Arc;

use anyhow::Context as _;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate::Certificate;

/// Serves with this certificate, over HTTP/2 or HTTP/1.1.
///
/// # Errors
///
/// The certificate or its key cannot be read, or they do not belong together.
pub(super) fn server(certificate: &Certificate) -> anyhow::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_slice_iter(certificate.chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .context("the certificate cannot be read")?;
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes())
        .context("the key of the certificate cannot be read")?;
    // The provider is named here: the process-wide default belongs to whichever code sets it first.
    let mut server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("key and certificate do not belong together")?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}
