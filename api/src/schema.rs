//! The CustomResourceDefinitions of Ebb's kinds as the types give them, with their schemas. The
//! programs that write generated files use this module; Ebb itself reads the files ([`crate::crd`]).
//!
//! The schema of a Revision's spec is a pod's, less what Knative does not allow.
//!
//! k8s-openapi describes every field of a pod. Only the fields of Knative's own CRD are kept here,
//! so that a manifest with any other field is refused (or pruned) just as it is there. Fields that
//! Knative puts behind feature flags are kept in the form that its CRD gives them.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_core::CustomResourceExt as _;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::fields::{self, FieldMask, Form};
use crate::serving::{Configuration, Revision, RevisionSpec, Route, Service};

/// Lets Knative's duck-typing tools find addressable kinds.
const ADDRESSABLE: (&str, &str) = ("duck.knative.dev/addressable", "true");
/// Lets Knative's duck-typing tools find kinds that hold a pod spec.
const PODSPECABLE: (&str, &str) = ("duck.knative.dev/podspecable", "true");

/// Field of a pod that may be written but not set: `false` means the same as its absence.
const POD_FALSE: &str = "automountServiceAccountToken";

/// Longest description kept: `kubectl explain` stays useful and the CRD stays small enough to
/// be applied client-side (its last-applied annotation may have 256 KiB).
const DESCRIPTION_CHARS_MAX: usize = 160;

/// Every definition, in the order in which they are installed.
pub fn definitions() -> Vec<CustomResourceDefinition> {
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

impl JsonSchema for RevisionSpec {
    fn schema_name() -> Cow<'static, str> {
        "RevisionSpec".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        revision_spec(generator)
    }
}

/// Metadata of a template: the five fields that are used, and whatever else tools put there.
pub(crate) fn template_metadata(_: &mut SchemaGenerator) -> Schema {
    into_schema(json!({
        "type": "object",
        "description": "Name, labels and annotations of the Revision.",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
            "finalizers": {"type": "array", "items": {"type": "string"}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "name": {"type": "string"},
            "namespace": {"type": "string"},
        },
    }))
}

/// Drops the default that `serde(default)` would put into the schema: an empty template is for code
/// to read, never for the API server to write.
pub(crate) fn without_default(schema: &mut Schema) {
    schema.remove("default");
}

/// The schema of [`RevisionSpec`].
fn revision_spec(generator: &mut SchemaGenerator) -> Schema {
    let mut pod = generator.subschema_for::<PodSpec>().to_value();
    shorten_descriptions(&mut pod);
    let mut properties = kept(&pod, &fields::POD);
    properties.extend(named(&pod, &[POD_FALSE]));
    if let Some(container) = properties.get_mut("containers").and_then(|list| list.get_mut("items"))
    {
        restrict_container(container);
    }
    if let Some(volumes) = properties.get_mut("volumes") {
        restrict_volumes(volumes);
    }
    properties.extend(limits());
    into_schema(json!({
        "type": "object",
        "description": "What to run: a pod, and how requests are sent to it.",
        "properties": properties,
        "required": ["containers"],
    }))
}

/// The four fields that Knative adds to a pod.
fn limits() -> Map<String, Value> {
    let field = |description: &str| json!({"type": "integer", "format": "int64", "description": description});
    [
        ("containerConcurrency", "Hard limit of requests at once in one replica; 0 means none."),
        (
            "timeoutSeconds",
            "Longest time from arrival to the end of the response, waiting included, in seconds.",
        ),
        (
            "responseStartTimeoutSeconds",
            "Longest time from arrival to the first byte of the response, in seconds.",
        ),
        ("idleTimeoutSeconds", "Longest pause between two bytes of the response, in seconds."),
    ]
    .into_iter()
    .map(|(name, description)| (name.to_owned(), field(description)))
    .collect()
}

