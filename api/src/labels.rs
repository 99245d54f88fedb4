//! Label keys of Knative Serving that Ebb writes and selects on.

use std::collections::BTreeMap;

/// Name of the Configuration a Revision (and its pods) came from.
pub const CONFIGURATION: &str = "serving.knative.dev/configuration";
/// `metadata.generation` of the Configuration that stamped a Revision out.
pub const CONFIGURATION_GENERATION: &str = "serving.knative.dev/configurationGeneration";
/// UID of the Configuration a Revision came from.
pub const CONFIGURATION_UID: &str = "serving.knative.dev/configurationUID";
/// Name of the Revision that a pod or Deployment belongs to.
pub const REVISION: &str = "serving.knative.dev/revision";
/// UID of the Revision: the selector of its Deployment, for a name can be used again.
pub const REVISION_UID: &str = "serving.knative.dev/revisionUID";
/// Name of the Route that a placeholder Service belongs to.
pub const ROUTE: &str = "serving.knative.dev/route";
/// `active` when a Route sends traffic to the Revision, `reserve` when none does, else `pending`.
pub const ROUTING_STATE: &str = "serving.knative.dev/routingState";
/// Name of the Service that owns an object.
pub const SERVICE: &str = "serving.knative.dev/service";
/// UID of the Service that owns an object.
pub const SERVICE_UID: &str = "serving.knative.dev/serviceUID";
/// `cluster-local` keeps a Service, Route or tag off the external hosts.
pub const VISIBILITY: &str = "networking.knative.dev/visibility";
/// The value of [`VISIBILITY`] that hides a route.
pub const VISIBILITY_CLUSTER_LOCAL: &str = "cluster-local";
/// Selects the pods of Ebb's activators, in the namespace that Ebb runs in.
pub const ACTIVATORS: &str = "app.kubernetes.io/name=ebb,app.kubernetes.io/component=activator";
/// The common `app` label of pods, set to the Revision's name unless the user set it.
pub const APP: &str = "app";

/// Whether an object with these labels is hidden from the external hosts.
pub fn is_cluster_local(own: &BTreeMap<String, String>) -> bool {
    own.get(VISIBILITY).is_some_and(|value| value == VISIBILITY_CLUSTER_LOCAL)
}
