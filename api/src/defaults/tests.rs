//! Defaults of whole objects, and the two properties that they have for any object.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn minimal() -> Service {
    service_of(&json!({"containers": [{"image": "busybox"}]}))
}

fn service_of(spec: &Value) -> Service {
    serde_json::from_value(json!({
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "digits"},
        "spec": {"template": {"spec": spec}},
    }))
    .unwrap()
}

fn created(mut object: Service) -> Service {
    service(&mut object, Occasion::Create { by: Some("alice") }, &Config::default());
    object
}

fn template_of(service: &Service) -> Value {
    serde_json::to_value(&service.spec.template.spec).unwrap()
}

#[test]
fn a_minimal_service_becomes_what_knative_makes_of_it() {
    let service = created(minimal());
    assert_eq!(
        template_of(&service),
        json!({
            "containerConcurrency": 0,
            "timeoutSeconds": 300,
            "enableServiceLinks": false,
            "containers": [{
                "name": "user-container",
                "image": "busybox",
                "resources": {},
                "readinessProbe": {"successThreshold": 1, "tcpSocket": {"port": 0}},
            }],
        })
    );
    assert_eq!(
        serde_json::to_value(&service.spec.traffic).unwrap(),
        json!([{"latestRevision": true, "percent": 100}])
    );
    let annotations = service.metadata.annotations.unwrap();
    assert_eq!(annotations[CREATOR], "alice");
    assert_eq!(annotations[LAST_MODIFIER], "alice");
}

#[test]
fn names_of_several_containers_are_numbered_and_avoid_those_taken() {
    let service = created(service_of(&json!({"containers": [
        {"image": "a"},
        {"image": "b", "name": "user-container-0", "ports": [{"containerPort": 80}]},
        {"image": "c"},
    ]})));
    let containers = &service.spec.template.spec.pod.containers;
    let names: Vec<_> = containers.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["user-container-1", "user-container-0", "user-container-2"]);
    let probed: Vec<_> = containers.iter().map(|c| c.readiness_probe.is_some()).collect();
    assert_eq!(probed, [false, true, false]);
}

#[test]
fn a_probe_with_a_period_gets_what_kubernetes_would_give_it() {
    let probe = |probe: Value| {
        let spec = json!({"containers": [{"image": "a", "readinessProbe": probe}]});
        template_of(&created(service_of(&spec)))["containers"][0]["readinessProbe"].clone()
    };
    assert_eq!(
        probe(json!({"httpGet": {"path": "/"}, "periodSeconds": 5})),
        json!({
            "httpGet": {"path": "/", "port": 0},
            "periodSeconds": 5,
            "successThreshold": 1,
            "failureThreshold": 3,
            "timeoutSeconds": 1,
        })
    );
    assert_eq!(
        probe(json!({"grpc": {}})),
        json!({"grpc": {"port": 0, "service": ""}, "successThreshold": 1})
    );
}

/// A sidecar's probe without a threshold is one that validation refuses.
#[test]
fn a_sidecar_is_probed_as_it_asks_and_no_more() {
    let service = created(service_of(&json!({"containers": [
        {"image": "a", "ports": [{"containerPort": 80}],
            "livenessProbe": {"grpc": {}}, "startupProbe": {"grpc": {"service": "s"}}},
        {"image": "b", "readinessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 5}},
        {"image": "c"},
    ]})));
    let made = template_of(&service)["containers"].clone();
    assert_eq!(made[0]["livenessProbe"], json!({"grpc": {"port": 0, "service": ""}}));
    assert_eq!(made[0]["startupProbe"]["grpc"]["service"], "s");
    assert_eq!(
        made[1]["readinessProbe"],
        json!({"httpGet": {"port": 8080}, "periodSeconds": 5, "successThreshold": 1,
            "failureThreshold": 3, "timeoutSeconds": 1})
    );
    assert_eq!(made[2]["readinessProbe"], Value::Null);
}

#[test]
fn resources_names_and_service_links_are_those_of_the_settings() {
    let data = [
        ("revision-cpu-request", "400m"),
        ("revision-memory-limit", "1Gi"),
        ("revision-ephemeral-storage-request", "2Gi"),
        ("init-container-name-template", "fetch"),
        ("enable-service-links", "default"),
    ];
    let data = data.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let config = Config::default().with_map("config-defaults", &data).unwrap();
    let mut object = service_of(&json!({
        "containers": [{"image": "a", "resources": {"requests": {"cpu": "1"}, "limits": {"gpu": "1"}}}],
        "initContainers": [{"image": "b"}],
    }));
    service(&mut object, Occasion::Create { by: None }, &config);
    let made = template_of(&object);
    assert_eq!(
        made["containers"][0]["resources"],
        json!({"requests": {"cpu": "1", "ephemeral-storage": "2Gi"},
            "limits": {"gpu": "1", "memory": "1Gi"}})
    );
    assert_eq!(made["initContainers"][0]["name"], "fetch");
    assert_eq!(made["initContainers"][0].get("resources"), None, "they are for models");
    assert_eq!(made.get("enableServiceLinks"), None);
}

#[test]
fn mounts_are_read_only_unless_the_volume_is_for_writing() {
    let service = created(service_of(&json!({
        "containers": [{"image": "a", "volumeMounts": [
            {"name": "s", "mountPath": "/s"},
            {"name": "e", "mountPath": "/e"},
        ]}],
        "volumes": [{"name": "s", "secret": {}}, {"name": "e", "emptyDir": {}}],
    })));
    let mounts = service.spec.template.spec.pod.containers[0].volume_mounts.clone();
    let read_only: Vec<_> = mounts.unwrap().into_iter().map(|m| m.read_only).collect();
    assert_eq!(read_only, [Some(true), None]);
}

#[test]
fn timeouts_are_set_only_where_they_would_end_a_request_first() {
    let mut config = Config::default();
    config.defaults.response_start_timeout_s = 100;
    config.defaults.idle_timeout_s = 300;
    let mut object = minimal();
    object.spec.template.spec.timeout_seconds = Some(0);
    service(&mut object, Occasion::Create { by: None }, &config);
    let spec = &object.spec.template.spec;
    assert_eq!(spec.timeout_seconds, Some(300));
    assert_eq!(spec.response_start_timeout_seconds, Some(100));
    assert_eq!(spec.idle_timeout_seconds, None);
}

#[test]
fn a_change_of_the_spec_is_recorded_and_nothing_else() {
    let old = created(minimal());
    let config = Config::default();
    let updated = |mut new: Service| {
        let by = Some("bob");
        service(&mut new, Occasion::Update { old: &old, by }, &config);
        new.metadata.annotations.unwrap()
    };
    let mut labelled = old.clone();
    labelled.metadata.labels = Some(BTreeMap::from([("a".into(), "b".into())]));
    assert_eq!(updated(labelled)[LAST_MODIFIER], "alice");
    let mut changed = old.clone();
    changed.spec.template.spec.container_concurrency = Some(1);
    let annotations = updated(changed);
    assert_eq!(annotations[LAST_MODIFIER], "bob");
    assert_eq!(annotations[CREATOR], "alice");
}

#[test]
fn service_links_are_left_alone_in_an_object_that_exists() {
    let mut old = created(minimal());
    old.spec.template.spec.pod.enable_service_links = None;
    let mut new = old.clone();
    let update = Occasion::Update { old: &old, by: None };
    service(&mut new, update, &Config::default());
    assert_eq!(new.spec.template.spec.pod.enable_service_links, None);
}

#[test]
fn a_route_that_is_owned_has_no_author() {
    let read = |owners: Value| -> Route {
        serde_json::from_value(json!({
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Route",
            "metadata": {"name": "digits", "ownerReferences": owners},
            "spec": {"traffic": [{"revisionName": "digits-00001", "percent": 100}]},
        }))
        .unwrap()
    };
    let by = Some("alice");
    let mut own = read(Value::Null);
    route(&mut own, Occasion::Create { by });
    assert!(own.metadata.annotations.is_some());
    assert_eq!(own.spec.traffic[0].latest_revision, Some(false));
    let owner = json!([{"apiVersion": "v1", "kind": "Service", "name": "digits", "uid": "u"}]);
    let mut child = read(owner);
    route(&mut child, Occasion::Create { by });
    assert_eq!(child.metadata.annotations, None);
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z-]{0,8}", Just(String::new()), Just("user-container-0".to_owned())]
}

