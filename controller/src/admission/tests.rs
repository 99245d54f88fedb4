//! The answers to writes, word for word.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn request<'a>(kind: &'a str, object: &'a Value) -> Request<'a> {
    Request {
        group: if kind == "ConfigMap" { "" } else { "serving.knative.dev" },
        version: "v1",
        kind,
        operation: Operation::Create,
        subresource: None,
        object: Some(object),
        old: None,
        username: Some("alice"),
    }
}

fn service(spec: &Value) -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "digits", "namespace": "default"},
        "spec": spec,
    })
}

fn minimal() -> Value {
    service(&json!({"template": {"spec": {"containers": [{"image": "busybox"}]}}}))
}

/// Both webhooks, one after the other, as an API server calls them.
fn review(request: &Request<'_>, config: &Config) -> Verdict {
    let object = match mutate(request, config).passed_on(MUTATING_WEBHOOK) {
        Verdict::Allowed { object, .. } => object,
        denied @ Verdict::Denied { .. } => return denied,
    };
    let defaulted = Request { object: object.as_ref().or(request.object), ..*request };
    match validate(&defaulted, config).passed_on(validating_webhook(request)) {
        Verdict::Allowed { warnings, .. } => Verdict::Allowed { object, warnings },
        denied @ Verdict::Denied { .. } => denied,
    }
}

fn stored(request: &Request<'_>) -> Value {
    match review(request, &Config::default()) {
        Verdict::Allowed { object, .. } => {
            object.unwrap_or_else(|| request.object.cloned().unwrap())
        }
        Verdict::Denied { message, .. } => panic!("{message}"),
    }
}

