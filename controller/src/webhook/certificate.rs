//! The certificate of the webhook: made, read back, and judged. No clock and no client.
//!
//! An authority is made for one certificate and the authority's key is thrown away: there is no key
//! to steal that could sign another certificate. Renewal makes a new authority; the API server
//! trusts both for a while, since other replicas serve the older certificate until their next look.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::OffsetDateTime;
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// Keys of the Secret, as in Kubernetes' own kind of Secret for TLS.
const AUTHORITY: &str = "ca.crt";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// How long a certificate is valid.
const VALIDITY: SignedDuration = SignedDuration::from_hours(90 * 24);
/// A certificate is renewed when less than this is left: a third, so that weeks of trouble do no
/// harm.
const RENEWAL: SignedDuration = SignedDuration::from_hours(30 * 24);
/// A certificate is valid from this long before it is made: clocks of API server and pod may
/// differ.
const BACKDATE: SignedDuration = SignedDuration::from_hours(1);
/// Name of the authority, for people who read it.
const AUTHORITY_NAME: &str = "Ebb webhook authority";

/// A certificate with its key and its authority, all PEM. Its `Debug` shows no key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    /// The authorities that the API server must trust: the certificate's own, and after a renewal
    /// the one before.
    pub(super) authority: String,
    /// The certificate that is served.
    pub(super) chain: String,
    /// The key of the certificate.
    pub(super) key: String,
}

/// Whether a certificate can be served, and for how long.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// The certificate can be served for long.
    Good,
    /// The certificate can be served, and must be replaced.
    Due,
    /// The certificate cannot be served, for this reason.
    Bad(String),
}

