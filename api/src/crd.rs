//! The CustomResourceDefinitions of Ebb's kinds.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

/// Written by `make generate` from the types. Making them at each start took code for the schema of
/// every Kubernetes type. `Service::crd()` and its like give definitions without schemas here.
const DEFINITIONS: &str = include_str!("../crds.json");

/// Every definition, in the order in which they are installed.
///
/// # Panics
/// Never: the text is a part of the program, and tests read it.
pub fn all() -> Vec<CustomResourceDefinition> {
    serde_json::from_str(DEFINITIONS).expect("make generate writes definitions only")
}