prop_compose! {
    fn probe()(
        period in proptest::option::of(-1..3),
        success in proptest::option::of(-1..3),
        action in 0..4,
    ) -> Value {
        let mut probe = json!({"periodSeconds": period, "successThreshold": success});
        let name = ["httpGet", "tcpSocket", "exec", "grpc"][usize::try_from(action).unwrap()];
        probe[name] = json!({});
        probe
    }
}

prop_compose! {
    fn container()(
        name in text(),
        probe in proptest::option::of(probe()),
        ports in proptest::collection::vec(any::<i32>(), 0..3),
        mounts in proptest::collection::vec(text(), 0..3),
    ) -> Value {
        let ports: Vec<_> = ports.iter().map(|p| json!({"containerPort": p})).collect();
        let mounts: Vec<_> = mounts.iter().map(|m| json!({"name": m})).collect();
        json!({"name": name, "readinessProbe": probe, "ports": ports, "volumeMounts": mounts})
    }
}

prop_compose! {
    fn any_service()(
        containers in proptest::collection::vec(container(), 0..4),
        init in proptest::option::of(proptest::collection::vec(container(), 0..3)),
        volumes in proptest::collection::vec((text(), any::<bool>()), 0..3),
        limits in proptest::array::uniform4(proptest::option::of(any::<i64>())),
        traffic in proptest::collection::vec((text(), proptest::option::of(any::<i64>())), 0..3),
        name in proptest::option::of(text()),
    ) -> Service {
        let volumes: Vec<_> = volumes
            .iter()
            .map(|(name, empty)| {
                let mut volume = json!({"name": name});
                if *empty {
                    volume["emptyDir"] = json!({});
                }
                volume
            })
            .collect();
        let traffic: Vec<_> = traffic
            .iter()
            .map(|(name, percent)| json!({"revisionName": name, "percent": percent}))
            .collect();
        let mut service = service_of(&json!({
            "containers": containers,
            "initContainers": init,
            "volumes": volumes,
            "timeoutSeconds": limits[0],
            "containerConcurrency": limits[1],
            "idleTimeoutSeconds": limits[2],
            "responseStartTimeoutSeconds": limits[3],
        }));
        service.spec.traffic = serde_json::from_value(json!(traffic)).unwrap();
        service.spec.template.metadata.get_or_insert_default().name = name;
        service
    }
}

proptest! {
    #[test]
    fn defaulting_twice_is_defaulting_once(object in any_service()) {
        let once = created(object);
        prop_assert_eq!(created(once.clone()), once);
    }

    #[test]
    fn an_update_without_a_change_changes_nothing(object in any_service()) {
        let old = created(object);
        let mut new = old.clone();
        let update = Occasion::Update { old: &old, by: Some("bob") };
        service(&mut new, update, &Config::default());
        prop_assert_eq!(new, old);
    }

    #[test]
    fn no_object_breaks_validation(object in any_service()) {
        let object = created(object);
        let config = Config::default();
        let text = crate::validation::service(&object, Some(&object), &config).to_string();
        prop_assert!(text.len() < 64 * 1024);
    }
}
