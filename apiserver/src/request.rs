//! Reads a request's path and query.

mod query;

use std::sync::Arc;

use percent_encoding::percent_decode_str;

use crate::failure::RequestFailure;
use crate::resources::ResourceType;
pub(crate) use query::{FieldValidation, Propagation, Query};

/// What a path names.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    /// `/healthz`, `/readyz`, `/livez`.
    Health,
    /// `/version`.
    Version,
    /// `/`: the paths there are.
    Root,
    /// `/api`: versions of the core group.
    CoreVersions,
    /// `/apis`: the groups.
    Groups,
    /// `/apis/GROUP`.
    Group(String),
    /// `/api/v1` or `/apis/GROUP/VERSION`: the resources.
    Resources(String, String),
    /// `/openapi/v3`.
    OpenApiIndex,
    /// `/openapi/v3/...`: group and version.
    OpenApi(String, String),
    /// `/apis/authentication.k8s.io/v1/tokenreviews`: a question, which no list of resources names.
    TokenReviews,
    /// Objects.
    Objects(PathTarget),
}

/// The objects that a path names.
#[derive(Debug, Clone)]
pub(crate) struct PathTarget {
    /// Resource type.
    pub(crate) resource: Arc<ResourceType>,
    /// Namespace; none for cluster-wide objects and for a list over all namespaces.
    pub(crate) namespace: Option<String>,
    /// Name; none for the whole collection.
    pub(crate) name: Option<String>,
    /// Subresource.
    pub(crate) subresource: Option<Subresource>,
}

/// A part of an object with its own verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subresource {
    /// `status`: writes touch nothing else.
    Status,
    /// `scale`: the number of replicas.
    Scale,
    /// `log` of a pod.
    Log,
}

// === impl PathTarget ===

impl PathTarget {
    /// Namespace as the store has it: empty for a cluster-wide object.
    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    /// Name, empty for a collection.
    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// Key of the collection in the store. Events are one collection under two groups.
    pub(crate) fn collection(&self) -> String {
        collection_of(&self.resource)
    }
}

// === impl Subresource ===

impl Subresource {
    /// Name in paths.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Log => "log",
        }
    }
}

/// Key of a resource's collection in the store.
pub(crate) fn collection_of(resource: &ResourceType) -> String {
    let ResourceType { group, plural, .. } = resource;
    if group.is_empty() || is_events_v1(resource) {
        plural.clone()
    } else {
        format!("{plural}.{group}")
    }
}

/// Whether these are events under their newer group.
pub(crate) fn is_events_v1(resource: &ResourceType) -> bool {
    resource.group == "events.k8s.io"
}

/// Reads a path.
pub(crate) fn route(path: &str, resources: &[Arc<ResourceType>]) -> Result<Route, RequestFailure> {
    let segments = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| percent_decode_str(segment).decode_utf8().map(String::from))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| RequestFailure::bad_request("the path is not UTF-8"))?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        [] => Ok(Route::Root),
        ["healthz" | "readyz" | "livez", ..] => Ok(Route::Health),
        ["version"] => Ok(Route::Version),
        ["api"] => Ok(Route::CoreVersions),
        ["apis"] => Ok(Route::Groups),
        ["apis", group] => Ok(Route::Group((*group).into())),
        ["api", version] => Ok(Route::Resources(String::new(), (*version).into())),
        ["apis", group, version] => Ok(Route::Resources((*group).into(), (*version).into())),
        ["openapi", "v3"] => Ok(Route::OpenApiIndex),
        ["openapi", "v3", "api", version] => Ok(Route::OpenApi(String::new(), (*version).into())),
        ["openapi", "v3", "apis", group, version] => {
            Ok(Route::OpenApi((*group).into(), (*version).into()))
        }
        ["api", version, rest @ ..] => target(("", version), rest, resources),
        ["apis", "authentication.k8s.io", "v1", "tokenreviews"] => Ok(Route::TokenReviews),
        ["apis", group, version, rest @ ..] => target((group, version), rest, resources),
        _ => Err(RequestFailure::no_resource()),
    }
}

fn target(
    (group, version): (&str, &str),
    segments: &[&str],
    resources: &[Arc<ResourceType>],
) -> Result<Route, RequestFailure> {
    let (namespace, rest) = match segments {
        // A namespace itself and its subresources; any other path is inside the namespace.
        ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => (None, segments),
        ["namespaces", namespace, rest @ ..] => (Some(*namespace), rest),
        rest => (None, rest),
    };
    let (plural, name, subresource) = match rest {
        [plural] => (*plural, None, None),
        [plural, name] => (*plural, Some(*name), None),
        [plural, name, subresource] => (*plural, Some(*name), Some(*subresource)),
        _ => return Err(RequestFailure::no_resource()),
    };
    let resource = resources
        .iter()
        .find(|own| own.plural == plural && own.group == group && own.version == version)
        .ok_or_else(RequestFailure::no_resource)?;
    let misplaced = namespace.is_some() != resource.namespaced;
    if misplaced && (namespace.is_some() || name.is_some()) {
        return Err(RequestFailure::no_resource());
    }
    Ok(Route::Objects(PathTarget {
        subresource: subresource.map(|name| subresource_of(resource, name)).transpose()?,
        resource: Arc::clone(resource),
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
    }))
}

fn subresource_of(resource: &ResourceType, name: &str) -> Result<Subresource, RequestFailure> {
    match name {
        "status" if resource.has_status => Ok(Subresource::Status),
        "scale" if resource.has_scale => Ok(Subresource::Scale),
        "log" if resource.group.is_empty() && resource.plural == "pods" => Ok(Subresource::Log),
        _ => Err(RequestFailure::no_resource()),
    }
}
