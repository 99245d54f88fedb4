//! The Deployment of a Revision. Source of its shape: knative/serving
//! pkg/reconciler/revision/resources/deploy.go.

use std::collections::BTreeMap;
use std::sync::Arc;

use ebb_api::config::Config;
use ebb_api::first_scale::first_scale;
use ebb_api::serving::Revision;
use ebb_api::start_timeout::START_TIMEOUT;
use ebb_api::waiting_events::WAITING_EVENTS;
use ebb_api::waiting_page::WAITING_PAGE;
use ebb_api::{annotations, labels, names, progress, starts};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::pod;
use crate::stores::Stores;
use crate::{ModelFetcher, owner};

/// The Deployment that has the Revision's name for it, or that an earlier release made for it under
/// another name: that one keeps its name, and its pods run on.
pub(super) fn find(revision: &Revision, stores: &Stores) -> Option<Arc<Deployment>> {
    let namespace = revision.namespace().unwrap_or_default();
    let own = revision.name_any();
    let find = |name: &str| stores.deployments.get(&namespace, name);
    let earlier = names::earlier_deployment(&own).and_then(|name| find(&name));
    let earlier = earlier.filter(|known| owner::controls(revision, &**known));
    earlier.or_else(|| find(&names::deployment(&own)))
}

/// Labels of everything that belongs to the Revision.
pub(super) fn labels(revision: &Revision) -> BTreeMap<String, String> {
    // The routing state changes with traffic: on a pod template it would restart the pods.
    let mut own = owner::without(revision.labels(), |key| key == labels::ROUTING_STATE);
    own.insert(labels::REVISION.to_owned(), revision.name_any());
    own.insert(labels::REVISION_UID.to_owned(), revision.uid().unwrap_or_default());
    own.entry(labels::APP.to_owned()).or_insert_with(|| revision.name_any());
    own
}

/// Whether an annotation of a Revision is bookkeeping, such as that of its routing: it changes
/// while the Revision runs and means nothing to its children.
pub(super) fn is_bookkeeping(key: &str) -> bool {
    [annotations::ROUTES, annotations::ROUTING_STATE_MODIFIED, annotations::NO_GC].contains(&key)
        || key == "serving.knative.dev/lastPinned"
        || key == owner::LAST_APPLIED
        || [starts::STARTS, START_TIMEOUT.name(), WAITING_EVENTS.name(), WAITING_PAGE.name()]
            .contains(&key)
}

/// The Deployment without `replicas`; `known` is the one that there is.
///
/// # Errors
///
/// Why it cannot be, as one sentence for the Revision's condition.
pub(super) fn build(
    revision: &Revision,
    config: &Config,
    fetcher: Option<&ModelFetcher>,
    known: Option<&Deployment>,
) -> Result<Deployment, String> {
    // What has no replicas can change without a restart.
    let spec = known.and_then(|known| known.spec.as_ref());
    let running = spec.filter(|spec| spec.replicas != Some(0));
    let running = running.and_then(|spec| spec.template.spec.as_ref());
    let notes = notes(revision);
    let own = labels(revision);
    let uid = revision.uid().unwrap_or_default();
    let name = known.map_or_else(|| names::deployment(&revision.name_any()), ResourceExt::name_any);
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(own.clone()),
            annotations: Some(pod::annotations(revision, notes.clone())),
            ..ObjectMeta::default()
        }),
        spec: Some(pod::build(revision, config, fetcher, running)?),
    };
    Ok(Deployment {
        metadata: owner::child(revision, &name, own, notes),
        spec: Some(DeploymentSpec {
            selector: LabelSelector {
                match_labels: Some([(labels::REVISION_UID.to_owned(), uid)].into()),
                match_expressions: None,
            },
            progress_deadline_seconds: Some(progress_deadline_s(revision, config)),
            // Old ReplicaSets are of no use: a rollback is a new Revision.
            revision_history_limit: Some(0),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_unavailable: Some(IntOrString::Int(0)),
                    max_surge: None,
                }),
            }),
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    })
}

/// The Deployment as it is created. Later only the autoscaler decides the scale.
pub(super) fn with_initial_scale(
    mut deployment: Deployment,
    revision: &Revision,
    config: &Config,
) -> Deployment {
    if let Some(spec) = &mut deployment.spec {
        spec.replicas = Some(initial_scale(revision, config));
    }
    deployment
}

/// The scale that must be reached before the Revision is Ready: the same number that the
/// autoscaler starts from, so that its first decision needs no write.
pub(super) fn initial_scale(revision: &Revision, config: &Config) -> i32 {
    let first = first_scale(revision.metadata.annotations.as_ref(), config);
    i32::try_from(first).unwrap_or(i32::MAX)
}

fn progress_deadline_s(revision: &Revision, config: &Config) -> i32 {
    let deadline = progress::deadline(revision.metadata.annotations.as_ref(), config);
    i32::try_from(deadline.as_secs()).unwrap_or(i32::MAX)
}

