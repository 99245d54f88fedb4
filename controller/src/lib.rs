//! Reconcilers and admission: turns Services, Configurations and Routes into Deployments, and
//! reports the outcome in their statuses.
//!
//! Each reconciler is a row of steps: dereference what an object refers to, validate, build the
//! wanted children, apply them, write the status. Build, validate and status are pure functions;
//! only the outer steps hold a client. One watch per kind feeds one shared store, whichever
//! reconcilers read it, and every write is remembered until the watch has caught up
//! (`cache`), so that nothing is written twice.
//!
//! The `scale` loop stands apart: it is on the path of a cold start and does nothing else.

use std::sync::Arc;

use ebb_api::config::Config;
use ebb_daemon::tasks::TaskError;
use kube::Client;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub mod admission;
mod cache;
pub mod cli;
mod configuration;
mod difference;
mod events;
mod metrics;
mod model_fetcher;
mod owner;
mod queues;
mod reconciler;
mod revision;
mod route;
mod scale;
mod scribe;
mod service;
mod settling;
mod stores;
mod triggers;
pub mod webhook;

pub use crate::model_fetcher::{ClusterFetcher, LocalFetcher, ModelFetcher};

use crate::metrics::ControllerMetrics;
use crate::reconciler::Context;
use crate::stores::{Stores, Watches};

/// What the controller needs from its process.
pub struct ControllerOptions {
    /// Client of the API server; all namespaces are watched.
    pub client: Client,
    /// The platform's settings; a change is acted on at once.
    pub config: watch::Receiver<Arc<Config>>,
    /// Name that the gateway has inside the cluster. With it, each Route gets a core/v1 Service
    /// of its own name that points there; without it (no cluster DNS) none is made.
    pub gateway_host: Option<String>,
    /// What fetches the files of models; without it a Revision that asks for some fails.
    pub model_fetcher: Option<ModelFetcher>,
}

/// All reconcilers, made and registered, not running yet.
pub struct Controller {
    context: Arc<Context>,
    watches: Watches,
}

// === impl Controller ===

impl Controller {
    /// The controller of a whole cluster; its metrics go to the registry. Must be called within
    /// a tokio runtime.
    pub fn new(options: ControllerOptions, registry: &mut Registry) -> Self {
        let ControllerOptions { client, config, gateway_host, model_fetcher } = options;
        let metrics = ControllerMetrics::register(registry);
        let (stores, watches) = Stores::new(&client);
        let context = Context::new(client, stores, config, metrics, gateway_host, model_fetcher);
        let context = Arc::new(context);
        Self { context, watches }
    }

    /// Runs all reconcilers until `shutdown` fires, then lets the reconciles in progress finish.
    ///
    /// Dropping the future stops everything at its next await; what was not written is found
    /// again by the next run, for no state is kept outside the API server. The error names a
    /// task of the controller that ended or panicked before its time; the others end with it.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), TaskError> {
        reconciler::run_all(self.context, self.watches, shutdown).await
    }
}