/// Why a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum IssueError {
    /// The name is no DNS name.
    #[error("{name} is no DNS name")]
    Name { name: String, source: rcgen::Error },
    /// The system has no randomness.
    #[error("no certificate can be made")]
    Make(#[from] rcgen::Error),
    /// The clock of the machine is far off.
    #[error("no certificate can have this date")]
    Date(#[from] time::error::ComponentRange),
}

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
enum UnfitError {
    #[error("the certificate is no PEM: {0}")]
    Pem(#[from] pem::PemError),
    #[error("the certificate cannot be read: {0}")]
    Certificate(#[from] x509_parser::nom::Err<X509Error>),
    #[error("the names of the certificate cannot be read: {0}")]
    Names(#[from] X509Error),
    #[error("the certificate names no host")]
    Nameless,
    #[error("the certificate is not for {0}")]
    OtherName(String),
    #[error("the dates of the certificate cannot be read: {0}")]
    Date(#[from] jiff::Error),
    #[error("the certificate is valid from {from} to {until}")]
    OutOfDate { from: Timestamp, until: Timestamp },
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

impl Certificate {
    /// A new certificate for a DNS name, from `now` on.
    ///
    /// # Errors
    ///
    /// The name is no DNS name, or the system has no randomness.
    pub(super) fn issue(name: &str, now: Timestamp) -> Result<Self, IssueError> {
        let (from, until) = (moment(now - BACKDATE)?, moment(now + VALIDITY)?);
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, AUTHORITY_NAME);
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (authority.not_before, authority.not_after) = (from, until);
        let authority_key = KeyPair::generate()?;
        let authority_pem = authority.self_signed(&authority_key)?.pem();

        let mut server = CertificateParams::new(vec![name.to_owned()])
            .map_err(|source| IssueError::Name { name: name.to_owned(), source })?;
        server.distinguished_name.push(DnType::CommonName, name);
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (server.not_before, server.not_after) = (from, until);
        let key = KeyPair::generate()?;
        let server = server.signed_by(&key, &Issuer::new(authority, authority_key))?;
        Ok(Self { authority: authority_pem, chain: server.pem(), key: key.serialize_pem() })
    }

    /// The same certificate, with the authority of `old` trusted as well, even if `old` cannot be
    /// served: another replica may serve it until its next look, and clocks differ about when a
    /// certificate is over. Only the newest authority of `old`: the list must not grow with each
    /// renewal.
    pub(super) fn after(mut self, old: Option<&Self>) -> Self {
        let trusted = old.map(|old| pem::parse_many(&old.authority).unwrap_or_default());
        if let Some(newest) = trusted.unwrap_or_default().first() {
            self.authority.push_str(&pem::encode(newest));
        }
        self
    }

    /// Reads a certificate from the data of a Secret.
    pub(super) fn read(data: &BTreeMap<String, ByteString>) -> Option<Self> {
        let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
        Some(Self { authority: text(AUTHORITY)?, chain: text(CERTIFICATE)?, key: text(KEY)? })
    }

    /// The data of a Secret that [`Self::read`] reads.
    pub(super) fn data(&self) -> BTreeMap<String, ByteString> {
        [(AUTHORITY, &self.authority), (CERTIFICATE, &self.chain), (KEY, &self.key)]
            .map(|(key, text)| (key.to_owned(), ByteString(text.clone().into_bytes())))
            .into()
    }

    /// Whether the certificate can be served for this name at this time. Whether key and
    /// certificate belong together shows when they are loaded.
    pub(super) fn standing(&self, name: &str, now: Timestamp) -> Standing {
        match self.until(name, now) {
            Ok(until) if until.duration_since(now) < RENEWAL => Standing::Due,
            Ok(_) => Standing::Good,
            Err(problem) => Standing::Bad(problem.to_string()),
        }
    }

    /// When the certificate ends; an error if it is not for this name or not valid now.
    fn until(&self, name: &str, now: Timestamp) -> Result<Timestamp, UnfitError> {
        let pem = pem::parse(&self.chain)?;
        let (_, certificate) = parse_x509_certificate(pem.contents())?;
        let names = certificate.subject_alternative_name()?.ok_or(UnfitError::Nameless)?;
        let is_named = names
            .value
            .general_names
            .iter()
            .any(|general| matches!(general, GeneralName::DNSName(dns) if *dns == name));
        if !is_named {
            return Err(UnfitError::OtherName(name.to_owned()));
        }
        let validity = certificate.validity();
        let from = Timestamp::from_second(validity.not_before.timestamp())?;
        let until = Timestamp::from_second(validity.not_after.timestamp())?;
        if now < from || until <= now {
            return Err(UnfitError::OutOfDate { from, until });
        }
        Ok(until)
    }
}

fn moment(at: Timestamp) -> Result<OffsetDateTime, time::error::ComponentRange> {
    OffsetDateTime::from_unix_timestamp(at.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "ebb-webhook.knative-serving.svc";

    fn start() -> Timestamp {
        "2026-05-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_certificate_is_good_then_due_then_over() {
        let certificate = Certificate::issue(NAME, start()).unwrap();
        let after =
            |days: i64| certificate.standing(NAME, start() + SignedDuration::from_hours(days * 24));
        assert_eq!(after(0), Standing::Good);
        assert_eq!(after(59), Standing::Good);
        assert_eq!(after(61), Standing::Due);
        assert!(
            matches!(after(91), Standing::Bad(why) if why.starts_with("the certificate is valid from"))
        );
        assert!(matches!(after(-1), Standing::Bad(_)));
    }

    #[test]
    fn a_certificate_for_another_name_or_none_at_all_is_bad() {
        let mut certificate = Certificate::issue(NAME, start()).unwrap();
        let other = certificate.standing("other.knative-serving.svc", start());
        assert_eq!(
            other,
            Standing::Bad("the certificate is not for other.knative-serving.svc".to_owned())
        );
        certificate.chain = "nonsense".to_owned();
        assert!(matches!(certificate.standing(NAME, start()), Standing::Bad(_)));
    }

    #[test]
    fn a_secret_gives_back_what_was_put_in_and_nothing_less() {
        let certificate = Certificate::issue(NAME, start()).unwrap();
        let mut data = certificate.data();
        assert_eq!(Certificate::read(&data).as_ref(), Some(&certificate));
        data.remove(KEY);
        assert_eq!(Certificate::read(&data), None);
        assert!(!format!("{certificate:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_renewal_is_trusted_along_with_the_one_before_only() {
        let mut certificate = Certificate::issue(NAME, start()).unwrap();
        for _ in 0..3 {
            let old = certificate.clone();
            certificate = Certificate::issue(NAME, start()).unwrap().after(Some(&old));
            let trusted = pem::parse_many(&certificate.authority).unwrap();
            assert_eq!(trusted.len(), 2);
            assert_eq!(trusted[1], pem::parse_many(&old.authority).unwrap()[0]);
        }
    }
}
