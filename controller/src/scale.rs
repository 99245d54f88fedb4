//! Sets the replicas of Deployments to what the autoscaler wants.
//!
//! This is on the path of every cold start, so it is a loop of its own: a fact from a watch goes to
//! a pure [`Ledger`], and the patch that the ledger asks for leaves in the same turn. One merge
//! patch of the `scale` subresource, no read before it but after a refusal, no reconcile around it.
//!
//! A patch names the version that it follows from, and is refused once there is a newer one: a
//! controller that was cut off, and leads no more, may have sent it long ago.

use std::time::Duration;

use ebb_api::resource_version::ResourceVersion;
use ebb_api::serving::Revision;
use ebb_api::{annotations, backoff, names};
use futures::channel::mpsc;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tracing::{debug, warn};

mod ledger;

use self::ledger::{Ledger, Observed, ScaleWrite};
use crate::metrics::ControllerMetrics;
use crate::scribe::MANAGER;

/// First pause after a failed patch: a request may be waiting for it.
const RETRY_MIN: Duration = Duration::from_millis(5);
/// Longest pause after failed patches.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Namespace and name of a Deployment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    namespace: String,
    name: String,
}

/// News from a watch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// The number of replicas that the autoscaler wants, if it has an opinion, for a Deployment whose
    /// name is one of these: at most one of them is there.
    Desired(Vec<Target>, Option<i32>),
    /// The scale of the Deployment at a version; `None` if it is gone.
    Observed(Target, Option<Observed>),
}

/// How a patch ended.
enum Outcome {
    /// Written; with the version of the Deployment after the write.
    Written(Target, ResourceVersion),
    /// The Deployment is gone: a new one starts a new page.
    Gone(Target),
    /// Refused, because there is a newer version: this one.
    Outdated(Target, Observed),
    /// Failed.
    Failed(Target),
    /// The pause after a failure is over.
    Rested(Target),
}

/// The scale loop.
pub(crate) struct Scaler {
    client: Client,
    metrics: ControllerMetrics,
    ledger: Ledger<Target>,
    /// One future at most for each Deployment: the ledger has one write of each in flight.
    pending: FuturesUnordered<BoxFuture<'static, Outcome>>,
}

// === impl Fact ===

impl Fact {
    /// The replicas that a Revision's status asks for: none if the Revision is gone or something
    /// other than Ebb sets its scale.
    pub(crate) fn of_revision(revision: &Revision, gone: bool) -> Option<Self> {
        let own = revision.name_any();
        let namespace = revision.namespace()?;
        let names = [Some(names::deployment(&own)), names::earlier_deployment(&own)];
        let names = names.into_iter().flatten();
        let targets = names.map(|name| Target { namespace: namespace.clone(), name }).collect();
        let desired = revision
            .status
            .as_ref()
            .and_then(|status| status.desired_replicas)
            .filter(|scale| !gone && *scale >= 0)
            .filter(|_| annotations::is_scaled_here(revision.metadata.annotations.as_ref()));
        Some(Self::Desired(targets, desired))
    }

    /// The fact of a Deployment.
    pub(crate) fn of_deployment(deployment: &Deployment, gone: bool) -> Option<Self> {
        let target = Target { namespace: deployment.namespace()?, name: deployment.name_any() };
        let going = gone || deployment.metadata.deletion_timestamp.is_some();
        Some(Self::Observed(target, (!going).then(|| observed(deployment))))
    }
}

// === impl Scaler ===

impl Scaler {
    /// A loop that knows nothing yet.
    pub(crate) fn new(client: Client, metrics: ControllerMetrics) -> Self {
        Self { client, metrics, ledger: Ledger::default(), pending: FuturesUnordered::new() }
    }

    /// Runs until the facts end. Patches in flight are then dropped; the next run finds the
    /// difference again.
    pub(crate) async fn run(mut self, mut facts: mpsc::Receiver<Fact>) {
        loop {
            tokio::select! {
                biased;
                // Outcomes first: they free the page for the next fact.
                Some(outcome) = self.pending.next() => self.end(outcome),
                fact = facts.next() => match fact {
                    Some(fact) => self.take(fact),
                    None => return,
                },
            }
        }
    }

    fn take(&mut self, fact: Fact) {
        match fact {
            Fact::Desired(targets, desired) => {
                for target in targets {
                    let write = self.ledger.desire(&target, desired);
                    self.begin(target, write);
                }
            }
            Fact::Observed(target, observed) => {
                let write = self.ledger.observe(&target, observed);
                self.begin(target, write);
            }
        }
    }

