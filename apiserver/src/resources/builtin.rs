//! Kubernetes' own kinds.

use super::{ALL_VERBS, READ_VERBS, ResourceType};
use crate::schema::compile::Compiler;
use crate::table::columns;

/// Name of the type of every kind's metadata.
pub(super) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The schemas of [`KINDS`] and of all types inside them, by name of the type. Written by
/// `make generate`: made at each start, they would need the schema code of all Kubernetes' types.
const SCHEMAS: &str = include_str!("../../kinds.json");

/// A built-in kind, as Kubernetes' discovery tells of it.
struct BuiltIn {
    /// Name of its type in Kubernetes' OpenAPI document.
    type_name: &'static str,
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    short_names: &'static [&'static str],
    /// Whether `kubectl get all` shows it.
    in_all: bool,
    scope: Scope,
    subresources: Subresources,
    verbs: &'static [&'static str],
}

#[derive(PartialEq, Eq)]
enum Scope {
    Cluster,
    Namespace,
}

/// Which subresources a kind has.
#[derive(PartialEq, Eq)]
enum Subresources {
    None,
    Status,
    /// Status, and changes of the spec are counted.
    StatusAndGeneration,
    /// The same, and scale.
    StatusAndScale,
}

const KINDS: &[BuiltIn] = &[
    BuiltIn {
        in_all: true,
        subresources: Subresources::StatusAndGeneration,
        ..core("Pod", "pods", &["po"])
    },
    BuiltIn {
        in_all: true,
        subresources: Subresources::Status,
        ..core("Service", "services", &["svc"])
    },
    core("ConfigMap", "configmaps", &["cm"]),
    core("Secret", "secrets", &[]),
    core("Event", "events", &["ev"]),
    core("ServiceAccount", "serviceaccounts", &["sa"]),
    BuiltIn {
        scope: Scope::Cluster,
        subresources: Subresources::Status,
        ..core("Namespace", "namespaces", &["ns"])
    },
    BuiltIn {
        type_name: "io.k8s.api.apps.v1.Deployment",
        group: "apps",
        in_all: true,
        subresources: Subresources::StatusAndScale,
        ..core("Deployment", "deployments", &["deploy"])
    },
    BuiltIn {
        type_name: "io.k8s.api.coordination.v1.Lease",
        group: "coordination.k8s.io",
        ..core("Lease", "leases", &[])
    },
    BuiltIn {
        type_name: "io.k8s.api.events.v1.Event",
        group: "events.k8s.io",
        ..core("Event", "events", &["ev"])
    },
    BuiltIn {
        type_name: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
        group: "apiextensions.k8s.io",
        scope: Scope::Cluster,
        subresources: Subresources::Status,
        verbs: READ_VERBS,
        ..core("CustomResourceDefinition", "customresourcedefinitions", &["crd", "crds"])
    },
];

/// A namespaced kind of the core group without subresources. Its type name is left empty: the type
/// name of a core kind follows from the kind.
const fn core(
    kind: &'static str,
    plural: &'static str,
    short_names: &'static [&'static str],
) -> BuiltIn {
    BuiltIn {
        type_name: "",
        group: "",
        kind,
        plural,
        short_names,
        in_all: false,
        scope: Scope::Namespace,
        subresources: Subresources::None,
        verbs: ALL_VERBS,
    }
}

/// A compiler that knows the types of every built-in kind.
pub(super) fn compiler() -> Compiler {
    Compiler::new(serde_json::from_str(SCHEMAS).expect("make generate writes schemas only"))
}

pub(super) fn resources(compiler: &mut Compiler) -> Vec<ResourceType> {
    KINDS
        .iter()
        .map(|kind| {
            let type_name = match kind.type_name {
                "" => format!("io.k8s.api.core.v1.{}", kind.kind),
                name => name.to_owned(),
            };
            ResourceType {
                group: kind.group.to_owned(),
                version: "v1".to_owned(),
                kind: kind.kind.to_owned(),
                plural: kind.plural.to_owned(),
                singular: kind.kind.to_lowercase(),
                short_names: kind.short_names.iter().map(|&name| name.into()).collect(),
                categories: kind.in_all.then(|| "all".to_owned()).into_iter().collect(),
                namespaced: kind.scope == Scope::Namespace,
                has_status: kind.subresources != Subresources::None,
                has_scale: kind.subresources == Subresources::StatusAndScale,
                verbs: kind.verbs,
                schema: compiler.built_in(&type_name),
                columns: columns::built_in(kind.group, kind.kind),
                custom: false,
                generation: matches!(
                    kind.subresources,
                    Subresources::StatusAndGeneration | Subresources::StatusAndScale
                ),
            }
        })
        .collect()
}
