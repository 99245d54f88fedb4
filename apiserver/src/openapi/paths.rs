//! `paths`: what can be done with a kind, and with which query parameters.
//!
//! Clients look here for two things: the kind of a path (`kubectl explain`), and whether a write
//! takes `fieldValidation` and `dryRun` (`kubectl create`, `apply`). Subresources are left out.

use serde_json::{Map, Value, json};

use super::{group_version_kind, root_path};
use crate::resources::ResourceType;

/// Formats of a patch that every kind takes.
const PATCHES: &[&str] = &[
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
];
/// The format that only built-in kinds take.
const STRATEGIC: &str = "application/strategic-merge-patch+json";

/// Adds the paths of a kind.
pub(super) fn add(paths: &mut Map<String, Value>, resource: &ResourceType) {
    let root = root_path(&resource.group, &resource.version);
    let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("/{root}{scope}/{}", resource.plural);
    let mut scope_parameters = Vec::new();
    if resource.namespaced {
        scope_parameters.push(path_parameter("namespace"));
        let everywhere = format!("/{root}/{}", resource.plural);
        paths.insert(everywhere, operations(resource, &[("get", "list")], &[]));
    }
    let on_all = [("get", "list"), ("post", "create"), ("delete", "deletecollection")];
    let on_one = [("get", "get"), ("put", "update"), ("patch", "patch"), ("delete", "delete")];
    paths.insert(collection.clone(), operations(resource, &on_all, &scope_parameters));
    scope_parameters.push(path_parameter("name"));
    paths
        .insert(format!("{collection}/{{name}}"), operations(resource, &on_one, &scope_parameters));
}

/// The operations of one path, by method and verb, as far as the kind allows them.
fn operations(resource: &ResourceType, methods: &[(&str, &str)], parameters: &[Value]) -> Value {
    let mut path: Map<String, Value> = methods
        .iter()
        .filter(|(_, verb)| resource.verbs.contains(verb))
        .map(|(method, verb)| ((*method).to_owned(), operation(resource, verb)))
        .collect();
    if !parameters.is_empty() {
        path.insert("parameters".to_owned(), json!(parameters));
    }
    Value::Object(path)
}

fn operation(resource: &ResourceType, verb: &str) -> Value {
    // Kubernetes' own names of actions differ from its verbs.
    let action = match verb {
        "create" => "post",
        "update" => "put",
        other => other,
    };
    let mut operation = json!({
        "operationId": format!("{verb}{}", resource.kind),
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": group_version_kind(resource),
        "parameters": parameters(verb),
        "responses": {"200": {"description": "OK"}},
    });
    if let Some(name) = resource.schema.type_name.as_deref() {
        let whole = json!({"schema": {"$ref": format!("#/components/schemas/{name}")}});
        if !matches!(verb, "list" | "delete" | "deletecollection") {
            operation["responses"]["200"]["content"] = json!({"application/json": whole});
        }
        match verb {
            "create" | "update" => {
                operation["requestBody"] =
                    json!({"required": true, "content": {"application/json": whole}});
            }
            "patch" => operation["requestBody"] = patch_body(resource),
            _ => {}
        }
    }
    operation
}

fn patch_body(resource: &ResourceType) -> Value {
    let strategic = (!resource.custom).then_some(STRATEGIC);
    let content: Map<String, Value> = PATCHES
        .iter()
        .copied()
        .chain(strategic)
        .map(|format| (format.to_owned(), json!({"schema": {}})))
        .collect();
    json!({"required": true, "content": content})
}

fn parameters(verb: &str) -> Vec<Value> {
    let text = |name: &str| query(name, "string");
    match verb {
        "create" | "update" => vec![text("dryRun"), text("fieldManager"), text("fieldValidation")],
        "patch" => vec![
            text("dryRun"),
            text("fieldManager"),
            text("fieldValidation"),
            query("force", "boolean"),
        ],
        "delete" => {
            vec![text("dryRun"), query("gracePeriodSeconds", "integer"), text("propagationPolicy")]
        }
        "list" | "deletecollection" => vec![
            text("continue"),
            text("fieldSelector"),
            text("labelSelector"),
            query("limit", "integer"),
            text("resourceVersion"),
            query("watch", "boolean"),
        ],
        _ => Vec::new(),
    }
}

fn query(name: &str, kind: &str) -> Value {
    json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
}

fn path_parameter(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
}
