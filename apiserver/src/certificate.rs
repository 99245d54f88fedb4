//! The certificate of the embedded API, which Ebb makes itself: clients send a bearer token over
//! TLS only, and `kubectl` prints anything else that could carry one.
//!
//! The certificate is self-signed, and the kubeconfig names it as the one to trust. No authority
//! exists that could sign another one. In practice it never expires: trust ends with the
//! kubeconfig, not with a date.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::private;

/// The file in the state folder that holds certificate and key.
const FILE_NAME: &str = "certificate";
/// The name that every client asks for, whichever loopback address it calls.
pub const NAME: &str = "localhost";
/// Further names of the certificate, for clients that ask for the address they call.
const ADDRESSES: [&str; 2] = ["127.0.0.1", "::1"];

/// A certificate with its key. Its `Debug` shows neither.
#[derive(Clone)]
pub struct Certificate {
    trusted: String,
    server: Arc<ServerConfig>,
}

/// Why there is no certificate to serve.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file of the state folder cannot be read or written.
    #[error("the file {FILE_NAME:?} of the state folder cannot be used")]
    File(#[from] io::Error),
    /// No certificate can be made: the system has no randomness.
    #[error("no certificate can be made")]
    Make(#[from] rcgen::Error),
    /// The certificate is no PEM.
    #[error("the certificate cannot be read")]
    Certificate(#[source] pem::Error),
    /// The key is no PEM.
    #[error("the key of the certificate cannot be read")]
    Key(#[source] pem::Error),
    /// The text has no certificate before the key.
    #[error("no certificate stands before the key")]
    Order,
    /// The certificate and the key do not belong together.
    #[error("the certificate cannot be served with this key")]
    Serve(#[from] rustls::Error),
}

// === impl Certificate ===

impl Certificate {
    /// The certificate of the state folder `data`; made for `holder`, a name for people, if there
    /// is none that can be served. It stays the same from start to start, as the token does, so
    /// that a kubeconfig that was copied elsewhere goes on working.
    ///
    /// # Errors
    ///
    /// The folder cannot be read or written, or the system has no randomness.
    pub fn of(data: &Path, holder: &str) -> Result<Self, CertificateError> {
        let path = data.join(FILE_NAME);
        match std::fs::read_to_string(&path) {
            Ok(kept) => {
                if let Ok(certificate) = Self::read(&kept) {
                    return Ok(certificate);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let made = make(holder)?;
        private::replace(&path, &made)?;
        Self::read(&made)
    }

    /// A certificate of `holder` that is kept nowhere.
    ///
    /// # Errors
    ///
    /// The system has no randomness.
    pub fn fresh(holder: &str) -> Result<Self, CertificateError> {
        Self::read(&make(holder)?)
    }

    /// The certificate without its key, as PEM, for a client to trust.
    pub fn trusted(&self) -> &str {
        &self.trusted
    }

    /// The configuration with which rustls serves it.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// Reads certificate and key from one PEM text.
    fn read(text: &str) -> Result<Self, CertificateError> {
        let certificate = CertificateDer::from_pem_slice(text.as_bytes())
            .map_err(CertificateError::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(CertificateError::Key)?;
        let (trusted, _) = text.split_once(KEY_BEGINS).ok_or(CertificateError::Order)?;
        // Named here, because the provider of the process is set by its first user, whichever that
        // is.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { trusted: trusted.to_owned(), server: Arc::new(server) })
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Certificate").finish_non_exhaustive()
    }
}

/// Where the key begins in a PEM text.
const KEY_BEGINS: &str = "-----BEGIN PRIVATE KEY-----";

/// A new certificate and its key, as one PEM text.
fn make(holder: &str) -> Result<String, rcgen::Error> {
    let names = [NAME].into_iter().chain(ADDRESSES).map(str::to_owned);
    let mut certificate = CertificateParams::new(names.collect::<Vec<_>>())?;
    certificate.distinguished_name.push(DnType::CommonName, holder);
    certificate.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    certificate.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    Ok(certificate.self_signed(&key)?.pem() + &key.serialize_pem())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_certificate_of_a_folder_outlives_a_start_and_is_the_owners_alone() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let trusted = |folder: &Path| Certificate::of(folder, "test").unwrap().trusted;
        let first = trusted(one.path());
        assert_eq!(trusted(one.path()), first);
        assert_ne!(trusted(other.path()), first);
        let file = one.path().join(FILE_NAME);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        // A certificate without its key, or with another's, cannot be served and is replaced.
        let others = std::fs::read_to_string(other.path().join(FILE_NAME)).unwrap();
        let (_, others_key) = others.split_once(KEY_BEGINS).unwrap();
        for useless in [String::new(), first.clone(), format!("{first}{KEY_BEGINS}{others_key}")] {
            std::fs::write(&file, useless).unwrap();
            assert_ne!(trusted(one.path()), first);
        }
    }

    #[test]
    fn what_is_trusted_and_what_is_printed_hold_no_key() {
        let certificate = Certificate::fresh("test").unwrap();
        assert!(certificate.trusted().starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(!certificate.trusted().contains("KEY"), "{}", certificate.trusted());
        assert!(!format!("{certificate:?}").contains("KEY"));
    }
}
