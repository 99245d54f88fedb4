//! Objects by choice: of any kind, mostly as its schema has them, with few names, so that they meet.

use std::sync::LazyLock;

use arbitrary::{Result, Unstructured};
use serde_json::{Map, Value, json};

use crate::resources::{self, ResourceType};
use crate::schema::{ListKind, Schema, Shape};

/// Deepest value that is made: the containers of a pod of a Deployment, and what is in them.
const LEVELS_MAX: usize = 9;
/// Most fields or items of one value.
const WIDTH_MAX: usize = 4;
/// Names, and texts of all kinds.
const TEXTS: [&str; 7] = ["a", "b", "c", "", "TCP", "100m", "é"];
const KEYS: [&str; 5] = ["a", "b", "c", "", "x/y"];
/// Kinds with lists and maps of every sort.
const KINDS: [&str; 6] = ["Pod", "ConfigMap", "Deployment", "Secret", "Service", "Revision"];

static RESOURCES: LazyLock<Vec<ResourceType>> =
    LazyLock::new(|| resources::all(&ebb_api::crd::all()));

/// Every kind that is served.
pub(crate) fn resources() -> &'static [ResourceType] {
    &RESOURCES
}

/// One of some kinds.
pub(crate) fn kind(choices: &mut Unstructured<'_>) -> Result<&'static ResourceType> {
    let kind = *choices.choose(&KINDS)?;
    let of_kind: Vec<_> = resources().iter().filter(|resource| resource.kind == kind).collect();
    Ok(*choices.choose(&of_kind)?)
}

/// An object with a name; now and then with fields that its kind does not have.
pub(crate) fn object(choices: &mut Unstructured<'_>, kind: &ResourceType) -> Result<Value> {
    let mut object = value(choices, &kind.schema, LEVELS_MAX)?;
    if !object.is_object() {
        object = json!({});
    }
    object["apiVersion"] = json!(kind.api_version());
    object["kind"] = json!(kind.kind);
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    object["metadata"]["name"] = json!("one");
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    Ok(object)
}

/// A value that is mostly as `schema` has it.
pub(crate) fn value(
    choices: &mut Unstructured<'_>,
    schema: &Schema,
    levels: usize,
) -> Result<Value> {
    if choices.is_empty() {
        return Ok(Value::Null);
    }
    match choices.int_in_range(0..=127_u8)? {
        0 => return Ok(Value::Null),
        1 => return any(choices),
        _ => {}
    }
    if levels == 0 {
        return Ok(json!(choices.choose(&TEXTS)?));
    }
    Ok(match &schema.shape {
        Shape::Any => any(choices)?,
        Shape::IntOrString if choices.ratio(1_u8, 2)? => json!(choices.choose(&[1, 2])?),
        Shape::IntOrString | Shape::Quantity => json!(choices.choose(&["1", "100m"])?),
        Shape::Boolean => json!(choices.ratio(1_u8, 2)?),
        Shape::Integer { .. } => json!(choices.choose(&[0, 1, 2, -1])?),
        Shape::Number { .. } => json!(choices.choose(&[0.0, 0.5, 1.0])?),
        Shape::String { .. } => json!(choices.choose(&TEXTS)?),
        Shape::Map { values, .. } => {
            let mut map = Map::new();
            for _ in 0..choices.int_in_range(0..=WIDTH_MAX)? {
                let key = *choices.choose(&KEYS)?;
                map.insert(key.to_owned(), value(choices, values, levels - 1)?);
            }
            Value::Object(map)
        }
        Shape::Object(fields) => {
            let mut object = Map::new();
            for field in fields.known.iter().filter(|field| field.required) {
                let inner = value(choices, &field.schema, levels - 1)?;
                object.insert(field.name.to_string(), inner);
            }
            for _ in 0..choices.int_in_range(0..=WIDTH_MAX)? {
                if fields.known.is_empty() || choices.ratio(1_u8, 64)? {
                    object.insert("unknown".to_owned(), any(choices)?);
                } else {
                    let field = choices.choose(&fields.known)?;
                    let inner = value(choices, &field.schema, levels - 1)?;
                    object.insert(field.name.to_string(), inner);
                }
            }
            Value::Object(object)
        }
        Shape::List { items, kind } => {
            let mut list = Vec::new();
            for _ in 0..choices.int_in_range(0..=WIDTH_MAX)? {
                let mut item = value(choices, items, levels - 1)?;
                if let (ListKind::Map(keys), Value::Object(item)) = (kind, &mut item) {
                    identify(choices, items, keys, item)?;
                }
                list.push(item);
            }
            Value::Array(list)
        }
    })
}

/// Gives an item of a list most of the fields that tell items apart.
fn identify(
    choices: &mut Unstructured<'_>,
    items: &Schema,
    keys: &[std::sync::Arc<str>],
    item: &mut Map<String, Value>,
) -> Result<()> {
    for key in keys {
        if !choices.ratio(1_u8, 32)? {
            let text =
                items.child(key).is_some_and(|key| matches!(key.shape, Shape::String { .. }));
            let value =
                if text { json!(choices.choose(&TEXTS)?) } else { json!(choices.choose(&[1, 2])?) };
            item.insert(key.to_string(), value);
        }
    }
    Ok(())
}

fn any(choices: &mut Unstructured<'_>) -> Result<Value> {
    let values = [
        Value::Null,
        json!({}),
        json!([]),
        json!("a"),
        json!(1),
        json!(0.5),
        json!(true),
        json!({"a": "b"}),
        json!({"a": {"b": null}, "name": "a"}),
        json!(["a", "a", "b"]),
        json!([{"name": "a"}, {"name": "b", "value": "c"}]),
        json!([null, 1, []]),
    ];
    Ok(choices.choose(&values)?.clone())
}
