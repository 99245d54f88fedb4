use std::sync::Arc;

use serde_json::{Value, json};

use super::compile::Compiler;
use super::*;
use crate::resources::tests::{schema_of, served};

fn compiled(schema: &Value) -> Arc<Schema> {
    let mut compiler = Compiler::default();
    let metadata = compiler.built_in("no such type");
    compiler.custom(schema, "test.v1.Thing", &metadata)
}

/// A kind whose spec has `properties`.
fn with_spec(properties: &Value) -> Arc<Schema> {
    compiled(&json!({
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": properties}},
    }))
}

fn problems(schema: &Schema, object: &Value) -> Vec<String> {
    let problems = schema.validate(object);
    problems.iter().map(ToString::to_string).collect()
}

fn knative_service(container: &Value) -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "hello", "namespace": "default"},
        "spec": {"template": {"spec": {"containers": [container]}}},
    })
}

#[test]
fn unknown_fields_are_named_with_their_path() {
    let schema = schema_of("Service", true);
    let mut object =
        knative_service(&json!({"image": "a", "foo": 1, "env": [{"name": "A", "val": "b"}]}));
    object["spec"]["template"]["spec"]["bar"] = json!(true);
    object["metadata"]["lables"] = json!({});
    object["other"] = json!(1);
    assert_eq!(
        schema.unknown_fields(&object),
        [
            "metadata.lables",
            "other",
            "spec.template.spec.bar",
            "spec.template.spec.containers[0].env[0].val",
            "spec.template.spec.containers[0].foo",
        ]
    );
    schema.prune(&mut object);
    assert!(schema.unknown_fields(&object).is_empty());
    assert_eq!(
        object["spec"]["template"]["spec"]["containers"][0],
        json!({"image": "a", "env": [{"name": "A"}]})
    );
}

#[test]
fn labels_and_free_objects_have_no_unknown_fields() {
    let schema = schema_of("Service", true);
    let mut object = knative_service(&json!({"image": "a"}));
    object["metadata"]["labels"] = json!({"anything": "goes"});
    object["spec"]["template"]["metadata"] = json!({"creationTimestamp": null, "x": {"y": 1}});
    object["spec"]["template"]["spec"]["affinity"] = json!({"nodeAffinity": {"z": 1}});
    let before = object.clone();
    assert!(schema.unknown_fields(&object).is_empty());
    schema.prune(&mut object);
    assert_eq!(object, before);
    assert!(schema.validate(&object).is_empty());
}

#[test]
fn a_wrong_type_is_told_in_the_words_of_the_real_server() {
    let schema = schema_of("Service", true);
    assert_eq!(
        problems(&schema, &knative_service(&json!({"image": 5}))),
        ["spec.template.spec.containers[0].image: Invalid value: \"integer\": \
             spec.template.spec.containers[0].image in body must be of type string: \"integer\""]
    );
    let mut object = knative_service(&json!({"image": "a"}));
    object["spec"]["template"]["spec"]["containerConcurrency"] = json!(1.5);
    assert_eq!(
        problems(&schema, &object),
        ["spec.template.spec.containerConcurrency: Invalid value: \"number\": \
             spec.template.spec.containerConcurrency in body must be of type integer: \"number\""]
    );
    assert_eq!(schema.validate(&object)[0].kind.reason(), "FieldValueTypeInvalid");
}

#[test]
fn a_missing_field_is_required_only_where_its_object_is() {
    let schema = schema_of("Service", true);
    let mut object = knative_service(&json!({"image": "a"}));
    object["spec"]["template"]["spec"] = json!({});
    assert_eq!(problems(&schema, &object), ["spec.template.spec.containers: Required value"]);
    object["spec"]["template"] = json!({});
    assert!(problems(&schema, &object).is_empty());
}

#[test]
fn limits_are_told_with_the_value_that_breaks_them() {
    let schema = with_spec(&json!({
        "mode": {"type": "string", "enum": ["a", "b"]},
        "count": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 3},
        "name": {"type": "string", "minLength": 2, "maxLength": 3},
        "list": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 1},
    }));
    for (spec, problem) in [
        (
            json!({"mode": "c"}),
            "spec.mode: Unsupported value: \"c\": supported values: \"a\", \"b\"",
        ),
        (
            json!({"count": 0}),
            "spec.count: Invalid value: 0: spec.count in body should be greater than or equal to 1",
        ),
        (
            json!({"count": 4}),
            "spec.count: Invalid value: 4: spec.count in body should be less than or equal to 3",
        ),
        (
            json!({"name": ""}),
            "spec.name: Invalid value: \"\": spec.name in body should be at least 2 chars long",
        ),
        (json!({"name": "long"}), "spec.name: Too long: may not be more than 3 bytes"),
        (
            json!({"list": []}),
            "spec.list: Invalid value: []: spec.list in body should have at least 1 items",
        ),
        (json!({"list": ["a", "b"]}), "spec.list: Too many: 2: must have at most 1 items"),
    ] {
        assert_eq!(problems(&schema, &json!({"spec": spec})), [problem]);
    }
    let fine = json!({"spec": {"mode": "a", "count": 3, "name": "abc", "list": ["a"]}});
    assert!(problems(&schema, &fine).is_empty());
    let overflow = json!({"spec": {"count": 3_000_000_000_u64}});
    assert_eq!(problems(&schema, &overflow).len(), 2);
}

