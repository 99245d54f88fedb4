//! The client of the API server, which does not wait for one that has fallen silent.
//!
//! The network may drop a connection without a word: a node or a load balancer that is gone sends
//! no reset, and the kernel tries for a quarter of an hour. A wake needs three such connections. So
//! the kernel gives up a connection whose bytes are not acknowledged within
//! `ACKNOWLEDGED_WITHIN`. Where a living machine acknowledges but nobody answers (a proxy without
//! a server behind it), timeouts of each request and of each silence end the wait. A watch is asked
//! to end after `Patience::watch` and goes on from where it was, so that a longer silence means a
//! fault.

use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ConfigExt as _};
use kube::{Client, Config};
use tower::retry::RetryLayer;
use tower::util::BoxCloneService;
use tower::{BoxError, ServiceBuilder, ServiceExt as _};
use tower_http::timeout::TimeoutBody;

/// How long sent bytes, or the probe of an idle connection, may go without acknowledgement. It is
/// the other kernel that acknowledges, not a busy API server. With the second that a watch waits
/// before it connects again, a wake that loses all its connections is served within 5 s.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(2);
/// Silence after which a connection is probed, and time between two probes. A daemon has about a
/// dozen connections: a dozen empty packets a second.
const PROBED_EVERY: Duration = Duration::from_secs(1);
/// Longest time to connect. A packet that was lost is sent again after 1 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection without work is kept for the next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause before the first retry of a request that the API server refused for the moment.
const RETRY_FIRST: Duration = Duration::from_millis(50);
/// Longest of these pauses. What the answer names in `Retry-After` does not count: it may be an hour.
const RETRY_LONGEST: Duration = Duration::from_secs(1);
/// Retries of one request: some 3 s in all.
const RETRIES_MAX: u32 = 6;
/// How much later than asked a watch may end.
const WATCH_GRACE: Duration = Duration::from_secs(5);

/// How long the API server may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Until an answer begins. The API server itself may take 5 s while its disk is slow.
    answer: Duration,
    /// Between two parts of an answer. Lists come in pages of 500 objects.
    silence: Duration,
    /// How long a watch lasts: not much more than the time from one bookmark to the next, which is
    /// a minute.
    watch: Duration,
}

/// A service that sends a request and waits for its answer for ever.
pub type Transport<B> = BoxCloneService<Request<Body>, Response<B>, BoxError>;

/// An answer that did not come.
#[derive(Debug, thiserror::Error)]
#[error("the API server did not answer within {} s", .0.as_secs_f64())]
struct Silent(Duration);

// === impl Patience ===

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            silence: Duration::from_secs(10),
            watch: Duration::from_secs(50),
        }
    }
}

/// Why there is no client of an API server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// No API server is named.
    #[error(transparent)]
    Unknown(#[from] kube::config::InferConfigError),
    /// The credentials or certificates that go with it cannot be used.
    #[error(transparent)]
    Unusable(#[from] kube::Error),
}

/// A client of the API server that KUBECONFIG names, or the pod's service account.
pub(crate) async fn infer() -> Result<Client, ClientError> {
    let config = Config::infer().await?;
    Ok(client(&config, Patience::default())?)
}

/// As kube's own client, with these limits around each attempt of a request.
fn client(config: &Config, patience: Patience) -> kube::Result<Client> {
    let connector = config.rustls_https_connector_with_connector(connector())?;
    let mut pool = Pool::builder(TokioExecutor::new());
    pool.pool_idle_timeout(IDLE_TIMEOUT).pool_timer(hyper_util::rt::TokioTimer::new());
    let pool = pool.build::<_, Body>(connector);
    let attempt = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(pool)
        .boxed_clone();
    Ok(limits(attempt, patience, config.default_retry, &config.default_namespace))
}

/// A client of an API server that is reached through `attempt`, with the limits that a daemon's
/// client has; for simulations.
pub fn over<B>(attempt: Transport<B>) -> Client
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    limits(attempt, Patience::default(), true, "default")
}

fn limits<B>(attempt: Transport<B>, patience: Patience, retries: bool, namespace: &str) -> Client
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let limited = tower::service_fn(move |request| limited(attempt.clone(), request, patience));
    let retry = retries.then(retries_of_refusals).flatten().map(RetryLayer::new);
    let service = ServiceBuilder::new().option_layer(retry).service(limited);
    Client::new(service, namespace.to_owned())
}

/// The policy for answers that ask to come again: 429, 503 and 504. kube's own goes on for minutes
/// in one request, and its pauses double without end: an API server that is back would not be heard
/// of for as long as it was away. Whoever asked goes on trying, with pauses of their own.
fn retries_of_refusals() -> Option<RetryPolicy> {
    // Only a longest pause that is shorter than the first would be an error.
    RetryPolicy::new(RETRY_FIRST, RETRY_LONGEST, RETRIES_MAX, false).ok()
}

/// One attempt of a request.
async fn limited<B>(
    attempt: Transport<B>,
    request: Request<Body>,
    patience: Patience,
) -> Result<Response<TimeoutBody<B>>, BoxError> {
    let (request, silence) = limit(request, patience);
    match tokio::time::timeout(patience.answer, attempt.oneshot(request)).await {
        Ok(answer) => Ok(answer?.map(|body| TimeoutBody::new(silence, body))),
        Err(_) => Err(Silent(patience.answer).into()),
    }
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector.set_keepalive(Some(PROBED_EVERY));
    connector.set_keepalive_interval(Some(PROBED_EVERY));
    // This timeout decides for probes too: with it the kernel does not count them.
    connector.set_tcp_user_timeout(Some(ACKNOWLEDGED_WITHIN));
    connector
}

/// The request, shortened if it is a watch, and how long its answer may be silent.
fn limit(mut request: Request<Body>, patience: Patience) -> (Request<Body>, Duration) {
    match shortened(request.uri(), patience.watch) {
        Some(uri) => {
            *request.uri_mut() = uri;
            (request, patience.watch + WATCH_GRACE)
        }
        None => (request, patience.silence),
    }
}

/// The address of a watch, with that much time to last; `None` for any other request.
fn shortened(uri: &Uri, watch: Duration) -> Option<Uri> {
    let mut parameters: Vec<&str> = uri.query()?.split('&').collect();
    parameters.iter().find(|given| matches!(**given, "watch" | "watch=true" | "watch=1"))?;
    parameters.retain(|given| !given.is_empty() && !given.starts_with("timeoutSeconds="));
    let (path, query) = (uri.path(), parameters.join("&"));
    let whole = format!("{path}?{query}&timeoutSeconds={}", watch.as_secs());
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(whole.parse::<PathAndQuery>().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests;
