//! The PodAutoscaler of a Revision.

use ebb_api::autoscaling::{PodAutoscaler, PodAutoscalerSpec, Reachability, ScaleTargetRef};
use ebb_api::labels;
use ebb_api::serving::{ROUTING_ACTIVE, ROUTING_PENDING, Revision};
use kube::ResourceExt as _;

use super::deployment;
use crate::owner;

/// The PodAutoscaler, with the autoscaling annotations as the Revision has them now: an edited
/// min-scale or max-scale takes effect without a new Revision.
pub(super) fn build(revision: &Revision) -> PodAutoscaler {
    let spec = PodAutoscalerSpec {
        container_concurrency: revision.spec.container_concurrency.unwrap_or(0),
        scale_target_ref: ScaleTargetRef {
            api_version: Some("apps/v1".to_owned()),
            kind: Some("Deployment".to_owned()),
            name: Some(deployment::name(revision)),
        },
        reachability: reachability(revision),
        protocol_type: revision.spec.protocol(),
    };
    let name = revision.name_any();
    let notes = owner::without(revision.annotations(), deployment::is_bookkeeping);
    let mut autoscaler = PodAutoscaler::new(&name, spec);
    autoscaler.metadata = owner::child(revision, &name, deployment::labels(revision), notes);
    autoscaler
}

/// Source: knative/serving pkg/reconciler/revision/resources/pa.go. A failed Revision counts as
/// unreachable there, to let its pods go; here the deadline does that, and a Revision that was
/// ready must be free to be tried again.
fn reachability(revision: &Revision) -> Reachability {
    match revision.labels().get(labels::ROUTING_STATE).map(String::as_str) {
        Some(ROUTING_ACTIVE) => Reachability::Reachable,
        None | Some(ROUTING_PENDING | "") => Reachability::Unknown,
        Some(_) => Reachability::Unreachable,
    }
}

#[cfg(test)]
mod tests {
    use ebb_api::annotations;

    use super::*;

    #[test]
    fn reachability_follows_the_routing_state() {
        for (state, expected) in [
            (None, Reachability::Unknown),
            (Some("pending"), Reachability::Unknown),
            (Some("active"), Reachability::Reachable),
            (Some("reserve"), Reachability::Unreachable),
        ] {
            let mut revision = Revision::default();
            revision.metadata.labels =
                state.map(|state| [(labels::ROUTING_STATE.to_owned(), state.to_owned())].into());
            assert_eq!(reachability(&revision), expected, "{state:?}");
        }
    }

    #[test]
    fn edited_bounds_flow_and_bookkeeping_does_not() {
        let mut revision = Revision::default();
        revision.metadata.name = Some("digits-00001".to_owned());
        revision.metadata.annotations = Some(
            [
                (annotations::MIN_SCALE.name(), "2"),
                (annotations::ROUTING_STATE_MODIFIED, "now"),
                (annotations::ROUTES, "digits"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        );
        let autoscaler = build(&revision);
        assert_eq!(autoscaler.annotations().len(), 1);
        assert_eq!(autoscaler.annotations()[annotations::MIN_SCALE.name()], "2");
        let target = autoscaler.spec.scale_target_ref;
        assert_eq!(target.name.as_deref(), Some("digits-00001-deployment"));
    }
}
