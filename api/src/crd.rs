//! The CustomResourceDefinitions of Ebb's kinds, generated from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use crate::serving::{Configuration, Revision, Route, Service};

/// Lets Knative's duck-typing tools find addressable kinds.
const ADDRESSABLE: (&str, &str) = ("duck.knative.dev/addressable", "true");
/// Lets Knative's duck-typing tools find kinds that hold a pod spec.
const PODSPECABLE: (&str, &str) = ("duck.knative.dev/podspecable", "true");

/// Every definition, in the order in which they are installed.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        labelled(Configuration::crd(), &[PODSPECABLE]),
        labelled(Revision::crd(), &[PODSPECABLE]),
        labelled(Route::crd(), &[ADDRESSABLE]),
        labelled(Service::crd(), &[ADDRESSABLE, PODSPECABLE]),
    ]
}

fn labelled(
    mut crd: CustomResourceDefinition,
    labels: &[(&str, &str)],
) -> CustomResourceDefinition {
    let own = [("app.kubernetes.io/name", "ebb")];
    crd.metadata.labels = Some(
        own.iter().chain(labels).map(|(key, value)| ((*key).into(), (*value).into())).collect(),
    );
    crd
}
