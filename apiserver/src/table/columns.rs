//! Columns of the built-in kinds.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::column::{Column, count_at, list_at, str_at};
use super::{age, pod};

/// The columns of a built-in kind; name and age for one that has none of its own.
pub(crate) fn built_in(group: &str, kind: &str) -> Vec<Column> {
    let own = match (group, kind) {
        ("", "Pod") => return pods(),
        ("apps", "Deployment") => return deployments(),
        ("" | "events.k8s.io", "Event") => return events(),
        ("apiextensions.k8s.io", _) => {
            vec![Column::text("Created At", "/metadata/creationTimestamp")]
        }
        ("", "Service") => return services(),
        ("", "Namespace") => vec![Column::text("Status", "/status/phase")],
        ("", "ConfigMap") => vec![Column::computed("Data", "string", |object, _| {
            json!(entries(object, "/data") + entries(object, "/binaryData"))
        })],
        ("", "Secret") => vec![
            Column::text("Type", "/type"),
            Column::computed("Data", "string", |object, _| json!(entries(object, "/data"))),
        ],
        ("coordination.k8s.io", "Lease") => vec![Column::text("Holder", "/spec/holderIdentity")],
        _ => Vec::new(),
    };
    let mut columns = vec![Column::name()];
    columns.extend(own);
    if group != "apiextensions.k8s.io" {
        columns.push(Column::age());
    }
    columns
}

fn pods() -> Vec<Column> {
    vec![
        Column::name(),
        Column::computed("Ready", "string", |object, _| json!(pod::ready(object))),
        Column::computed("Status", "string", |object, _| json!(pod::status(object))),
        Column::computed("Restarts", "string", |object, now| json!(pod::restarts(object, now))),
        Column::age(),
        Column::computed("IP", "string", |object, _| or_none(str_at(object, "/status/podIP")))
            .wide(),
        Column::computed("Node", "string", |object, _| or_none(str_at(object, "/spec/nodeName")))
            .wide(),
        Column::computed("Nominated Node", "string", |object, _| {
            or_none(str_at(object, "/status/nominatedNodeName"))
        })
        .wide(),
        Column::computed("Readiness Gates", "string", |_, _| json!("<none>")).wide(),
    ]
}

fn deployments() -> Vec<Column> {
    vec![
        Column::name(),
        Column::computed("Ready", "string", |object, _| {
            json!(format!(
                "{}/{}",
                count_at(object, "/status/readyReplicas"),
                count_at(object, "/spec/replicas")
            ))
        }),
        Column::computed("Up-to-date", "string", |object, _| {
            json!(count_at(object, "/status/updatedReplicas"))
        }),
        Column::computed("Available", "string", |object, _| {
            json!(count_at(object, "/status/availableReplicas"))
        }),
        Column::age(),
        Column::computed("Containers", "string", |object, _| {
            joined(list_at(object, "/spec/template/spec/containers"), "/name")
        })
        .wide(),
        Column::computed("Images", "string", |object, _| {
            joined(list_at(object, "/spec/template/spec/containers"), "/image")
        })
        .wide(),
        Column::computed("Selector", "string", |object, _| {
            selector(object, "/spec/selector/matchLabels")
        })
        .wide(),
    ]
}

fn services() -> Vec<Column> {
    vec![
        Column::name(),
        Column::text("Type", "/spec/type"),
        Column::computed("Cluster-IP", "string", |object, _| {
            or_none(str_at(object, "/spec/clusterIP"))
        }),
        Column::computed("External-IP", "string", |object, _| json!(external_ip(object))),
        Column::computed("Port(s)", "string", |object, _| json!(ports(object))),
        Column::age(),
        Column::computed("Selector", "string", |object, _| selector(object, "/spec/selector"))
            .wide(),
    ]
}

fn events() -> Vec<Column> {
    vec![
        Column::computed("Last Seen", "string", |object, now| json!(last_seen(object, now))),
        Column::text("Type", "/type"),
        Column::text("Reason", "/reason"),
        Column::computed("Object", "string", |object, _| json!(event_object(object))),
        Column::computed("Source", "string", |object, _| {
            let component = ["/source/component", "/deprecatedSource/component"]
                .into_iter()
                .chain(["/reportingComponent", "/reportingController"])
                .map(|pointer| str_at(object, pointer))
                .find(|component| !component.is_empty());
            json!(component.unwrap_or_default())
        })
        .wide(),
        Column::computed("Message", "string", |object, _| {
            let message = match str_at(object, "/message") {
                "" => str_at(object, "/note"),
                message => message,
            };
            json!(message.trim())
        }),
        Column::computed("Count", "integer", |object, _| {
            json!(
                count_at(object, "/count")
                    .max(count_at(object, "/deprecatedCount"))
                    .max(count_at(object, "/series/count"))
                    .max(1)
            )
        })
        .wide(),
        Column::name().wide(),
    ]
}

/// The age of the latest occurrence, from the first of these fields that is set; the newest field
/// comes first.
fn last_seen(object: &Value, now: Timestamp) -> String {
    let time = [
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/deprecatedLastTimestamp",
        "/eventTime",
        "/metadata/creationTimestamp",
    ]
    .into_iter()
    .filter_map(|pointer| object.pointer(pointer))
    .find(|time| !time.is_null());
    age::since(time, now)
}

fn event_object(object: &Value) -> String {
    let about = ["involvedObject", "regarding"]
        .into_iter()
        .find_map(|field| object.get(field))
        .unwrap_or(&Value::Null);
    let kind = str_at(about, "/kind").to_lowercase();
    format!("{kind}/{}", str_at(about, "/name"))
}

fn external_ip(service: &Value) -> String {
    let mut addresses: Vec<&str> =
        list_at(service, "/spec/externalIPs").iter().filter_map(Value::as_str).collect();
    match str_at(service, "/spec/type") {
        "ExternalName" => addresses.push(str_at(service, "/spec/externalName")),
        "LoadBalancer" => {
            for ingress in list_at(service, "/status/loadBalancer/ingress") {
                let ip = str_at(ingress, "/ip");
                addresses.push(if ip.is_empty() { str_at(ingress, "/hostname") } else { ip });
            }
            if addresses.is_empty() {
                return "<pending>".to_owned();
            }
        }
        _ => {}
    }
    if addresses.is_empty() {
        return "<none>".to_owned();
    }
    addresses.join(",")
}

fn ports(service: &Value) -> String {
    let ports: Vec<String> = list_at(service, "/spec/ports")
        .iter()
        .map(|port| {
            let number = count_at(port, "/port");
            let protocol = match str_at(port, "/protocol") {
                "" => "TCP",
                protocol => protocol,
            };
            match count_at(port, "/nodePort") {
                0 => format!("{number}/{protocol}"),
                node_port => format!("{number}:{node_port}/{protocol}"),
            }
        })
        .collect();
    if ports.is_empty() {
        return "<none>".to_owned();
    }
    ports.join(",")
}

fn selector(object: &Value, pointer: &str) -> Value {
    let labels = object.pointer(pointer).and_then(Value::as_object);
    let labels: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    or_none(&labels.join(","))
}

fn joined(items: &[Value], pointer: &str) -> Value {
    let texts: Vec<&str> = items.iter().map(|item| str_at(item, pointer)).collect();
    json!(texts.join(","))
}

fn or_none(text: &str) -> Value {
    json!(if text.is_empty() { "<none>" } else { text })
}

fn entries(object: &Value, pointer: &str) -> usize {
    let map = object.pointer(pointer).and_then(Value::as_object);
    map.map_or(0, serde_json::Map::len)
}
