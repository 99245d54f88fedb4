//! Keeps the certificate: in a Secret that all replicas share, in the webhook configurations by
//! which the API server trusts it, and in the server itself.
//!
//! It looks every few seconds, since other replicas change the Secret, and at once when a webhook
//! configuration changes: until a caBundle that some tool took out is back, every write of the
//! kinds under admission fails. The verbs for the Secret and the configurations can be granted for
//! these objects alone.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ebb_daemon::pauses::WatchPauses;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, Error};
use rustls::ServerConfig;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::certificate::{Certificate, IssueError, Standing};
use super::tls;
use crate::admission::{CONFIG_WEBHOOK, MUTATING_WEBHOOK, VALIDATING_WEBHOOK};
use crate::scribe::{MANAGER, chain};

/// Name of the Secret.
const SECRET: &str = "ebb-webhook-certs";
/// Time between two looks if nothing happens.
const PERIOD: Duration = Duration::from_secs(10);
/// Time between two looks until all is in place: at the start, and as long as a webhook
/// configuration is missing, since an installation may create it after the controller has begun.
const PERIOD_AT_START: Duration = Duration::from_millis(500);
/// Shortest time between two looks, in case another tool undoes at once what the keeper does.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest time for one look.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Why a look found no certificate to serve.
#[derive(Debug, thiserror::Error)]
enum LookError {
    /// The API server did not do what it was asked.
    #[error(transparent)]
    Api(#[from] Error),
    /// The keeper creates no Secret: that would take the right to create any.
    #[error(
        "there is no Secret {SECRET}: make it again by helm upgrade, or by kubectl create secret \
         generic {SECRET}"
    )]
    NoSecret,
    /// No certificate can be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// Another replica was quicker, and the certificate that is known is of no use.
    #[error("another replica has just stored a new certificate")]
    Overtaken,
}

/// The result of one look.
struct Look {
    certificate: Certificate,
    /// Whether all webhook configurations were there.
    complete: bool,
}

/// Looks after one certificate.
pub(super) struct Keeper {
    client: Client,
    secrets: Api<Secret>,
    /// The DNS name that the API server asks for.
    name: String,
}

/// A webhook configuration, as far as it matters here.
trait Configured:
    kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static
{
    /// Names of its webhooks with the caBundle of each.
    fn trusted(&self) -> Vec<(&str, Option<&ByteString>)>;
}

// === impl Configured ===

impl Configured for MutatingWebhookConfiguration {
    fn trusted(&self) -> Vec<(&str, Option<&ByteString>)> {
        let webhooks = self.webhooks.iter().flatten();
        webhooks.map(|hook| (hook.name.as_str(), hook.client_config.ca_bundle.as_ref())).collect()
    }
}

impl Configured for ValidatingWebhookConfiguration {
    fn trusted(&self) -> Vec<(&str, Option<&ByteString>)> {
        let webhooks = self.webhooks.iter().flatten();
        webhooks.map(|hook| (hook.name.as_str(), hook.client_config.ca_bundle.as_ref())).collect()
    }
}

// === impl Keeper ===

impl Keeper {
    /// A keeper of the certificate for a Service.
    pub(super) fn new(client: Client, service: &str, namespace: &str) -> Self {
        let secrets = Api::namespaced(client.clone(), namespace);
        Self { client, secrets, name: format!("{service}.{namespace}.svc") }
    }

    /// The certificate to begin with, once the API server trusts it; `None` after `shutdown`.
    pub(super) async fn first(&self, shutdown: &CancellationToken) -> Option<Certificate> {
        loop {
            if let Some(look) = self.look().await {
                return Some(look.certificate);
            }
            tokio::select! {
                () = shutdown.cancelled() => return None,
                () = sleep(PERIOD_AT_START) => {}
            }
        }
    }

    /// Keeps the certificate from now on, until `shutdown`.
    pub(super) async fn run(self, served: Arc<ArcSwap<ServerConfig>>, shutdown: CancellationToken) {
        let (mut current, mut pause) = (None, PERIOD_AT_START);
        let mut changes = pin!(self.changes());
        loop {
            let change = async {
                sleep(PAUSE).await;
                // The stream ends only if all watches end: then only the period is left.
                if changes.next().await.is_none() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = change => {}
                () = sleep(pause) => {}
            }
            let Some(Look { certificate, complete }) = self.look().await else { continue };
            pause = if complete { PERIOD } else { PERIOD_AT_START };
            if current.as_ref() == Some(&certificate) {
                continue;
            }
            match tls::server(&certificate) {
                Ok(tls) => {
                    served.store(tls);
                    current = Some(certificate);
                }
                Err(error) => {
                    tracing::error!(%error, "Cannot load the new certificate, the older one stays in use");
                }
            }
        }
    }

