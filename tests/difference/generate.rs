//! Operations out of a seed. Names are few, so that operations meet each other.

use http::Method;
use serde_json::{Value, json};

use crate::dice::Dice;
use crate::kinds::{KINDS, Kind};
use crate::operation::Operation;
use crate::patches;

/// Names of objects.
const NAMES: &[&str] = &["a", "a", "b", "c"];
const MANAGERS: &[&str] = &["one", "two"];
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

/// One run: a namespace of its own, one or two kinds, and operations on them.
#[derive(Clone)]
pub(crate) struct Episode {
    pub(crate) seed: u64,
    pub(crate) kinds: Vec<&'static Kind>,
    pub(crate) operations: Vec<Operation>,
}

// === impl Episode ===

impl Episode {
    pub(crate) fn new(seed: u64, length: usize) -> Self {
        let mut dice = Dice::new(seed);
        let mut kinds = vec![&KINDS[dice.below(KINDS.len())]];
        let second = &KINDS[dice.below(KINDS.len())];
        // What a server told is remembered by the plural.
        if second.plural != kinds[0].plural && dice.chance(30) {
            kinds.push(second);
        }
        let mut operations = Vec::with_capacity(length);
        while operations.len() < length {
            operations.push(operation(&mut dice, &kinds));
            // The rest of a page follows at once: a later page of the embedded API shows its own
            // time, and not that of the first.
            let last: Option<Operation> = operations.last().cloned();
            let is_page = |last: &Operation| last.query.iter().any(|(key, _)| *key == "limit");
            let next = last.filter(is_page).map(|page| page.with("continue", "{token}"));
            operations.extend(next);
        }
        Self { seed, kinds, operations }
    }
}

