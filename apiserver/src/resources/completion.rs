//! What the real server fills into built-in kinds, beyond the defaults of single fields
//! (`pkg/apis/*/v1/defaults.go` and the `PrepareForCreate` of `pkg/registry`).

use k8s_openapi::ByteString;
use serde_json::{Map, Value, json};

use super::ResourceType;

/// Fills in fields whose values depend on others. Defaults are there already.
pub(crate) fn complete(resource: &ResourceType, value: &mut Value) {
    if resource.custom {
        return;
    }
    match resource.kind.as_str() {
        "Secret" => encode_texts(value),
        "Lease" if value["spec"].is_null() => value["spec"] = json!({}),
        "Deployment" if value["status"].is_null() => value["status"] = json!({}),
        "Service" if value["status"]["loadBalancer"].is_null() => {
            value["status"]["loadBalancer"] = json!({});
        }
        _ => {}
    }
    let Some(spec) = value.get_mut("spec").filter(|spec| spec.is_object()) else {
        return;
    };
    match resource.kind.as_str() {
        "Service" => complete_service(spec),
        "Deployment" => complete_deployment(spec),
        "Pod" => complete_pod(spec),
        _ => {}
    }
}

/// The status of a new object; none for a kind without one.
pub(crate) fn first_status(resource: &ResourceType, value: &Value) -> Option<Value> {
    match (resource.custom, resource.kind.as_str()) {
        (false, "Pod") => Some(json!({
            "phase": "Pending", "qosClass": quality_of_service(&value["spec"]),
        })),
        (false, "Deployment") => Some(json!({})),
        (false, "Service") => Some(json!({ "loadBalancer": {} })),
        _ => None,
    }
}

/// The object of a kind before anything is written into it: the structs and lists that Go encodes
/// even if they are empty. Who creates an object owns what is added to this.
pub(crate) fn empty(resource: &ResourceType) -> Value {
    match (resource.custom, resource.kind.as_str()) {
        (false, "Pod") => json!({ "spec": { "containers": [] }, "status": {} }),
        (false, "Deployment") => json!({
            "spec": {
                "strategy": {}, "template": { "metadata": {}, "spec": { "containers": [] } },
            },
            "status": {},
        }),
        (false, "Service") => json!({ "spec": {}, "status": { "loadBalancer": {} } }),
        (false, "Lease" | "Namespace") => json!({ "spec": {}, "status": {} }),
        _ => json!({}),
    }
}

/// `stringData` can only be written: its texts become data.
fn encode_texts(secret: &mut Value) {
    let Some(Value::Object(texts)) =
        secret.as_object_mut().and_then(|own| own.remove("stringData"))
    else {
        return;
    };
    for (key, text) in texts {
        let bytes = ByteString(text.as_str().unwrap_or_default().into());
        secret["data"][key] = json!(bytes);
    }
}

fn complete_service(spec: &mut Value) {
    let Some(fields) = spec.as_object_mut() else { return };
    if fields.get("type").is_none_or(|own| own != "ExternalName") {
        fields.entry("internalTrafficPolicy").or_insert_with(|| json!("Cluster"));
    }
    for port in items(spec, "ports") {
        let number = port.get("port").cloned().unwrap_or_default();
        let target = port.entry("targetPort").or_insert(Value::Null);
        if target.is_null() || *target == 0 || *target == "" {
            *target = number;
        }
    }
}

fn complete_deployment(spec: &mut Value) {
    let strategy = &mut spec["strategy"];
    if strategy["type"].is_null() {
        strategy["type"] = json!("RollingUpdate");
    }
    if strategy["type"] == "RollingUpdate" {
        let rolling = &mut strategy["rollingUpdate"];
        for key in ["maxSurge", "maxUnavailable"] {
            if rolling[key].is_null() {
                rolling[key] = json!("25%");
            }
        }
    }
    if let Some(pod) = spec.pointer_mut("/template/spec") {
        complete_containers(pod);
    }
}

fn complete_pod(spec: &mut Value) {
    complete_containers(spec);
    for list in ["containers", "initContainers"] {
        for container in items(spec, list) {
            let Some(resources) = container.get_mut("resources") else { continue };
            let limits = resources["limits"].as_object().cloned().unwrap_or_default();
            for (name, limit) in limits {
                let request = &mut resources["requests"][&name];
                if request.is_null() {
                    *request = limit;
                }
            }
        }
    }
    if let Some(fields) = spec.as_object_mut() {
        fields.entry("enableServiceLinks").or_insert(Value::Bool(true));
    }
}

