//! The kinds that are compared, and objects of them.

use serde_json::{Value, json};

use crate::dice::Dice;

/// One kind.
#[expect(clippy::struct_field_names, reason = "Kubernetes' own word")]
pub(crate) struct Kind {
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    /// `v1` or `group/version`.
    pub(crate) api_version: &'static str,
    /// Whether it comes from a CustomResourceDefinition: no strategic merge patch.
    pub(crate) custom: bool,
    pub(crate) has_status: bool,
    pub(crate) has_scale: bool,
    /// An object of it, without its metadata.
    pub(crate) rest: fn(&mut Dice) -> Value,
    /// A status of it.
    pub(crate) status: fn(&mut Dice) -> Value,
}

/// All of them.
pub(crate) static KINDS: &[Kind] = &[
    Kind { rest: config_map, ..core("ConfigMap", "configmaps") },
    Kind { rest: secret, ..core("Secret", "secrets") },
    Kind { rest: pod, has_status: true, status: pod_status, ..core("Pod", "pods") },
    Kind { rest: service, has_status: true, status: service_status, ..core("Service", "services") },
    Kind { rest: lease, api_version: "coordination.k8s.io/v1", ..core("Lease", "leases") },
    Kind {
        rest: deployment,
        api_version: "apps/v1",
        has_status: true,
        has_scale: true,
        status: deployment_status,
        ..core("Deployment", "deployments")
    },
    Kind { rest: knative_template, ..custom("Service", "services") },
    Kind { rest: knative_template, ..custom("Configuration", "configurations") },
    Kind { rest: knative_revision, ..custom("Revision", "revisions") },
    Kind { rest: knative_route, ..custom("Route", "routes") },
];

const fn core(kind: &'static str, plural: &'static str) -> Kind {
    Kind {
        kind,
        plural,
        api_version: "v1",
        custom: false,
        has_status: false,
        has_scale: false,
        rest: |_| json!({}),
        status: |_| json!({}),
    }
}

const fn custom(kind: &'static str, plural: &'static str) -> Kind {
    Kind {
        api_version: "serving.knative.dev/v1",
        custom: true,
        has_status: true,
        status: knative_status,
        ..core(kind, plural)
    }
}

// === impl Kind ===

impl Kind {
    /// Path of its objects in a namespace.
    pub(crate) fn path(&self, namespace: &str) -> String {
        let root = if self.api_version.contains('/') { "apis" } else { "api" };
        format!("/{root}/{}/namespaces/{namespace}/{}", self.api_version, self.plural)
    }

    /// The field that changes of the object are made in.
    pub(crate) fn part(&self) -> &'static str {
        if matches!(self.plural, "configmaps" | "secrets") { "data" } else { "spec" }
    }

    /// A whole object.
    pub(crate) fn object(&self, dice: &mut Dice, name: &str) -> Value {
        let mut object = (self.rest)(dice);
        object["apiVersion"] = self.api_version.into();
        object["kind"] = self.kind.into();
        object["metadata"] = metadata(dice);
        object["metadata"]["name"] = name.into();
        object
    }
}

/// Metadata without a name.
pub(crate) fn metadata(dice: &mut Dice) -> Value {
    let mut metadata = json!({});
    if dice.chance(60) {
        metadata["labels"] = json!({ "app": dice.pick(&["a", "b"]) });
        if dice.chance(40) {
            metadata["labels"]["tier"] = dice.pick(&["x", "y"]).into();
        }
    }
    if dice.chance(30) {
        metadata["annotations"] = json!({ "note": dice.pick(&["one", "two", ""]) });
    }
    if dice.chance(8) {
        metadata["finalizers"] = json!(["example.com/hold"]);
    }
    if dice.chance(6) {
        metadata["ownerReferences"] = json!([{
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "name": "owner",
            "uid": "{owner}", "controller": true,
        }]);
    }
    metadata
}

fn words(dice: &mut Dice) -> Value {
    let mut words = json!({});
    for key in ["k1", "k2", "k3"] {
        if dice.chance(50) {
            words[key] = dice.pick(&["one", "two", ""]).into();
        }
    }
    words
}

fn config_map(dice: &mut Dice) -> Value {
    let mut object = json!({});
    if dice.chance(85) {
        object["data"] = words(dice);
    }
    if dice.chance(15) {
        object["binaryData"] = json!({ "b1": dice.pick(&["AQI=", "aGk="]) });
    }
    object
}

fn secret(dice: &mut Dice) -> Value {
    let mut object = json!({});
    if dice.chance(70) {
        object["data"] = json!({ "k1": dice.pick(&["aGk=", "AQI=", ""]) });
    }
    if dice.chance(30) {
        object["stringData"] = words(dice);
    }
    if dice.chance(20) {
        object["type"] = "Opaque".into();
    }
    object
}

fn container(dice: &mut Dice, name: &str) -> Value {
    let mut container = json!({ "name": name, "image": dice.pick(&["img:1", "img:2"]) });
    if dice.chance(40) {
        container["env"] = json!([{ "name": "A", "value": dice.pick(&["1", "2"]) }]);
    }
    if dice.chance(20) {
        container["env"] = json!([{ "name": "B", "value": "3" }, { "name": "A", "value": "5" }]);
    }
    // Of one container only: the real server warns of ports that two have.
    if name == "main" && dice.chance(30) {
        // Named after the number: two ports of one name are refused by the real server alone.
        let port = dice.pick(&[80, 81]);
        container["ports"] = json!([{ "containerPort": port, "name": format!("p{port}") }]);
    }
    if dice.chance(20) {
        container["resources"] = json!({
            "requests": { "cpu": dice.pick(&["100m", "0.5", "1"]), "memory": "64Mi" },
        });
    }
    container
}