#[test]
fn an_int_or_string_is_either_and_nothing_else() {
    let schema = with_spec(&json!({"port": {"x-kubernetes-int-or-string": true}}));
    for port in [json!(80), json!("http"), json!(80.0)] {
        assert!(problems(&schema, &json!({"spec": {"port": port}})).is_empty());
    }
    for (port, found) in [(json!(1.5), "number"), (json!(true), "boolean"), (json!([]), "array")] {
        assert_eq!(
            problems(&schema, &json!({"spec": {"port": port}})),
            [format!(
                "spec.port: Invalid value: \"{found}\": spec.port in body must be of type \
                 integer,string: \"{found}\""
            )]
        );
    }
}

#[test]
fn null_is_a_value_only_where_the_schema_says_so() {
    let schema = with_spec(&json!({
        "kept": {"type": "string", "nullable": true},
        "refused": {"type": "string"},
        "defaulted": {"type": "string", "default": "x"},
    }));
    let mut object = json!({"spec": {"kept": null, "refused": null, "defaulted": null}});
    schema.prune(&mut object);
    schema.apply_defaults(&mut object);
    assert_eq!(object["spec"], json!({"kept": null, "refused": null, "defaulted": "x"}));
    assert_eq!(
        problems(&schema, &object),
        ["spec.refused: Invalid value: \"null\": spec.refused in body must be of type string: \
             \"null\""]
    );
}

#[test]
fn defaults_fill_gaps_in_objects_that_are_there() {
    let schema = with_spec(&json!({
        "outer": {
            "type": "object",
            "default": {},
            "properties": {"inner": {"type": "integer", "default": 3}},
        },
        "list": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"a": {"type": "string", "default": "x"}},
            },
        },
        "map": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {"b": {"type": "boolean", "default": true}},
            },
        },
    }));
    let mut object = json!({"spec": {"list": [{}, {"a": "y"}], "map": {"k": {}}}});
    schema.apply_defaults(&mut object);
    assert_eq!(
        object["spec"],
        json!({
            "outer": {"inner": 3},
            "list": [{"a": "x"}, {"a": "y"}],
            "map": {"k": {"b": true}},
        })
    );
    let mut empty = json!({});
    schema.apply_defaults(&mut empty);
    assert_eq!(empty, json!({}));
}

#[test]
fn a_built_in_kind_has_the_defaults_of_the_real_server_and_drops_nulls() {
    let schema = schema_of("Deployment", false);
    let mut object = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "d", "creationTimestamp": null},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {
                "metadata": {"creationTimestamp": null, "labels": {"a": "b"}},
                "spec": {"containers": [{
                    "name": "c",
                    "image": "i",
                    "ports": [{"containerPort": 80}],
                    "resources": {"requests": {"cpu": 0.5, "memory": "1Gi"}, "limits": {"cpu": 1}},
                }]},
            },
        },
        "status": {},
    });
    schema.prune(&mut object);
    schema.apply_defaults(&mut object);
    assert_eq!(problems(&schema, &object), Vec::<String>::new());
    assert_eq!(object["metadata"], json!({"name": "d"}));
    assert_eq!(object["spec"]["replicas"], 1);
    let pod = &object["spec"]["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Always");
    assert_eq!(pod["containers"][0]["ports"][0]["protocol"], "TCP");
    assert_eq!(object["spec"]["template"]["metadata"], json!({"labels": {"a": "b"}}));
}

#[test]
fn times_and_bytes_are_checked_for_their_form() {
    let secret = schema_of("Secret", false);
    let object = |data: &str| json!({"data": {"key": data}});
    assert!(secret.validate(&object("aGk=")).is_empty());
    assert!(secret.validate(&object("")).is_empty());
    assert_eq!(secret.validate(&object("hi!"))[0].field, "data.key");
    let lease = schema_of("Lease", false);
    let object = |time: &str| json!({"spec": {"renewTime": time}});
    assert!(lease.validate(&object("2024-05-01T00:00:00.123456Z")).is_empty());
    assert_eq!(lease.validate(&object("yesterday"))[0].field, "spec.renewTime");
}

#[test]
fn problems_are_named_up_to_a_limit() {
    let schema = with_spec(&json!({"map": {
        "type": "object",
        "additionalProperties": {"type": "string"},
    }}));
    let map: serde_json::Map<String, Value> =
        (0..200).map(|index| (format!("k{index}"), json!(index))).collect();
    assert_eq!(schema.validate(&json!({"spec": {"map": map}})).len(), 64);
}

#[test]
fn equal_parts_are_one_in_memory() {
    let service = schema_of("Service", true);
    let pod = schema_of("Pod", false);
    let resources = served();
    let metadata: Vec<*const Schema> = resources
        .iter()
        .filter_map(|resource| resource.schema.child("metadata"))
        .map(std::ptr::from_ref)
        .collect();
    assert!(metadata.len() >= 15);
    assert!(metadata.windows(2).all(|pair| pair[0] == pair[1]));
    assert!(service.declares("spec") && pod.declares("spec"));
}