    fn begin(&mut self, target: Target, write: Option<ScaleWrite>) {
        let Some(ScaleWrite { replicas, from }) = write else { return };
        debug!(deployment.name = target.name, replicas, "Scaling");
        self.metrics.wrote("Deployment", "scale");
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &target.namespace);
        let patch = async move {
            let version = from.number().map(|version| version.to_string());
            let patch = Patch::Merge(json!({
                // Null, and so no condition, where the version is no number.
                "metadata": {"resourceVersion": version}, "spec": {"replicas": replicas},
            }));
            let params =
                PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            match deployments.patch_scale(&target.name, &params, &patch).await {
                Ok(scale) => {
                    let version = ResourceVersion::of(&scale.metadata);
                    Outcome::Written(target, version)
                }
                Err(kube::Error::Api(status)) if status.is_not_found() => Outcome::Gone(target),
                Err(kube::Error::Api(status)) if status.is_conflict() => {
                    outdated(&deployments, target).await
                }
                Err(error) => {
                    warn!(%error, deployment.name = target.name, replicas, "Cannot scale, trying again");
                    Outcome::Failed(target)
                }
            }
        };
        self.pending.push(patch.boxed());
    }

    fn end(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Written(target, version) => {
                let next = self.ledger.written(&target, version);
                self.begin(target, next);
            }
            Outcome::Gone(target) => {
                self.ledger.gone(&target);
            }
            Outcome::Outdated(target, newest) => {
                // Not written at once: `rested` does that.
                self.ledger.observe(&target, Some(newest));
                self.end(Outcome::Failed(target));
            }
            Outcome::Failed(target) => {
                let failures = self.ledger.failed(&target);
                let pause = pause_after(failures);
                let rest = async move {
                    tokio::time::sleep(pause).await;
                    Outcome::Rested(target)
                };
                self.pending.push(rest.boxed());
            }
            Outcome::Rested(target) => {
                let next = self.ledger.rested(&target);
                self.begin(target, next);
            }
        }
    }
}

/// (client) Reads what there is now: the watch may be silent, and a request may be waiting.
async fn outdated(deployments: &Api<Deployment>, target: Target) -> Outcome {
    match deployments.get_opt(&target.name).await {
        Ok(Some(found)) if found.metadata.deletion_timestamp.is_none() => {
            Outcome::Outdated(target, observed(&found))
        }
        Ok(_) => Outcome::Gone(target),
        Err(error) => {
            warn!(%error, deployment.name = target.name, "Cannot read what to scale, trying again");
            Outcome::Failed(target)
        }
    }
}

fn observed(deployment: &Deployment) -> Observed {
    Observed {
        // The API server's default, which it also writes.
        replicas: deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
        version: ResourceVersion::of(&deployment.metadata),
    }
}

fn pause_after(failures: u32) -> Duration {
    backoff::pause_after(failures, RETRY_MIN, RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use ebb_api::serving::RevisionStatus;

    use super::*;

    fn revision(desired: Option<i32>) -> Revision {
        let mut revision = Revision::default();
        revision.metadata.namespace = Some("default".to_owned());
        revision.metadata.name = Some("a".to_owned());
        revision.status =
            Some(RevisionStatus { desired_replicas: desired, ..RevisionStatus::default() });
        revision
    }

    #[test]
    fn no_opinion_and_minus_one_are_no_wish() {
        let target = Target { namespace: "default".to_owned(), name: "a-deployment".to_owned() };
        for (desired, gone, wish) in [
            (None, false, None),
            (Some(-1), false, None),
            (Some(0), false, Some(0)),
            (Some(3), false, Some(3)),
            (Some(3), true, None),
        ] {
            assert_eq!(
                Fact::of_revision(&revision(desired), gone),
                Some(Fact::Desired(vec![target.clone()], wish)),
                "{desired:?} {gone}"
            );
        }
    }

    #[test]
    fn a_deployment_under_its_earlier_name_is_scaled_too() {
        let mut revision = revision(Some(1));
        revision.metadata.name = Some("a".repeat(63));
        let Some(Fact::Desired(targets, Some(1))) = Fact::of_revision(&revision, false) else {
            panic!("a wish");
        };
        let names = targets.iter().map(|target| target.name.len());
        assert_eq!(names.collect::<Vec<_>>(), [63, 63]);
        assert_ne!(targets[0], targets[1]);
    }

    #[test]
    fn what_another_autoscaler_set_is_left_alone() {
        let mut revision = revision(Some(1));
        let class = (annotations::CLASS.name().to_owned(), annotations::CLASS_HPA.to_owned());
        revision.metadata.annotations = Some([class].into());
        assert!(matches!(Fact::of_revision(&revision, false), Some(Fact::Desired(_, None))));
    }

    #[test]
    fn retries_are_quick_at_first_and_bounded() {
        assert_eq!(pause_after(1), RETRY_MIN);
        assert_eq!(pause_after(40), RETRY_MAX);
    }
}