fn pod_spec(dice: &mut Dice) -> Value {
    let mut spec = json!({ "containers": [container(dice, "main")] });
    if dice.chance(30) {
        let second = container(dice, "side");
        spec["containers"].as_array_mut().unwrap().push(second);
    }
    if dice.chance(25) {
        let source = dice.pick(&["a", "b"]);
        spec["volumes"] = json!([{ "name": "v", "configMap": { "name": source } }]);
    }
    if dice.chance(15) {
        spec["nodeSelector"] = json!({ "disk": "fast" });
    }
    spec
}

/// A pod of one form: but for its image it may not change.
fn pod(dice: &mut Dice) -> Value {
    let image = dice.pick(&["img:1", "img:2"]);
    json!({ "spec": { "containers": [{ "name": "main", "image": image }] } })
}

fn pod_status(dice: &mut Dice) -> Value {
    json!({
        "phase": dice.pick(&["Pending", "Running", "Failed"]),
        "conditions": [{
            "type": dice.pick(&["Ready", "Initialized"]), "status": "True",
            "lastProbeTime": "2024-05-01T00:00:00Z", "lastTransitionTime": "2024-05-01T00:00:00Z",
        }],
    })
}

fn service(dice: &mut Dice) -> Value {
    let number = dice.pick(&[80, 81]);
    let mut port = json!({ "port": number, "name": format!("p{number}") });
    if dice.chance(40) {
        port["targetPort"] = dice.pick(&[json!(8080), json!("http")]);
    }
    let mut ports = vec![port];
    if dice.chance(30) {
        ports.push(json!({ "port": 90, "name": "p90", "protocol": "TCP" }));
    }
    // Without an address of the cluster's network, which only the real server has.
    json!({ "spec": {
        "clusterIP": "None", "selector": { "app": dice.pick(&["a", "b"]) }, "ports": ports,
    } })
}

fn service_status(dice: &mut Dice) -> Value {
    json!({ "conditions": [{
        "type": dice.pick(&["Ready", "Other"]), "status": "True", "reason": "Because",
        "message": "", "lastTransitionTime": "2024-05-01T00:00:00Z",
    }] })
}

fn lease(dice: &mut Dice) -> Value {
    let mut spec = json!({ "holderIdentity": dice.pick(&["me", "you"]) });
    if dice.chance(50) {
        spec["leaseDurationSeconds"] = dice.pick(&[10, 15]).into();
    }
    if dice.chance(40) {
        spec["renewTime"] = "2024-05-01T00:00:00.000001Z".into();
    }
    json!({ "spec": spec })
}

fn deployment(dice: &mut Dice) -> Value {
    let mut spec = json!({
        "selector": { "matchLabels": { "app": "x" } },
        "template": { "metadata": { "labels": { "app": "x" } }, "spec": pod_spec(dice) },
    });
    if dice.chance(60) {
        spec["replicas"] = dice.pick(&[0, 1, 3]).into();
    }
    if dice.chance(20) {
        spec["paused"] = true.into();
    }
    json!({ "spec": spec })
}

fn deployment_status(dice: &mut Dice) -> Value {
    json!({
        "replicas": dice.pick(&[0, 2]), "observedGeneration": 1,
        "conditions": [{
            "type": dice.pick(&["Available", "Progressing"]), "status": "True",
            "lastUpdateTime": "2024-05-01T00:00:00Z", "lastTransitionTime": "2024-05-01T00:00:00Z",
        }],
    })
}

fn knative_container(dice: &mut Dice) -> Value {
    let mut spec = json!({ "containers": [{ "image": dice.pick(&["img:1", "img:2"]) }] });
    if dice.chance(40) {
        spec["containers"][0]["name"] = "main".into();
        spec["containers"][0]["env"] = json!([{ "name": "A", "value": dice.pick(&["1", "2"]) }]);
    }
    if dice.chance(30) {
        spec["containers"][0]["ports"] = json!([{ "containerPort": dice.pick(&[80, 81]) }]);
    }
    if dice.chance(40) {
        spec["containerConcurrency"] = dice.pick(&[0, 5]).into();
    }
    if dice.chance(20) {
        spec["timeoutSeconds"] = 60.into();
    }
    spec
}

fn knative_template(dice: &mut Dice) -> Value {
    let mut template = json!({ "spec": knative_container(dice) });
    if dice.chance(40) {
        template["metadata"] =
            json!({ "annotations": { "autoscaling.knative.dev/min-scale": "1" } });
    }
    json!({ "spec": { "template": template } })
}

fn knative_revision(dice: &mut Dice) -> Value {
    json!({ "spec": knative_container(dice) })
}

fn knative_route(dice: &mut Dice) -> Value {
    let mut traffic =
        vec![json!({ "percent": 100, "latestRevision": true, "configurationName": "a" })];
    if dice.chance(40) {
        traffic.push(json!({ "tag": dice.pick(&["old", "new"]), "revisionName": "a-1" }));
    }
    json!({ "spec": { "traffic": traffic } })
}

fn knative_status(dice: &mut Dice) -> Value {
    json!({
        "observedGeneration": dice.pick(&[1, 2]),
        "conditions": [{
            "type": "Ready", "status": dice.pick(&["True", "Unknown"]),
            "lastTransitionTime": "2024-05-01T00:00:00Z",
        }],
    })
}
