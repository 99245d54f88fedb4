//! Whom TLS believes: Mozilla's roots, which are part of the program, for its image has no file of
//! them; and the certificates of `SSL_CERT_FILE` and `SSL_CERT_PEM`, for a mirror with an authority
//! of its own. The second one is the text itself, as a Secret makes it a variable.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::error::FetchError;

/// The variable with certificates as text.
const PEM: &str = "SSL_CERT_PEM";
/// Longest text of it, some 30 certificates: Linux takes 128 KiB for one variable, and a bundle of many
/// belongs into a file.
const PEM_BYTES_MAX: usize = 64 << 10;

/// The settings of all TLS connections.
///
/// # Errors
///
/// `SSL_CERT_FILE` names a file without certificates, or `SSL_CERT_PEM` has none.
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
    if let Some(text) = std::env::var_os(PEM).filter(|text| !text.is_empty()) {
        add_text(&mut roots, text.as_encoded_bytes()).map_err(|why| {
            FetchError::Arguments(format!("{PEM} {why}: give it the text of PEM certificates"))
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
    take(roots, found)
}

fn add_text(roots: &mut RootCertStore, text: &[u8]) -> Result<(), String> {
    if text.len() > PEM_BYTES_MAX {
        return Err(format!("has more than {PEM_BYTES_MAX} bytes"));
    }
    take(roots, CertificateDer::pem_slice_iter(text))
}

fn take(
    roots: &mut RootCertStore,
    found: impl Iterator<Item = Result<CertificateDer<'static>, pem::Error>>,
) -> Result<(), String> {
    let found: Result<Vec<_>, _> = found.collect();
    let found = found.map_err(|error| format!("is no PEM file ({error})"))?;
    let (added, _) = roots.add_parsable_certificates(found);
    if added == 0 { Err("has no certificate".to_owned()) } else { Ok(()) }
}