fn complete_containers(spec: &mut Value) {
    if let Some(fields) = spec.as_object_mut() {
        fields.entry("securityContext").or_insert_with(|| json!({}));
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for container in items(spec, list) {
            let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
            let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
            container.entry("imagePullPolicy").or_insert_with(|| json!(policy));
            container.entry("resources").or_insert_with(|| json!({}));
        }
    }
}

/// Whether an image stands for whatever is the newest.
fn is_latest(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or(image);
    match name.split_once(':') {
        _ if image.contains('@') => false,
        Some((_, tag)) => tag == "latest",
        None => true,
    }
}

/// The objects in a list.
fn items<'a>(spec: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    let list = spec.get_mut(list).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// How the kernel is to treat a pod when memory is short.
fn quality_of_service(spec: &Value) -> &'static str {
    let lists = ["containers", "initContainers"];
    let containers = lists.iter().flat_map(|list| spec[list].as_array().into_iter().flatten());
    let (mut asks, mut fixed) = (false, true);
    for container in containers {
        let resources = &container["resources"];
        for name in ["cpu", "memory"] {
            let (request, limit) = (&resources["requests"][name], &resources["limits"][name]);
            asks |= is_some(request) || is_some(limit);
            fixed &= is_some(limit) && request == limit;
        }
    }
    match (asks, fixed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn is_some(quantity: &Value) -> bool {
    !quantity.is_null() && *quantity != "0" && *quantity != 0
}

#[cfg(test)]
mod tests {
    use super::super::tests::served;
    use super::*;

    fn completed(kind: &str, mut value: Value) -> Value {
        let resource = served().iter().find(|own| own.kind == kind && !own.custom).unwrap();
        resource.schema.apply_defaults(&mut value);
        complete(resource, &mut value);
        value
    }

    #[test]
    fn texts_of_a_secret_become_data() {
        let secret = json!({ "data": { "a": "aGk=" }, "stringData": { "a": "x", "b": "hi" } });
        let secret = completed("Secret", secret);
        assert_eq!(secret["data"], json!({ "a": "eA==", "b": "aGk=" }));
        assert!(secret.get("stringData").is_none());
    }

    #[test]
    fn a_port_of_a_service_leads_to_the_same_port() {
        let service =
            json!({ "spec": { "ports": [{ "port": 80 }, { "port": 81, "targetPort": "x" }] } });
        let service = completed("Service", service);
        assert_eq!(service["spec"]["ports"][0]["targetPort"], 80);
        assert_eq!(service["spec"]["ports"][1]["targetPort"], "x");
        assert_eq!(service["spec"]["internalTrafficPolicy"], "Cluster");
    }

    #[test]
    fn a_deployment_is_rolled_out_by_quarters() {
        let spec = json!({ "template": { "spec": { "containers": [{ "image": "r:5000/i" }] } } });
        let deployment = completed("Deployment", json!({ "spec": spec }));
        let quarters = json!({ "maxSurge": "25%", "maxUnavailable": "25%" });
        assert_eq!(deployment["spec"]["strategy"]["rollingUpdate"], quarters);
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(pod["containers"][0]["imagePullPolicy"], "Always");
        assert!(pod.get("enableServiceLinks").is_none(), "a pod alone has it");
        let recreated = json!({ "spec": { "strategy": { "type": "Recreate" } } });
        let recreated = completed("Deployment", recreated);
        assert_eq!(recreated["spec"]["strategy"], json!({ "type": "Recreate" }));
    }

    #[test]
    fn a_pod_asks_for_its_limits() {
        let limits = json!({ "cpu": "1", "memory": "1Gi" });
        let container = json!({ "image": "i@sha256:0", "resources": { "limits": limits } });
        let pod = completed("Pod", json!({ "spec": { "containers": [container] } }));
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["resources"]["requests"], limits);
        assert_eq!(container["imagePullPolicy"], "IfNotPresent");
        assert_eq!(pod["spec"]["enableServiceLinks"], true);
        assert_eq!(quality_of_service(&pod["spec"]), "Guaranteed");
        let burstable = json!({ "containers": [{ "resources": { "requests": { "cpu": "1" } } }] });
        assert_eq!(quality_of_service(&burstable), "Burstable");
        assert_eq!(quality_of_service(&json!({ "containers": [{}] })), "BestEffort");
    }
}