/// Annotations of the Deployment and its pods. The autoscaling annotations stay out: editing a
/// min-scale on a Revision must not restart its pods.
fn notes(revision: &Revision) -> BTreeMap<String, String> {
    owner::without(revision.annotations(), |key| {
        is_bookkeeping(key)
            || key
                .strip_prefix(annotations::AUTOSCALING_GROUP)
                .is_some_and(|rest| rest.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::tests::World;

    fn revision(notes: &[(&str, &str)]) -> Revision {
        let mut revision = Revision::default();
        revision.metadata.name = Some("digits-00001".to_owned());
        revision.metadata.uid = Some("u".to_owned());
        revision.metadata.annotations = Some(
            notes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        );
        revision
    }

    fn built(revision: &Revision, config: &Config) -> Deployment {
        build(revision, config, None, None).expect("nothing stands in the way")
    }

    #[test]
    fn replicas_are_set_at_creation_only() {
        let config = Config::default();
        let revision = revision(&[]);
        let deployment = built(&revision, &config);
        assert_eq!(deployment.spec.as_ref().unwrap().replicas, None);
        let first = with_initial_scale(deployment, &revision, &config);
        assert_eq!(first.spec.unwrap().replicas, Some(1));
    }

    #[test]
    fn the_initial_scale_is_within_its_bounds() {
        let initial = "autoscaling.knative.dev/initial-scale";
        let min = "autoscaling.knative.dev/min-scale";
        let max = "autoscaling.knative.dev/maxScale";
        for (notes, zero_allowed, expected) in [
            (vec![(initial, "3")], false, 3),
            (vec![(initial, "0")], false, 1),
            (vec![(initial, "0")], true, 0),
            (vec![(min, "2")], false, 2),
            (vec![(initial, "5"), (max, "2")], false, 2),
            (vec![(initial, "many")], false, 1),
        ] {
            let mut config = Config::default();
            config.autoscaler.allow_zero_initial_scale = zero_allowed;
            assert_eq!(initial_scale(&revision(&notes), &config), expected, "{notes:?}");
        }
    }

    #[test]
    fn the_shape_is_knatives() {
        let deadline = "serving.knative.dev/progress-deadline";
        let deployment = built(&revision(&[(deadline, "2m")]), &Config::default());
        assert_eq!(deployment.name_any(), "digits-00001-deployment");
        let spec = deployment.spec.unwrap();
        assert_eq!(spec.progress_deadline_seconds, Some(120));
        assert_eq!(spec.revision_history_limit, Some(0));
        assert_eq!(
            spec.selector.match_labels,
            Some([(labels::REVISION_UID.to_owned(), "u".to_owned())].into())
        );
        let own = spec.template.metadata.unwrap().labels.unwrap();
        assert_eq!(own[labels::APP], "digits-00001");
        assert_eq!(own[labels::REVISION], "digits-00001");
    }

    #[tokio::test]
    async fn a_deployment_of_an_earlier_release_is_found_and_keeps_its_name() {
        let mut revision = revision(&[]);
        let own = "r".repeat(60);
        revision.metadata.name = Some(own.clone());
        revision.metadata.namespace = Some("default".to_owned());
        let made = |name: &str, owner: &str| -> Deployment {
            let metadata = serde_json::json!({
                "name": name, "namespace": "default", "uid": name,
                "labels": {labels::REVISION_UID: owner},
                "ownerReferences": [{"apiVersion": "serving.knative.dev/v1", "kind": "Revision",
                    "name": own, "uid": owner, "controller": true}],
            });
            serde_json::from_value(serde_json::json!({"metadata": metadata})).expect("a sample")
        };
        let earlier = names::earlier_deployment(&own).expect("it is long");
        let mut world = World::new();
        world.watches.deployments.feed(made(&earlier, "another"));
        assert_eq!(find(&revision, &world.stores), None, "it is of another Revision");
        world.watches.deployments.feed(made(&earlier, "u"));
        let known = find(&revision, &world.stores).expect("it is there");
        let next = build(&revision, &Config::default(), None, Some(&known)).expect("it can be");
        assert_eq!(next.name_any(), earlier);
        assert_eq!(built(&revision, &Config::default()).name_any(), names::deployment(&own));
    }

    #[test]
    fn what_changes_while_pods_run_is_not_in_their_template() {
        let mut before = revision(&[("team", "a")]);
        let mut after = revision(&[
            ("team", "a"),
            ("autoscaling.knative.dev/min-scale", "3"),
            (annotations::ROUTING_STATE_MODIFIED, "now"),
        ]);
        before.metadata.labels =
            Some([(labels::ROUTING_STATE.to_owned(), "pending".to_owned())].into());
        after.metadata.labels =
            Some([(labels::ROUTING_STATE.to_owned(), "active".to_owned())].into());
        let config = Config::default();
        assert_eq!(built(&before, &config), built(&after, &config));
    }
}