fn operation(dice: &mut Dice, kinds: &[&'static Kind]) -> Operation {
    let kind = dice.pick(kinds);
    let name = dice.pick(NAMES);
    let operation = match dice.below(100) {
        0..14 if kind.has_scale && dice.chance(25) => scale(dice, kind, name),
        0..20 => create(dice, kind, name),
        20..26 => get(dice, kind, name),
        26..36 => list(dice, kind),
        36..48 => replace(dice, kind, name),
        48..66 => patches::change(dice, kind, name),
        66..82 => patches::apply(dice, kind, name),
        82..88 => delete(dice, kind, name),
        88..90 => delete_collection(dice, kind),
        90..96 => status(dice, kind, name),
        _ if kind.has_scale => scale(dice, kind, name),
        _ => patches::apply(dice, kind, name),
    };
    with_options(dice, operation)
}

/// The options of every write.
fn with_options(dice: &mut Dice, mut operation: Operation) -> Operation {
    if operation.method == Method::GET {
        return operation;
    }
    let is_new = operation.method == Method::POST;
    let body = operation.body.as_ref();
    let is_versioned = body.is_some_and(|body| body["metadata"]["resourceVersion"].is_string());
    // Of a creation with a version a dry run does not say that it will be refused.
    if dice.chance(8) && !(is_new && is_versioned) {
        // The real server reads no query of a deletion with a body.
        match &mut operation.body {
            Some(body) if operation.method == Method::DELETE => body["dryRun"] = json!(["All"]),
            _ => operation = operation.with("dryRun", "All"),
        }
    }
    if operation.method == Method::DELETE {
        return operation;
    }
    if dice.chance(25) {
        let strictness = dice.pick(&["Strict", "Warn", "Ignore"]);
        operation = operation.with("fieldValidation", strictness);
    }
    let is_apply = operation.query.iter().any(|(key, _)| *key == "fieldManager");
    if !is_apply && dice.chance(40) {
        operation = operation.with("fieldManager", dice.pick(MANAGERS));
    }
    if dice.chance(4) {
        operation.accept = Some(dice.pick(&[TABLE, METADATA]));
    }
    operation
}

/// An object of which something is wrong now and then.
fn object(dice: &mut Dice, kind: &'static Kind, name: &str) -> Value {
    let mut object = kind.object(dice, name);
    match dice.below(40) {
        0 => object["kind"] = "Unheard".into(),
        1 => object["apiVersion"] = "v0".into(),
        2 => object["metadata"]["name"] = "Not_A_Name".into(),
        3 => object["metadata"]["namespace"] = "elsewhere".into(),
        4 => object["unheard"] = json!({ "of": 1 }),
        5 => object["metadata"]["unheard"] = 1.into(),
        6 => object[kind.part()]["unheard"] = "eA==".into(),
        7 => object["metadata"]["labels"] = json!({ "app": "not a value" }),
        8 => object["metadata"]["labels"] = json!({ "app": 1 }),
        9 => object[kind.part()] = "text".into(),
        10 => object["metadata"]["finalizers"] = json!(["plain"]),
        11 => object["metadata"]["ownerReferences"] = json!([{ "name": "owner" }]),
        12 => object["metadata"]["managedFields"] = json!([]),
        13 => object["metadata"]["generation"] = 7.into(),
        14 => object["metadata"]["annotations"] = json!({ "a b": "x" }),
        15 => object["status"] = (kind.status)(dice),
        16 => object["metadata"]["annotations"] = Value::Null,
        17 => {
            object.as_object_mut().unwrap().remove("kind");
        }
        18 => {
            object["metadata"].as_object_mut().unwrap().remove("name");
        }
        _ => {}
    }
    object
}

fn create(dice: &mut Dice, kind: &'static Kind, name: &str) -> Operation {
    let mut body = object(dice, kind, name);
    match dice.below(30) {
        0 => body["metadata"]["resourceVersion"] = "{version}".into(),
        1 => body["metadata"]["uid"] = "{uid}".into(),
        2 => body["metadata"]["deletionTimestamp"] = "2024-05-01T00:00:00Z".into(),
        _ => {}
    }
    Operation::new(Method::POST, kind, name).sending(body)
}

fn get(dice: &mut Dice, kind: &'static Kind, name: &str) -> Operation {
    let mut operation = Operation::new(Method::GET, kind, name);
    if kind.has_status && dice.chance(20) {
        operation = operation.below("/status");
    }
    operation.accept = match dice.below(6) {
        0 => Some(TABLE),
        1 => Some(METADATA),
        2 => Some("text/html"),
        _ => None,
    };
    operation
}

fn list(dice: &mut Dice, kind: &'static Kind) -> Operation {
    let mut operation = selected(dice, Operation::new(Method::GET, kind, ""));
    operation = match dice.below(10) {
        0 | 1 => operation.with("limit", "1"),
        2 => operation.with("resourceVersion", "0"),
        3 => operation.with("resourceVersion", "{latest}"),
        4 => operation
            .with("resourceVersion", "{latest}")
            .with("resourceVersionMatch", "NotOlderThan"),
        5 => operation.with("resourceVersionMatch", "Exact"),
        6 => operation.with("limit", "2"),
        _ => operation,
    };
    if operation.query.iter().any(|(key, _)| *key == "limit") {
        // The real server does not know whether a page of a selection is the last one.
        operation.query.retain(|(key, _)| !key.ends_with("Selector"));
    }
    operation.accept = match dice.below(8) {
        0 => Some(TABLE),
        1 => Some(METADATA_LIST),
        _ => None,
    };
    if operation.accept == Some(TABLE) && dice.chance(50) {
        let include = dice.pick(&["None", "Metadata", "Object"]);
        operation = operation.with("includeObject", include);
    }
    operation
}

fn selected(dice: &mut Dice, operation: Operation) -> Operation {
    match dice.below(8) {
        0..4 => {
            let labels = [
                "app=a",
                "app==b",
                "app!=a",
                "app in (a,b)",
                "app notin (a)",
                "tier",
                "!tier",
                "app=a,tier=x",
                "app in (a",
                "=a",
                "app=not a value",
                "a b",
                "app in ()",
                "app>1",
            ];
            operation.with("labelSelector", dice.pick(&labels))
        }
        4..6 => {
            let fields = [
                "metadata.name=a",
                "metadata.name!=a",
                "metadata.namespace=elsewhere",
                "spec.unheard=1",
                "metadata.name",
                "status.phase=Running",
                "metadata.name=a,metadata.name!=b",
                "type=Opaque",
            ];
            operation.with("fieldSelector", dice.pick(&fields))
        }
        _ => operation,
    }
}

fn replace(dice: &mut Dice, kind: &'static Kind, name: &str) -> Operation {
    let mut body = object(dice, kind, name);
    match dice.below(10) {
        0..4 => body["metadata"]["resourceVersion"] = "{version}".into(),
        4 => body["metadata"]["resourceVersion"] = "{stale}".into(),
        5 => body["metadata"]["uid"] = "{uid}".into(),
        6 => body["metadata"]["uid"] = "11111111-1111-4111-8111-111111111111".into(),
        7 if dice.chance(30) => body["metadata"]["resourceVersion"] = "no number".into(),
        _ => {}
    }
    Operation::new(Method::PUT, kind, name).sending(body)
}

fn delete(dice: &mut Dice, kind: &'static Kind, name: &str) -> Operation {
    let operation = Operation::new(Method::DELETE, kind, name);
    let preconditions = match dice.below(12) {
        0 => json!({ "uid": "{uid}" }),
        1 => json!({ "uid": "11111111-1111-4111-8111-111111111111" }),
        2 => json!({ "resourceVersion": "{stale}" }),
        3 => json!({ "resourceVersion": "{version}" }),
        _ => Value::Null,
    };
    let mut options = json!({ "kind": "DeleteOptions", "apiVersion": "v1" });
    if !preconditions.is_null() {
        options["preconditions"] = preconditions;
        return operation.sending(options);
    }
    match dice.below(10) {
        0 => operation.with("propagationPolicy", "Background"),
        1 => operation.with("propagationPolicy", "Foreground"),
        2 => operation.with("propagationPolicy", "Orphan"),
        3 => operation.with("propagationPolicy", "Sideways"),
        4 => operation.with("gracePeriodSeconds", dice.pick(&["0", "5"])),
        5 => {
            options["gracePeriodSeconds"] = dice.pick(&[0, 5]).into();
            operation.sending(options)
        }
        6 => {
            options["propagationPolicy"] = dice.pick(&["Foreground", "Background"]).into();
            operation.sending(options)
        }
        _ => operation,
    }
}

fn delete_collection(dice: &mut Dice, kind: &'static Kind) -> Operation {
    // Never the lease that owns others.
    let labels = dice.pick(&["app=a", "app in (a,b)", "tier"]);
    Operation::new(Method::DELETE, kind, "").with("labelSelector", labels)
}

fn status(dice: &mut Dice, kind: &'static Kind, name: &str) -> Operation {
    if dice.chance(50) {
        return patches::status(dice, kind, name);
    }
    let mut operation = replace(dice, kind, name).below("/status");
    if let Some(body) = &mut operation.body {
        body["status"] = (kind.status)(dice);
    }
    operation
}

fn scale(dice: &mut Dice, kind: &'static Kind, name: &str) -> Operation {
    match dice.below(3) {
        0 => Operation::new(Method::GET, kind, name).below("/scale"),
        1 => {
            let mut body = json!({
                "kind": "Scale", "apiVersion": "autoscaling/v1",
                "metadata": { "name": name, "namespace": "{namespace}" },
                "spec": { "replicas": dice.pick(&[json!(2), json!(5), json!(-1), json!("x")]) },
            });
            match dice.below(6) {
                0 => body["metadata"]["resourceVersion"] = "{stale}".into(),
                1 => body["metadata"]["resourceVersion"] = "{version}".into(),
                2 => body["metadata"]["name"] = "other".into(),
                _ => {}
            }
            Operation::new(Method::PUT, kind, name).below("/scale").sending(body)
        }
        _ => patches::scale(dice, kind, name),
    }
}