fn denial(request: &Request<'_>) -> String {
    match review(request, &Config::default()) {
        Verdict::Denied { code: 400, message } => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_minimal_service_is_defaulted_and_accepted() {
    assert_eq!(
        stored(&request("Service", &minimal())),
        json!({
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {
                "name": "digits",
                "namespace": "default",
                "annotations": {
                    "serving.knative.dev/creator": "alice",
                    "serving.knative.dev/lastModifier": "alice",
                },
            },
            "spec": {
                "template": {"spec": {
                    "containerConcurrency": 0,
                    "timeoutSeconds": 300,
                    "enableServiceLinks": false,
                    "containers": [{
                        "name": "user-container",
                        "image": "busybox",
                        "resources": {},
                        "readinessProbe": {"successThreshold": 1, "tcpSocket": {"port": 0}},
                    }],
                }},
                "traffic": [{"latestRevision": true, "percent": 100}],
            },
        })
    );
}

#[test]
fn what_the_types_do_not_know_survives_and_a_probe_gets_its_port() {
    let mut object = minimal();
    object["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] =
        json!({"httpGet": {"path": "/", "future": [1]}});
    object["spec"]["future"] = json!({"a": null});
    object["metadata"]["labels"] = json!({"a": "b"});
    let stored = stored(&request("Service", &object));
    assert_eq!(stored["spec"]["future"], json!({"a": null}));
    assert_eq!(
        stored["spec"]["template"]["spec"]["containers"][0]["readinessProbe"],
        json!({"httpGet": {"path": "/", "future": [1], "port": 0}, "successThreshold": 1})
    );
    assert_eq!(stored["metadata"]["labels"], json!({"a": "b"}));
}

#[test]
fn admission_of_what_was_admitted_changes_nothing() {
    let first = stored(&request("Service", &minimal()));
    let update = Request {
        operation: Operation::Update,
        old: Some(&first),
        username: Some("bob"),
        ..request("Service", &first)
    };
    match review(&update, &Config::default()) {
        Verdict::Allowed { object: None, .. } => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_same_manifest_again_is_no_change_even_without_the_defaults() {
    let mut manifest = minimal();
    manifest["spec"]["template"]["metadata"] = json!({"name": "digits-a"});
    let first = stored(&request("Service", &manifest));
    manifest["metadata"]["annotations"] = first["metadata"]["annotations"].clone();
    let replaced = stored(&Request {
        operation: Operation::Update,
        old: Some(&first),
        username: Some("bob"),
        ..request("Service", &manifest)
    });
    assert_eq!(replaced, first);
}

#[test]
fn a_denial_is_worded_as_knatives_webhook_words_it() {
    let object = service(&json!({
        "template": {"spec": {"containers": [{}], "containerConcurrency": -1}},
    }));
    assert_eq!(
        denial(&request("Service", &object)),
        "admission webhook \"validation.webhook.serving.knative.dev\" denied the request: \
         validation failed: \
         expected 0 <= -1 <= 1000: spec.template.spec.containerConcurrency\n\
         missing field(s): spec.template.spec.containers[0].image"
    );
}

#[test]
fn an_object_that_cannot_be_read_is_denied_with_the_path_of_the_field() {
    let at = "admission webhook \"webhook.serving.knative.dev\" denied the request: \
              mutation failed: cannot decode incoming new object: ";
    for (spec, want) in [
        (
            json!({"template": {"spec": {"containers": [{"image": 5}]}}}),
            "spec.template.spec.containers[0].image: invalid type: integer `5`, expected a string",
        ),
        (
            json!({"template": {"spec": {"timeoutSeconds": "5m"}}}),
            "spec.template.spec.timeoutSeconds: invalid type: string \"5m\", expected i64",
        ),
        (
            json!({"traffic": [{"percent": 0.5}]}),
            "spec.traffic[0].percent: invalid type: floating point `0.5`, expected i64",
        ),
        (json!({"traffic": {}}), "spec.traffic: invalid type: map, expected a sequence"),
    ] {
        let object = service(&spec);
        assert_eq!(denial(&request("Service", &object)), format!("{at}{want}"));
    }
    let old = json!({"spec": 1});
    let object = minimal();
    let update =
        Request { operation: Operation::Update, old: Some(&old), ..request("Service", &object) };
    assert!(denial(&update).contains("cannot decode incoming old object: spec: "));
}

#[test]
fn an_object_that_would_fill_the_memory_is_denied_before_it_is_read() {
    let many = service(&json!({"template": {"spec": {"containers": vec![json!({}); 10_001]}}}));
    assert!(denial(&request("Service", &many)).contains("10001 items, more than 10000"));
    let row = json!(vec![json!({}); 1000]);
    let wide = service(&json!({"template": {"spec": {"a": vec![row; 101]}}}));
    assert!(denial(&request("Service", &wide)).contains("more than 100000 values"));
}

#[test]
fn a_value_of_any_length_is_clipped_in_the_answer() {
    let object = service(&json!({"template": {"spec": {"timeoutSeconds": "x".repeat(300_000)}}}));
    assert!(denial(&request("Service", &object)).len() < 2048);
}

#[test]
fn status_deletion_and_foreign_kinds_are_none_of_our_business() {
    let broken = json!({"spec": 1});
    for unjudged in [
        Request {
            subresource: Some("status"),
            operation: Operation::Update,
            ..request("Service", &broken)
        },
        Request { operation: Operation::Delete, ..request("Service", &broken) },
        request("DomainMapping", &broken),
        Request { group: "apps", ..request("Service", &broken) },
    ] {
        let verdict = review(&unjudged, &Config::default());
        assert_eq!(verdict, Verdict::allowed(), "{unjudged:?}");
    }
}

#[test]
fn what_is_being_deleted_can_lose_its_finalizers_whatever_the_rules() {
    let mut broken = service(&json!({}));
    broken["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let update =
        Request { operation: Operation::Update, old: Some(&broken), ..request("Service", &broken) };
    assert_eq!(review(&update, &Config::default()), Verdict::allowed());
}

#[test]
fn a_revision_is_immutable() {
    let object = json!({
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Revision",
        "metadata": {"name": "digits-00001"},
        "spec": {"containers": [{"image": "busybox"}]},
    });
    let old = stored(&request("Revision", &object));
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = json!("busybox:2");
    let update =
        Request { operation: Operation::Update, old: Some(&old), ..request("Revision", &new) };
    assert_eq!(
        denial(&update),
        "admission webhook \"validation.webhook.serving.knative.dev\" denied the request: \
         validation failed: Immutable fields changed (-old +new): spec\n\
         {v1.RevisionSpec}.containers[0].image:\n\t-: \"busybox\"\n\t+: \"busybox:2\"\n"
    );
}

#[test]
fn a_setting_that_cannot_be_used_is_denied() {
    let map = |namespace: &str, value: &str| {
        json!({
            "metadata": {"name": "config-autoscaler", "namespace": namespace},
            "data": {"stable-window": value},
        })
    };
    let bad = map("knative-serving", "1s");
    assert_eq!(
        denial(&request("ConfigMap", &bad)),
        "admission webhook \"config.webhook.serving.knative.dev\" denied the request: \
         validation failed: ConfigMap config-autoscaler: stable-window: must be whole seconds \
         from 6s to 1h"
    );
    let good = map("knative-serving", "30s");
    assert_eq!(stored(&request("ConfigMap", &good)), good);
    let elsewhere = map("default", "1s");
    assert_eq!(stored(&request("ConfigMap", &elsewhere)), elsewhere);
}

/// JSON of any shape under the names that matter.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9/.:-]{0,12}".prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    let name = proptest::sample::select(vec![
        "metadata",
        "name",
        "annotations",
        "autoscaling.knative.dev/min-scale",
        "spec",
        "template",
        "containers",
        "initContainers",
        "image",
        "ports",
        "containerPort",
        "readinessProbe",
        "httpGet",
        "port",
        "volumeMounts",
        "mountPath",
        "volumes",
        "resources",
        "limits",
        "traffic",
        "percent",
        "tag",
        "revisionName",
        "timeoutSeconds",
        "scaleTargetRef",
    ]);
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(name.clone(), inner, 0..6)
                .prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

/// A Service or Revision of the right outline with anything in it.
fn any_object() -> impl Strategy<Value = Value> {
    let spec = (any_json(), any_json(), any_json(), any_json()).prop_map(
        |(container, probe, traffic, other)| {
            json!({
                "template": {"spec": {
                    "containers": [container, {"image": "a", "readinessProbe": probe}],
                    "volumes": other,
                }},
                "containers": [{"image": "a", "readinessProbe": probe}],
                "traffic": [traffic],
            })
        },
    );
    prop_oneof![
        any_json(),
        spec.prop_map(|spec| service(&spec)),
        any_json().prop_map(|s| service(&s))
    ]
}

proptest! {
    #[test]
    fn no_json_breaks_admission_and_twice_is_once(
        object in any_object(),
        old in proptest::option::of(any_object()),
        kind in proptest::sample::select(vec!["Service", "Configuration", "Route", "Revision"]),
    ) {
        let config = Config::default();
        let request = Request {
            operation: if old.is_some() { Operation::Update } else { Operation::Create },
            old: old.as_ref(),
            ..request(kind, &object)
        };
        if let Verdict::Denied { message, .. } = review(&request, &config) {
            prop_assert!(message.len() < 64 * 1024);
        }
        if let Verdict::Allowed { object: Some(once), .. } = mutate(&request, &config) {
            let again = Request { object: Some(&once), ..request };
            prop_assert_eq!(mutate(&again, &config), Verdict::allowed());
            let _ = validate(&again, &config);
        }
    }
}
