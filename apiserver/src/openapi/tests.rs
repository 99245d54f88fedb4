use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::resources::tests::served;

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get("$ref") {
                found.insert(reference.clone());
            }
            object.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_to_a_schema() {
    let resources = served();
    let index = index(resources);
    assert!(index["paths"]["api/v1"]["serverRelativeURL"].is_string());
    for resource in resources {
        assert!(index["paths"].get(root_path(&resource.group, &resource.version)).is_some());
        let document = document("Test", resources, &resource.group, &resource.version).unwrap();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some_and(Value::is_object), "{reference}");
        }
    }
    assert!(document("Test", resources, "none", "v1").is_none());
}

#[test]
fn a_kind_is_found_by_its_extension_and_described_field_by_field() {
    let resources = served();
    let document = document("Test", resources, "serving.knative.dev", "v1").unwrap();
    let service = &document["components"]["schemas"]["dev.knative.serving.v1.Service"];
    assert_eq!(service["x-kubernetes-group-version-kind"][0]["kind"], "Service");
    let containers = service
        .pointer("/properties/spec/properties/template/properties/spec/properties/containers")
        .unwrap();
    assert!(containers["description"].as_str().unwrap().contains("containers"));
    let image = &containers["items"]["properties"]["image"];
    assert_eq!(image["type"], "string");
    assert!(image["description"].is_string());
}

#[test]
fn writes_say_that_they_take_field_validation() {
    let resources = served();
    for (group, path) in [
        ("serving.knative.dev", "/apis/serving.knative.dev/v1/namespaces/{namespace}/services"),
        ("", "/api/v1/namespaces"),
    ] {
        let document = document("Test", resources, group, "v1").unwrap();
        for (path, method) in [(path.to_owned(), "post"), (format!("{path}/{{name}}"), "patch")] {
            let operation = &document["paths"][&path][method];
            assert_eq!(operation["x-kubernetes-group-version-kind"]["group"], group);
            let parameters = operation["parameters"].as_array().unwrap();
            assert!(parameters.iter().any(|parameter| parameter["name"] == "fieldValidation"));
        }
    }
}

#[test]
fn a_kind_that_cannot_be_written_has_no_write() {
    let resources = served();
    let document = document("Test", resources, "apiextensions.k8s.io", "v1").unwrap();
    let path = &document["paths"]["/apis/apiextensions.k8s.io/v1/customresourcedefinitions"];
    assert!(path.get("get").is_some());
    assert!(path.get("post").is_none());
}
