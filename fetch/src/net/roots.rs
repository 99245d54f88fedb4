//! Whom TLS believes: Mozilla's roots, which are part of the program, for its image has no file of
//! them; and the certificates of `SSL_CERT_FILE`, for a mirror with an authority of its own.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::error::FetchError;

/// The settings of all TLS connections.
///
/// # Errors
///
/// `SSL_CERT_FILE` names a file without certificates.
pub(super) fn tls() -> Result<ClientConfig, FetchError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) {
        add(&mut roots, Path::new(&path)).map_err(|why| {
            FetchError::Arguments(format!(
                "SSL_CERT_FILE names {}, which {why}: name a file of PEM certificates",
                Path::new(&path).display()
            ))
        })?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| FetchError::Failed(format!("TLS cannot be set up: {error}")))?;
    Ok(tls.with_root_certificates(roots).with_no_client_auth())
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let found =
        CertificateDer::pem_file_iter(path).map_err(|error| format!("cannot be read ({error})"))?;
    let found: Result<Vec<_>, _> = found.collect();
    let found = found.map_err(|error| format!("is no PEM file ({error})"))?;
    let (added, _) = roots.add_parsable_certificates(found);
    if added == 0 { Err("has no certificate".to_owned()) } else { Ok(()) }
}
