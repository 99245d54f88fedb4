use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::*;

static SERVED: LazyLock<Vec<ResourceType>> = LazyLock::new(|| all(&ebb_api::crd::all()));

/// The result of [`all`], made once for all tests.
pub(crate) fn served() -> &'static [ResourceType] {
    &SERVED
}

/// The schema of a kind; Knative's and the core group's Service have one name.
pub(crate) fn schema_of(kind: &str, custom: bool) -> Arc<Schema> {
    let mut served = served().iter();
    let found = served.find(|resource| resource.kind == kind && resource.custom == custom);
    Arc::clone(&found.unwrap().schema)
}

/// Keywords that the compiler reads, or that say nothing about a value.
const KEYWORDS: &[&str] = &[
    "additionalProperties",
    "default",
    "description",
    "enum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "nullable",
    "properties",
    "required",
    "title",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
];

fn keywords(schema: &Value, found: &mut BTreeSet<String>) {
    let Some(schema) = schema.as_object() else {
        return;
    };
    for (keyword, value) in schema {
        found.insert(keyword.clone());
        match (keyword.as_str(), value) {
            ("properties", Value::Object(fields)) => {
                fields.values().for_each(|field| keywords(field, found));
            }
            ("items" | "additionalProperties", value) => keywords(value, found),
            _ => {}
        }
    }
}

#[test]
fn every_keyword_of_a_shipped_definition_is_understood() {
    let mut found = BTreeSet::new();
    for definition in ebb_api::crd::all() {
        for version in &definition.spec.versions {
            keywords(&custom::structural_schema(version), &mut found);
        }
    }
    found.retain(|keyword| !KEYWORDS.contains(&keyword.as_str()));
    assert!(found.is_empty(), "not understood: {found:?}");
}

#[test]
fn every_shipped_kind_is_served_with_its_subresources() {
    let resources = served();
    let find = |group: &str, plural: &str| {
        resources
            .iter()
            .find(|resource| resource.group == group && resource.plural == plural)
            .unwrap()
    };
    let service = find("serving.knative.dev", "services");
    assert!(service.custom && service.has_status && service.generation && service.namespaced);
    assert_eq!(service.short_names, ["kservice", "ksvc"]);
    let deployment = find("apps", "deployments");
    assert!(deployment.has_scale && deployment.has_status && !deployment.custom);
    assert!(!find("", "namespaces").namespaced);
    assert!(!find("", "configmaps").has_status);
    assert_eq!(resources.iter().filter(|resource| resource.custom).count(), 4);
}

/// A type that the generated file lacks would be served as an object of any fields.
#[test]
fn every_shipped_kind_has_a_schema() {
    for resource in served() {
        let unknown = resource.schema.unknown_fields(&json!({"noSuchField": 1}));
        assert_eq!(unknown, ["noSuchField"], "{}/{}", resource.group, resource.kind);
    }
}

#[test]
fn an_event_survives_the_way_to_its_other_face_and_back() {
    let core = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "e", "namespace": "n"},
        "involvedObject": {"kind": "Pod", "name": "p"},
        "message": "Pulled",
        "reason": "Pulled",
        "count": 2,
        "source": {"component": "kubelet"},
        "reportingComponent": "kubelet",
    });
    let events = event_to_events_v1(&core);
    assert_eq!(events["regarding"]["name"], "p");
    assert_eq!(events["note"], "Pulled");
    assert_eq!(events["apiVersion"], "events.k8s.io/v1");
    assert_eq!(events["reportingController"], "kubelet");
    assert!(events.get("message").is_none());
    assert_eq!(event_from_events_v1(&events), core);
}