    /// An item for each change of a webhook configuration.
    fn changes(&self) -> impl Stream<Item = ()> + use<> {
        fn of<K: Configured>(client: &Client, name: &str) -> BoxStream<'static, ()> {
            let named = watcher::Config::default().fields(&format!("metadata.name={name}"));
            let events = watcher(Api::<PartialObjectMeta<K>>::all(client.clone()), named)
                .backoff(WatchPauses::default());
            let changes = events.filter_map(|event| async {
                match event {
                    Ok(watcher::Event::Init) => None,
                    Ok(_) => Some(()),
                    Err(error) => {
                        tracing::debug!(%error, "Cannot watch a webhook configuration");
                        None
                    }
                }
            });
            changes.boxed()
        }
        futures::stream::select_all([
            of::<MutatingWebhookConfiguration>(&self.client, MUTATING_WEBHOOK),
            of::<ValidatingWebhookConfiguration>(&self.client, VALIDATING_WEBHOOK),
            of::<ValidatingWebhookConfiguration>(&self.client, CONFIG_WEBHOOK),
        ])
    }

    /// One look: returns the certificate to serve, which the API server then trusts; `None` if the
    /// look failed.
    async fn look(&self) -> Option<Look> {
        let look = async {
            let certificate = self.shared().await?;
            let mut complete = self
                .make_trusted::<MutatingWebhookConfiguration>(MUTATING_WEBHOOK, &certificate)
                .await?;
            for name in [VALIDATING_WEBHOOK, CONFIG_WEBHOOK] {
                complete &=
                    self.make_trusted::<ValidatingWebhookConfiguration>(name, &certificate).await?;
            }
            Ok::<_, LookError>(Look { certificate, complete })
        };
        match tokio::time::timeout(TIMEOUT, look).await {
            Ok(Ok(look)) => Some(look),
            Ok(Err(error)) => {
                let error = chain(&error);
                tracing::warn!(error, "The webhook's certificate is not in place, will try again");
                None
            }
            Err(_) => {
                tracing::warn!("Checking the webhook's certificate timed out, will try again");
                None
            }
        }
    }

    /// The certificate in the Secret, after a new one was put there if it was time.
    async fn shared(&self) -> Result<Certificate, LookError> {
        let now = Timestamp::now();
        let Some(secret) = self.secrets.get_opt(SECRET).await? else {
            return Err(LookError::NoSecret);
        };
        let stored = secret.data.as_ref().and_then(Certificate::read);
        if let Some(stored) = &stored {
            match self.standing(stored, now) {
                Standing::Good => return Ok(stored.clone()),
                Standing::Bad(why) => {
                    tracing::warn!(why, "The webhook's certificate is replaced");
                }
                Standing::Due => {}
            }
        }
        let fresh = Certificate::issue(&self.name, now)?.after(stored.as_ref());
        match self.store(secret, &fresh).await {
            Ok(()) => {
                tracing::info!(certificate.name = self.name, "The webhook has a new certificate");
                Ok(fresh)
            }
            // Another replica was quicker: the next look finds its certificate.
            Err(Error::Api(status)) if status.code == 409 => match stored {
                Some(stored) if self.standing(&stored, now) == Standing::Due => Ok(stored),
                _ => Err(LookError::Overtaken),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a certificate can be served, with its key.
    fn standing(&self, certificate: &Certificate, now: Timestamp) -> Standing {
        match (certificate.standing(&self.name, now), tls::server(certificate)) {
            (Standing::Bad(why), _) => Standing::Bad(why),
            (_, Err(error)) => Standing::Bad(error.to_string()),
            (standing, Ok(_)) => standing,
        }
    }

    async fn store(&self, secret: Secret, certificate: &Certificate) -> Result<(), Error> {
        let parameters =
            PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        // The Secret's version makes a second writer lose.
        let secret = Secret { data: Some(certificate.data()), ..secret };
        self.secrets.replace(SECRET, &parameters, &secret).await.map(drop)
    }

    /// Makes every webhook of a configuration trust the certificate's authority; returns whether
    /// there is such a configuration.
    async fn make_trusted<K: Configured>(
        &self,
        name: &str,
        certificate: &Certificate,
    ) -> Result<bool, Error> {
        let api: Api<K> = Api::all(self.client.clone());
        let Some(configuration) = api.get_opt(name).await? else {
            tracing::debug!(configuration.name = name, "There is no such webhook configuration");
            return Ok(false);
        };
        let bundle = ByteString(certificate.authority.clone().into_bytes());
        let behind = configuration.trusted().into_iter();
        let behind = behind.filter(|(_, trusted)| *trusted != Some(&bundle)).map(|(name, _)| name);
        let webhooks: Vec<_> = behind
            .map(|name| json!({"name": name, "clientConfig": {"caBundle": bundle}}))
            .collect();
        if webhooks.is_empty() {
            return Ok(true);
        }
        // The list is merged by name, so that nothing else of a webhook is touched.
        let parameters =
            PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Strategic(json!({"webhooks": webhooks}));
        api.patch(name, &parameters, &patch).await?;
        tracing::info!(configuration.name = name, "The API server trusts the webhook");
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
