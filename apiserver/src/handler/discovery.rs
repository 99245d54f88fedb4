//! What the server serves, for clients that ask: versions, groups, resources, schemas.

use std::collections::BTreeSet;

use http::Response;
use serde_json::{Value, json};

use super::Shared;
use crate::failure::RequestFailure;
use crate::openapi;
use crate::reply::{self, ReplyBody};
use crate::request::Route;
use crate::resources::ResourceType;

/// The Kubernetes release whose API this is.
const MAJOR: &str = "1";
const MINOR: &str = "36";

/// Answers every `GET` that is not about objects.
pub(super) fn serve(shared: &Shared, route: &Route) -> Result<Response<ReplyBody>, RequestFailure> {
    let body = match route {
        Route::Health => return Ok(reply::text("ok")),
        Route::Version => version(),
        Route::Root => json!({ "paths": ["/api", "/apis", "/healthz", "/openapi/v3", "/version"] }),
        Route::CoreVersions => json!({
            "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [],
        }),
        Route::Groups => {
            let groups: Vec<Value> =
                groups(shared).iter().map(|group| describe(shared, group)).collect();
            json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
        }
        Route::Group(group) if groups(shared).contains(group.as_str()) => {
            let mut body = describe(shared, group);
            body["kind"] = Value::from("APIGroup");
            body["apiVersion"] = Value::from("v1");
            body
        }
        Route::Resources(group, version) => resource_list(shared, group, version)?,
        Route::OpenApiIndex => openapi::index(&catalogue(shared)),
        Route::OpenApi(group, version) => {
            resource_list(shared, group, version)?;
            openapi::document(&shared.title, &catalogue(shared), group, version)
                .ok_or_else(RequestFailure::no_resource)?
        }
        Route::Group(_) | Route::TokenReviews | Route::Objects(_) => {
            return Err(RequestFailure::no_resource());
        }
    };
    Ok(reply::value(&body))
}

fn catalogue(shared: &Shared) -> Vec<ResourceType> {
    shared.resources.iter().map(|resource| ResourceType::clone(resource)).collect()
}

fn version() -> Value {
    json!({
        "major": MAJOR,
        "minor": MINOR,
        "gitVersion": format!("v{MAJOR}.{MINOR}.0+ebb.{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

fn groups(shared: &Shared) -> BTreeSet<&str> {
    let groups = shared.resources.iter().map(|resource| resource.group.as_str());
    groups.filter(|group| !group.is_empty()).collect()
}

fn describe(shared: &Shared, group: &str) -> Value {
    let own = shared.resources.iter().filter(|resource| resource.group == group);
    let mut versions: Vec<&str> = own.map(|resource| resource.version.as_str()).collect();
    versions.dedup();
    let versions: Vec<Value> = versions
        .into_iter()
        .map(|version| json!({ "groupVersion": format!("{group}/{version}"), "version": version }))
        .collect();
    json!({ "name": group, "preferredVersion": versions[0], "versions": versions })
}

fn resource_list(shared: &Shared, group: &str, version: &str) -> Result<Value, RequestFailure> {
    let own = shared
        .resources
        .iter()
        .filter(|resource| resource.group == group && resource.version == version);
    let resources: Vec<Value> = own.flat_map(|resource| entries(resource)).collect();
    if resources.is_empty() {
        return Err(RequestFailure::no_resource());
    }
    let group_version = match group {
        "" => version.to_owned(),
        group => format!("{group}/{version}"),
    };
    Ok(json!({
        "kind": "APIResourceList", "apiVersion": "v1",
        "groupVersion": group_version, "resources": resources,
    }))
}

fn entries(resource: &ResourceType) -> Vec<Value> {
    let ResourceType { kind, plural, namespaced, .. } = resource;
    let mut own = json!({
        "name": plural,
        "singularName": resource.singular,
        "namespaced": namespaced,
        "kind": kind,
        "verbs": resource.verbs,
    });
    let lists = [("shortNames", &resource.short_names), ("categories", &resource.categories)];
    for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        own[key] = json!(list);
    }
    let mut entries = vec![own];
    let mut part = |name: &str, kind: &str, verbs: &[&str]| {
        entries.push(json!({
            "name": format!("{plural}/{name}"), "singularName": "",
            "namespaced": namespaced, "kind": kind, "verbs": verbs,
        }));
    };
    if resource.has_status {
        part("status", kind, &["get", "patch", "update"]);
    }
    if resource.group.is_empty() && plural == "pods" {
        part("log", kind, &["get"]);
    }
    if resource.has_scale {
        part("scale", "Scale", &["get", "patch", "update"]);
        if let Some(scale) = entries.last_mut() {
            scale["group"] = Value::from("autoscaling");
            scale["version"] = Value::from("v1");
        }
    }
    entries
}
