//! The client of all protocols: TLS with known roots, checked addresses, bounded redirects, and
//! errors without URLs.
//!
//! It takes no proxy from the environment: a proxy would connect in its place, past the check of
//! addresses, and see every token of an `http://` source.

mod answer;
mod resolver;
mod roots;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Request, Response, Url, redirect};

use crate::address::{Allowed, RefusedAddress};
use crate::error::{FetchError, FetchTrouble};

pub(crate) use answer::{lasting_status, read_small, retry_after};

/// Redirects that are followed: Hugging Face takes two.
const REDIRECTS_MAX: usize = 10;
/// How long a connection may take to be made, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A client that connects to no refused address.
#[derive(Clone, Debug)]
pub(crate) struct CheckedClient {
    /// Follows redirects, without credentials once they leave their origin.
    follows: reqwest::Client,
    /// Follows none: a signed request is for one host.
    stays: reqwest::Client,
    allowed: Arc<Allowed>,
}

/// A redirect that is not followed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefusedRedirect {
    #[error("redirects more than {REDIRECTS_MAX} times")]
    TooMany,
    #[error("redirects from https:// to another protocol, which proves nothing about the file")]
    Plain,
}

// === impl CheckedClient ===

impl CheckedClient {
    /// A client for connections that count as broken after `idle` without a byte.
    ///
    /// # Errors
    ///
    /// The certificates of `SSL_CERT_FILE` or `SSL_CERT_PEM` cannot be read.
    pub(crate) fn new(allowed: Allowed, idle: Duration) -> Result<Self, FetchError> {
        let allowed = Arc::new(allowed);
        let tls = roots::tls()?;
        let client = |redirects: redirect::Policy| {
            reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .dns_resolver(resolver::CheckedResolver::new(allowed.clone()))
                .redirect(redirects)
                // It would tell a redirect's target the URL with its signature.
                .referer(false)
                .no_proxy()
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(idle)
                .user_agent(concat!("ebb-fetch/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|error| {
                    FetchError::Failed(format!("no client can be made: {}", error.without_url()))
                })
        };
        let follows = client(policy(allowed.clone()))?;
        let stays = client(redirect::Policy::none())?;
        Ok(Self { follows, stays, allowed })
    }

    /// Sends a request and follows redirects. A status of an error is an answer like any other.
    pub(crate) async fn send(&self, request: Request) -> Result<Response, FetchTrouble> {
        self.send_by(&self.follows, request).await
    }

    /// Sends a request to its host and to no other.
    pub(crate) async fn send_here(&self, request: Request) -> Result<Response, FetchTrouble> {
        self.send_by(&self.stays, request).await
    }

    async fn send_by(
        &self,
        by: &reqwest::Client,
        request: Request,
    ) -> Result<Response, FetchTrouble> {
        let host = host(request.url());
        // The resolver is not asked for addresses.
        check_literal(&self.allowed, request.url())
            .map_err(|refused| FetchTrouble::lasting(refused.to_string()))?;
        by.execute(request).await.map_err(|error| trouble(&host, error))
    }
}

/// The host of a URL, for errors: the rest may hold a secret.
pub(crate) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or("the host");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn policy(allowed: Arc<Allowed>) -> redirect::Policy {
    redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > REDIRECTS_MAX {
            return attempt.error(RefusedRedirect::TooMany);
        }
        let was_safe = attempt.previous().iter().any(|url| url.scheme() == "https");
        if was_safe && attempt.url().scheme() != "https" {
            return attempt.error(RefusedRedirect::Plain);
        }
        match check_literal(&allowed, attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(refused) => attempt.error(refused),
        }
    })
}

fn check_literal(allowed: &Allowed, url: &Url) -> Result<(), RefusedAddress> {
    let address = match url.host() {
        Some(url::Host::Ipv4(address)) => address.into(),
        Some(url::Host::Ipv6(address)) => address.into(),
        Some(url::Host::Domain(_)) | None => return Ok(()),
    };
    allowed.check(&host(url), address)
}

/// What a failed request or a broken body means.
pub(crate) fn trouble(host: &str, error: reqwest::Error) -> FetchTrouble {
    let error = error.without_url();
    let mut causes = Vec::new();
    let mut next: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(cause) = next {
        causes.push(cause);
        // The source of an io::Error is that of the error in it, which it hides so.
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| cause.source());
    }
    let find = |is: fn(&(dyn Error + 'static)) -> bool| causes.iter().find(|cause| is(**cause));
    if let Some(refused) = find(<dyn Error>::is::<RefusedAddress>) {
        return FetchTrouble::lasting(refused.to_string());
    }
    if let Some(refused) = find(<dyn Error>::is::<RefusedRedirect>) {
        return FetchTrouble::lasting(format!("{host} {refused}: name the file's own URL"));
    }
    let certificate = causes.iter().find_map(|cause| cause.downcast_ref::<rustls::Error>());
    if let Some(rustls::Error::InvalidCertificate(reason)) = certificate {
        return FetchTrouble::lasting(format!(
            "{host} has no certificate that is trusted ({reason}): give the certificate of its \
             authority in the file that SSL_CERT_FILE names, or as the text of SSL_CERT_PEM"
        ));
    }
    let what = if error.is_timeout() {
        "did not answer in time".to_owned()
    } else {
        let deepest = causes.last().map(ToString::to_string).unwrap_or_default();
        format!("broke the connection off, or cannot be reached ({deepest})")
    };
    FetchTrouble::passing(format!("{host} {what}"))
}
