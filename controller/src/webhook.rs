//! Admission for an API server: the same decisions as [`crate::admission`], asked over TLS.
//!
//! Every replica serves, whichever leads. The certificate is made here and shared by a Secret
//! (`certificate`, `keeper`), so that nothing else has to be installed for it.

mod body;
mod certificate;
mod eviction;
mod keeper;
mod review;
mod server;
#[cfg(test)]
mod tests;
mod tls;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use ebb_api::config::Config;
use ebb_daemon::readiness::Task;
use http::{Method, Request as HttpRequest, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use kube::Client;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use self::body::{REVIEWS_BYTES_MAX, Whole};
use self::keeper::Keeper;
use self::server::{Answer, Caller, Server};
pub use self::tls::TlsError;
use crate::admission::{self, Request, Verdict};

/// Reviews that are judged at once; more wait, read whole, in their share of the budget of bytes.
const REVIEWS_MAX: usize = 8;

/// What the webhook needs from its process.
pub struct WebhookOptions {
    /// Client of the API server.
    pub client: Client,
    /// The platform's settings: defaults come from there.
    pub config: watch::Receiver<Arc<Config>>,
    /// The socket on which the webhook listens.
    pub listener: TcpListener,
    /// Name of the Service that leads to the webhook.
    pub service: String,
    /// Namespace of that Service and of the Secret with the certificate.
    pub namespace: String,
}

/// The webhook server, registered and not running yet.
pub struct Webhook {
    options: WebhookOptions,
    reviews: Reviews,
    evicted: Counter,
}

/// State that the handlers share.
#[derive(Clone)]
struct Reviews {
    config: watch::Receiver<Arc<Config>>,
    /// The budget of bytes for all bodies that are held.
    budget: Arc<Semaphore>,
    /// The places for reviews that are judged at once.
    places: Arc<Semaphore>,
    answered: Family<ReviewLabels, Counter>,
}

/// One series for each webhook and outcome.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReviewLabels {
    webhook: &'static str,
    outcome: &'static str,
}

/// One of the three questions that an API server asks.
#[derive(Clone, Copy)]
struct Question {
    webhook: &'static str,
    answer: fn(&Request<'_>, &Config) -> Verdict,
}

// === impl Webhook ===

impl Webhook {
    /// A webhook that counts its answers in the registry.
    pub fn new(options: WebhookOptions, registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("ebb_webhook");
        let reviews = Reviews::new(options.config.clone());
        let help = "Admission reviews that were answered, by webhook and outcome";
        registry.register("reviews", help, reviews.answered.clone());
        let evicted = Counter::default();
        let help = "Connections that were closed to make room for others";
        registry.register("connections_evicted", help, evicted.clone());
        Self { options, reviews, evicted }
    }

    /// Serves until `shutdown`, then lets reviews in flight end. `ready` is done once the API
    /// server knows the certificate that is served.
    ///
    /// # Errors
    ///
    /// The first certificate cannot be loaded.
    pub async fn run(self, ready: Task, shutdown: CancellationToken) -> Result<(), TlsError> {
        let WebhookOptions { client, listener, service, namespace, .. } = self.options;
        let keeper = Keeper::new(client, &service, &namespace);
        let Some(first) = keeper.first(&shutdown).await else { return Ok(()) };
        let tls = Arc::new(ArcSwap::new(tls::server(&first)?));
        drop(ready);
        let server =
            Server { listener, tls: tls.clone(), answers: self.reviews, evicted: self.evicted };
        tokio::join!(server.run(shutdown.clone()), keeper.run(tls, shutdown));
        Ok(())
    }
}

// === impl Question ===

impl Question {
    /// The question at a path: Knative's paths, so that webhook configurations made for it fit.
    fn at(path: &str) -> Option<Self> {
        let (webhook, answer): (_, fn(&Request<'_>, &Config) -> Verdict) = match path {
            "/defaulting" => (admission::MUTATING_WEBHOOK, admission::mutate),
            "/resource-validation" => (admission::VALIDATING_WEBHOOK, admission::validate),
            "/config-validation" => (admission::CONFIG_WEBHOOK, admission::validate),
            _ => return None,
        };
        Some(Self { webhook, answer })
    }
}

// === impl Reviews ===

impl Answer for Reviews {
    async fn answer(
        &self,
        request: HttpRequest<Incoming>,
        caller: Caller,
    ) -> Response<Full<Bytes>> {
        let Some(question) = Question::at(request.uri().path()) else {
            return text(StatusCode::NOT_FOUND, "there is nothing at this path");
        };
        if request.method() != Method::POST {
            return text(StatusCode::METHOD_NOT_ALLOWED, "a review is sent with POST");
        }
        // Outside of the limit on reviews, since reading waits for the client.
        let Whole { bytes, share } = match body::read(request.into_body(), &self.budget).await {
            Ok(whole) => whole,
            Err(refusal) => {
                self.count(question, refusal.outcome());
                let (status, message) = refusal.answer();
                return text(status, message);
            }
        };
        let asked = caller.has_asked();
        let place = self.places.acquire().await;
        let answer = self.hear(question, &bytes);
        drop((place, share));
        asked.answered();
        answer
    }
}

impl Reviews {
    fn new(config: watch::Receiver<Arc<Config>>) -> Self {
        Self {
            config,
            budget: Arc::new(Semaphore::new(REVIEWS_BYTES_MAX)),
            places: Arc::new(Semaphore::new(REVIEWS_MAX)),
            answered: Family::default(),
        }
    }

    fn hear(&self, question: Question, body: &[u8]) -> Response<Full<Bytes>> {
        let config = self.config.borrow().clone();
        let answer = review::answer(body, |request| (question.answer)(request, &config));
        let outcome = match &answer {
            Ok(answer) if answer["response"]["allowed"] == true => "allowed",
            Ok(_) => "denied",
            Err(_) => "unreadable",
        };
        self.count(question, outcome);
        match answer {
            Ok(answer) => {
                let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
                let json = header::HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                response
            }
            Err(problem) => text(StatusCode::BAD_REQUEST, problem),
        }
    }

    fn count(&self, question: Question, outcome: &'static str) {
        let labels = ReviewLabels { webhook: question.webhook, outcome };
        self.answered.get_or_create(&labels).inc();
    }
}

fn text(status: StatusCode, message: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(message.into()));
    *response.status_mut() = status;
    response
}
