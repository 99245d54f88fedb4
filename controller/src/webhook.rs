//! Admission for an API server: the same decisions as [`crate::admission`], asked over TLS.
//!
//! Every replica serves, whichever leads. The certificate is made here and shared by a Secret
//! (`certificate`, `keeper`), so that nothing else has to be installed for it.

mod certificate;
mod keeper;
mod review;
mod tls;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use ebb_api::config::Config;
use ebb_daemon::readiness::Task;
use kube::Client;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::limit::GlobalConcurrencyLimitLayer;

use self::keeper::Keeper;
use crate::admission::{self, Request, Verdict};

/// Longest review: the API server takes objects of 3 MiB, and an update carries two of them.
const REVIEW_BYTES_MAX: usize = 7 * 1024 * 1024;
/// Reviews looked at at once; more wait in their connections. With the length above it bounds
/// what anybody who reaches the port can make this process hold.
const REVIEWS_MAX: usize = 8;
/// How long reviews in flight may take to end at a shutdown: an API server gives up after 10 s,
/// and a review takes milliseconds.
const DRAIN: Duration = Duration::from_secs(5);

/// What the webhook needs from its process.
pub struct WebhookOptions {
    /// Client of the API server.
    pub client: Client,
    /// The platform's settings: defaults come from there.
    pub config: watch::Receiver<Arc<Config>>,
    /// Where it listens.
    pub listener: TcpListener,
    /// Name of the Service that leads there.
    pub service: String,
    /// Namespace of that Service and of the Secret with the certificate.
    pub namespace: String,
}

/// The webhook server, registered and not running yet.
pub struct Webhook {
    options: WebhookOptions,
    reviews: Reviews,
}

/// What the handlers share.
#[derive(Clone)]
struct Reviews {
    config: watch::Receiver<Arc<Config>>,
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
        let answered = Family::default();
        let help = "Admission reviews that were answered, by webhook and outcome";
        registry.register("reviews", help, answered.clone());
        Self { reviews: Reviews { config: options.config.clone(), answered }, options }
    }

    /// Serves until `shutdown`, then lets reviews in flight end. `ready` is done once the API
    /// server knows the certificate that is served.
    ///
    /// # Errors
    ///
    /// The listener broke, or no certificate can be made.
    pub async fn run(self, ready: Task, shutdown: CancellationToken) -> anyhow::Result<()> {
        let WebhookOptions { client, listener, service, namespace, .. } = self.options;
        let keeper = Keeper::new(client, &service, &namespace);
        let Some(first) = keeper.first(&shutdown).await else { return Ok(()) };
        let tls = RustlsConfig::from_config(tls::server(&first)?);
        drop(ready);
        let handle = Handle::new();
        let keeping = tokio::spawn(keeper.run(tls.clone(), shutdown.clone()));
        let closing = tokio::spawn({
            let handle = handle.clone();
            async move {
                shutdown.cancelled().await;
                handle.graceful_shutdown(Some(DRAIN));
            }
        });
        let served = axum_server::from_tcp_rustls(listener, tls)?
            .handle(handle)
            .serve(router(self.reviews).into_make_service())
            .await;
        keeping.abort();
        closing.abort();
        served.context("the webhook's listener broke")
    }
}

fn router(reviews: Reviews) -> Router {
    let ask = |webhook, answer| {
        let question = Question { webhook, answer };
        post(move |state: State<Reviews>, body: Bytes| async move { state.0.hear(question, &body) })
    };
    // Knative's paths, so that webhook configurations made for it fit.
    Router::new()
        .route("/defaulting", ask(admission::MUTATING_WEBHOOK, admission::mutate))
        .route("/resource-validation", ask(admission::VALIDATING_WEBHOOK, admission::validate))
        .route("/config-validation", ask(admission::CONFIG_WEBHOOK, admission::validate))
        .layer(DefaultBodyLimit::max(REVIEW_BYTES_MAX))
        .layer(GlobalConcurrencyLimitLayer::new(REVIEWS_MAX))
        .with_state(reviews)
}

// === impl Reviews ===

impl Reviews {
    fn hear(&self, question: Question, body: &[u8]) -> Response {
        let config = self.config.borrow().clone();
        let answer = review::answer(body, |request| (question.answer)(request, &config));
        let outcome = match &answer {
            Ok(answer) if answer["response"]["allowed"] == true => "allowed",
            Ok(_) => "denied",
            Err(_) => "unreadable",
        };
        let labels = ReviewLabels { webhook: question.webhook, outcome };
        self.answered.get_or_create(&labels).inc();
        match answer {
            Ok(answer) => axum::Json(answer).into_response(),
            Err(problem) => (http::StatusCode::BAD_REQUEST, problem).into_response(),
        }
    }
}