fn restrict_container(container: &mut Value) {
    let mut properties = kept(container, &fields::CONTAINER);
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = properties.get_mut(probe) {
            probe["properties"] = Value::Object(kept(probe, &fields::PROBE));
        }
    }
    if let Some(ports) = properties.get_mut("ports") {
        let item = &mut ports["items"];
        let mut fields = kept(item, &fields::PORT);
        if let Some(protocol) = fields.get_mut("protocol") {
            protocol["default"] = json!("TCP");
        }
        item["properties"] = Value::Object(fields);
        by_key(ports, &["containerPort", "protocol"]);
    }
    for (list, key) in [("env", "name"), ("volumeMounts", "mountPath")] {
        if let Some(list) = properties.get_mut(list) {
            by_key(list, &[key]);
        }
    }
    container["properties"] = Value::Object(properties);
    // Knative names an unnamed container itself.
    if let Some(container) = container.as_object_mut() {
        container.remove("required");
    }
}

fn restrict_volumes(volumes: &mut Value) {
    let item = &mut volumes["items"];
    item["properties"] = Value::Object(kept(item, &fields::VOLUME));
    by_key(volumes, &["name"]);
}

/// Marks a list as a map, so that server-side apply merges it item by item.
fn by_key(list: &mut Value, keys: &[&str]) {
    list["x-kubernetes-list-type"] = json!("map");
    list["x-kubernetes-list-map-keys"] = json!(keys);
}

/// The fields of `schema`, Kubernetes' own, that `shape` allows; those behind flags in their form.
fn kept(schema: &Value, shape: &FieldMask) -> Map<String, Value> {
    let mut properties = named(schema, shape.allowed);
    for (name, _, form) in shape.gated {
        let value = match form {
            Form::Described => {
                properties.extend(named(schema, &[name]));
                continue;
            }
            Form::Object => free_object(),
            Form::Objects => json!({"type": "array", "items": free_object()}),
            Form::Text => json!({"type": "string"}),
            Form::Texts => json!({"type": "object", "additionalProperties": {"type": "string"}}),
            Form::Flag => json!({"type": "boolean"}),
        };
        properties.insert((*name).to_owned(), value);
    }
    properties
}

fn named(schema: &Value, fields: &[&str]) -> Map<String, Value> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .filter(|(name, _)| fields.contains(&name.as_str()))
        .map(|(name, schema)| (name.clone(), schema.clone()))
        .collect()
}

fn free_object() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// Keeps the first sentence of every description.
fn shorten_descriptions(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = first_sentence(text);
            }
            fields.values_mut().for_each(shorten_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(shorten_descriptions),
        _ => {}
    }
}

fn first_sentence(text: &str) -> String {
    let line = text.split("\n\n").next().unwrap_or(text).replace('\n', " ");
    let end = line.find(". ").map_or(line.len(), |end| end + 1);
    let sentence = &line[..end];
    if sentence.chars().count() <= DESCRIPTION_CHARS_MAX {
        return sentence.to_owned();
    }
    let cut: String = sentence.chars().take(DESCRIPTION_CHARS_MAX - 1).collect();
    format!("{cut}…")
}

fn into_schema(value: Value) -> Schema {
    Schema::try_from(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Value {
        let settings = schemars::generate::SchemaSettings::draft07()
            .with(|settings| settings.inline_subschemas = true);
        revision_spec(&mut settings.into_generator()).to_value()
    }

    #[test]
    fn fields_that_knative_does_not_allow_are_not_in_the_schema() {
        let spec = spec();
        let container = &spec["properties"]["containers"]["items"]["properties"];
        for field in ["lifecycle", "stdin", "tty", "volumeDevices"] {
            assert!(container.get(field).is_none(), "{field} is in the schema");
        }
        assert!(container["ports"]["items"]["properties"].get("hostPort").is_none());
        assert!(spec["properties"].get("nodeName").is_none());
        assert!(container["readinessProbe"]["properties"]["httpGet"].is_object());
        assert!(spec["properties"]["containerConcurrency"].is_object());
    }

    #[test]
    fn the_definitions_that_ebb_reads_are_those_of_the_types() {
        assert_eq!(crate::crd::all(), definitions());
    }

    #[test]
    fn a_description_is_its_first_sentence() {
        assert_eq!(first_sentence("One. Two."), "One.");
        assert_eq!(first_sentence(&"x".repeat(400)).chars().count(), DESCRIPTION_CHARS_MAX);
    }
}
