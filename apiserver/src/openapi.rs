//! OpenAPI v3: what `kubectl explain` shows, and what tells `kubectl apply` and `create` that the
//! server checks fields itself.
//!
//! Documents are made from the compiled schemas at each request: they are large, and asked for a
//! few times in the life of a server. Named types are referred to, as in the real server.

mod definitions;
mod paths;

#[cfg(test)]
mod tests;

use std::borrow::Borrow;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::resources::ResourceType;

/// Version of the documents: clients keep a document under its `hash`, so it changes with every
/// version of the program. Other kinds come only with another version.
const HASH: &str = env!("CARGO_PKG_VERSION");

/// Body of `GET /openapi/v3`: where the document of each group version is.
pub fn index<R: Borrow<ResourceType>>(resources: &[R]) -> Value {
    let paths: BTreeMap<String, Value> = resources
        .iter()
        .map(|resource| {
            let resource = resource.borrow();
            let path = root_path(&resource.group, &resource.version);
            let url = format!("/openapi/v3/{path}?hash={HASH}");
            (path, json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

/// Body of `GET /openapi/v3/api/v1` or `GET /openapi/v3/apis/{group}/{version}`: the kinds of
/// that group version among `resources`, of the server with that title; `None` if there are none.
pub fn document<R: Borrow<ResourceType>>(
    title: &str,
    resources: &[R],
    group: &str,
    version: &str,
) -> Option<Value> {
    let served: Vec<&ResourceType> = resources
        .iter()
        .map(Borrow::borrow)
        .filter(|resource| resource.group == group && resource.version == version)
        .collect();
    if served.is_empty() {
        return None;
    }
    let mut paths = Map::new();
    let mut definitions = definitions::Definitions::default();
    for resource in served {
        paths::add(&mut paths, resource);
        definitions.add(resource);
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": title, "version": HASH},
        "paths": paths,
        "components": {"schemas": definitions.into_value()},
    }))
}

/// `api/v1` or `apis/group/version`.
fn root_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// A kind as OpenAPI extensions name it.
fn group_version_kind(resource: &ResourceType) -> Value {
    json!({
        "group": resource.group,
        "version": resource.version,
        "kind": resource.kind,
    })
}
