//! The identity of the process at the other end of a connection inside Ebb.
//!
//! An activator shows a token of its pod's ServiceAccount, which kubelet puts into a file, renews
//! and binds to the pod. The other end asks the API server which pod the token is of (a
//! TokenReview) and remembers the answer. Rejected: TLS with certificates of our own, which are
//! keys to make, to hand out and to renew, and a second authority beside the API server.
//!
//! A limit of tokens: they cross the pods' network in the clear. An eavesdropper there can use one
//! until it expires, but for nothing except Ebb: its audience is [`AUDIENCE`].

mod shown;
mod verdicts;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

pub use self::shown::{Shown, TOKEN_BYTES_MAX, TOKEN_FILE};
use self::verdicts::{Memory, Pod, Verdicts};

/// The audience of the tokens: any other server refuses them.
pub const AUDIENCE: &str = "ebb.dev/internal";
/// ServiceAccount of the activators, in the namespace that Ebb runs in.
pub const ACTIVATOR_ACCOUNT: &str = "ebb-activator";
/// Where the API server names the pod that a token is bound to.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
/// Reviews at once. Each activator has one token, and the answer about it is kept: more reviews
/// come from somebody who tries tokens.
const REVIEWS_MAX: usize = 8;
/// Longest time for a review, and for its turn.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(2);

/// Lets activators in and nobody else. Cheap to clone.
#[derive(Clone)]
pub struct Doorkeeper {
    /// `None` where no token is asked for.
    inner: Option<Arc<Inner>>,
}

struct Inner {
    reviews: Api<TokenReview>,
    /// User name of the account that may come in.
    account: String,
    verdicts: Mutex<Verdicts>,
    places: Semaphore,
    counts: Family<Outcome, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// The activator that a token admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivatorPod {
    /// Its pod; `None` where no token is asked for.
    pod: Option<Pod>,
}

/// Why a client is not admitted. The client learns no more than this text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdentityRefusal {
    /// No token, or not an activator's.
    #[error("only activators of this cluster are served here")]
    Stranger,
    /// The API server does not say whose token it is.
    #[error("the API server does not answer whose token this is: try again")]
    Unheard,
}

/// The token of the `Authorization` header; `None` if there are two such headers, for two readers
/// could each believe a different one.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// The `Authorization` header that shows `token`.
pub fn authorization(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

// === impl IdentityRefusal ===

impl IdentityRefusal {
    /// The status of the response to such a client.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Stranger => StatusCode::UNAUTHORIZED,
            Self::Unheard => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

// === impl Doorkeeper ===

impl fmt::Debug for Doorkeeper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let account = self.inner.as_ref().map(|inner| &inner.account);
        formatter.debug_struct("Doorkeeper").field("account", &account).finish_non_exhaustive()
    }
}

impl Doorkeeper {
    /// A doorkeeper that asks the API server whether a token is that of an activator in
    /// `namespace`; its metrics go to the registry.
    pub fn new(client: Client, namespace: &str, registry: &mut Registry) -> Self {
        let counts = Family::default();
        registry.register(
            "ebb_introductions",
            "Connections that had to show a token, by outcome",
            counts.clone(),
        );
        let inner = Inner {
            reviews: Api::all(client),
            account: format!("system:serviceaccount:{namespace}:{ACTIVATOR_ACCOUNT}"),
            verdicts: Mutex::default(),
            places: Semaphore::new(REVIEWS_MAX),
            counts,
        };
        Self { inner: Some(Arc::new(inner)) }
    }

    /// A doorkeeper that admits everybody: for a listener on loopback, or in memory.
    pub const fn open() -> Self {
        Self { inner: None }
    }

    /// Admits a client that shows `token`, or refuses it.
    ///
    /// # Errors
    ///
    /// The client is no activator, or the API server does not say within two seconds whether it is.
    pub async fn admit(&self, token: Option<&str>) -> Result<ActivatorPod, IdentityRefusal> {
        let Some(inner) = &self.inner else {
            return Ok(ActivatorPod { pod: None });
        };
        let admitted = match token.filter(|token| shown::is_token(token)) {
            Some(token) => inner.admit(token).await,
            None => Err(IdentityRefusal::Stranger),
        };
        let outcome = match &admitted {
            Ok(_) => "accepted",
            Err(IdentityRefusal::Stranger) => "refused",
            Err(IdentityRefusal::Unheard) => "unheard",
        };
        inner.counts.get_or_create(&Outcome { outcome }).inc();
        admitted.map(|pod| ActivatorPod { pod: Some(pod) })
    }
}

impl Inner {
    async fn admit(&self, token: &str) -> Result<Pod, IdentityRefusal> {
        let stale = match self.recall(token) {
            Memory::Accepted(pod) => return Ok(pod),
            Memory::Refused => return Err(IdentityRefusal::Stranger),
            Memory::Stale(pod) => Some(pod),
            Memory::Unknown => None,
        };
        let answer = timeout(REVIEW_TIMEOUT, self.review(token)).await;
        let failure = match answer {
            Ok(Ok(verdict)) => return verdict.ok_or(IdentityRefusal::Stranger),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {REVIEW_TIMEOUT:?}"),
        };
        tracing::warn!(error = failure, "The API server did not review a token");
        self.verdicts.lock().postpone(token, Instant::now());
        stale.ok_or(IdentityRefusal::Unheard)
    }

    /// Asks the API server; returns the pod whose token it is, if that pod is to be admitted.
    async fn review(&self, token: &str) -> Result<Option<Pod>, kube::Error> {
        let _place = self.places.acquire().await;
        // An earlier review may have been about the same token.
        match self.recall(token) {
            Memory::Accepted(pod) => return Ok(Some(pod)),
            Memory::Refused => return Ok(None),
            Memory::Stale(_) | Memory::Unknown => {}
        }
        let question = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![AUDIENCE.to_owned()]),
                token: token.to_owned(),
            },
            ..TokenReview::default()
        };
        let answer = self.reviews.create(&PostParams::default(), &question).await?;
        let pod = answer.status.and_then(|status| pod_of(&status, &self.account));
        let (mut verdicts, now) = (self.verdicts.lock(), Instant::now());
        match &pod {
            Some(pod) => verdicts.accept(token, Arc::clone(pod), now),
            None => verdicts.refuse(token, now),
        }
        drop(verdicts);
        Ok(pod)
    }

    fn recall(&self, token: &str) -> Memory {
        self.verdicts.lock().recall(token, Instant::now())
    }
}

/// The pod that a token is bound to, if the token is one of `account` and meant for us. An API
/// server that does not know of audiences names none, and has compared none.
fn pod_of(status: &TokenReviewStatus, account: &str) -> Option<Pod> {
    let user = status.user.as_ref()?;
    let audiences = status.audiences.as_deref().unwrap_or_default();
    let is_ours = status.authenticated == Some(true)
        && user.username.as_deref() == Some(account)
        && audiences.iter().any(|audience| audience == AUDIENCE);
    match user.extra.as_ref()?.get(POD_NAME)?.as_slice() {
        [pod] if is_ours => Some(pod.as_str().into()),
        _ => None,
    }
}

// === impl ActivatorPod ===

impl ActivatorPod {
    /// Whether it may speak for the activator of that name.
    pub fn is(&self, name: &str) -> bool {
        self.pod.as_deref().is_none_or(|pod| pod == name)
    }
}

#[cfg(test)]
mod tests;
