//! Patches: JSON patch, merge patch and strategic merge patch of objects of their kinds.

use arbitrary::{Result, Unstructured};
use serde_json::{Map, Value, json};

use super::objects;
use crate::measure::{self, LEVELS_MAX, OBJECT_BYTES_MAX};
use crate::patch::{PatchError, json as json_patch, merge, strategic};
use crate::resources::ResourceType;
use crate::schema::Schema;

/// Most operations of a JSON patch that is made by choice.
const OPERATIONS_MAX: usize = 8;
/// Deepest place of a directive.
const DIRECTIVE_LEVELS_MAX: usize = 8;

/// An input is choices that make an object and a patch, or two lines of JSON after a byte that says
/// which patch the second is: `j`, `m` or `s`.
///
/// # Panics
/// If the input shows a fault.
pub fn patch(input: &[u8]) {
    let Some((kind @ (b'j' | b'm' | b's'), text)) = input.split_first() else {
        chosen(&mut Unstructured::new(input)).unwrap_or_default();
        return;
    };
    let text = String::from_utf8_lossy(text);
    let mut documents = text.lines().map(serde_json::from_str::<Value>);
    let (Some(Ok(object)), Some(Ok(patch))) = (documents.next(), documents.next()) else {
        return;
    };
    if measure::levels(&object) > LEVELS_MAX || measure::levels(&patch) > LEVELS_MAX {
        return;
    }
    let of_pods = objects::resources().iter().find(|resource| resource.kind == "Pod");
    let schema = &of_pods.expect("pods are served").schema;
    match kind {
        b'j' => patched(&object, &patch, json_patch),
        b'm' => patched(&object, &patch, merge),
        _ => patched(&object, &patch, |object, patch| strategic(schema, object, patch)),
    };
}

fn chosen(choices: &mut Unstructured<'_>) -> Result<()> {
    let kind = objects::kind(choices)?;
    let object = conforming(choices, kind)?;
    match choices.int_in_range(0..=3)? {
        0 => {
            let patch = objects::object(choices, kind)?;
            let apply = |object: &mut Value, patch: &Value| merge(object, patch);
            let once = patched(&object, &patch, apply).expect("an object is a merge patch");
            assert_eq!(patched(&once, &patch, apply).as_ref(), Some(&once), "merged twice");
        }
        1 => operations(choices, &object)?,
        _ => merged_by_kind(choices, kind, &object)?,
    }
    Ok(())
}

fn conforming(choices: &mut Unstructured<'_>, kind: &ResourceType) -> Result<Value> {
    let mut object = objects::object(choices, kind)?;
    kind.schema.prune(&mut object);
    Ok(object)
}

/// The patched object. A refused patch leaves the object as it was; any result has its bounds.
fn patched(
    object: &Value,
    patch: &Value,
    apply: impl Fn(&mut Value, &Value) -> std::result::Result<(), PatchError>,
) -> Option<Value> {
    let mut result = object.clone();
    if let Err(error) = apply(&mut result, patch) {
        assert!(!error.to_string().is_empty());
        assert_eq!(result, *object, "a refused patch changed the object: {patch}");
        return None;
    }
    let (levels, bytes) = (measure::levels(&result), measure::bytes(&result));
    assert!(levels <= LEVELS_MAX, "{levels} levels");
    let bound = measure::bytes(object) + measure::bytes(patch) + OBJECT_BYTES_MAX;
    assert!(bytes <= bound, "{bytes} bytes of {bound}");
    Some(result)
}

/// A JSON patch does what its operations do one by one.
fn operations(choices: &mut Unstructured<'_>, object: &Value) -> Result<()> {
    let (mut pointers, mut values) = (Vec::new(), Vec::new());
    collect(object, "", &mut pointers, &mut values);
    pointers.extend(["/-".to_owned(), "/new".to_owned(), String::new(), "/~2".to_owned()]);
    let mut operations = Vec::new();
    for _ in 0..choices.int_in_range(1..=OPERATIONS_MAX)? {
        let mut path = choices.choose(&pointers)?.clone();
        if choices.ratio(1_u8, 4)? {
            path.push_str(choices.choose(&["/-", "/0", "/new", "/00"])?);
        }
        let operation = *choices.choose(&["add", "remove", "replace", "move", "copy", "test"])?;
        operations.push(json!({
            "op": operation,
            "path": path,
            "from": choices.choose(&pointers)?,
            "value": choices.choose(&values)?,
        }));
    }
    let whole = patched(object, &json!(operations), json_patch);
    let mut steps = Some(object.clone());
    for operation in operations {
        steps = steps.and_then(|object| patched(&object, &json!([operation]), json_patch));
    }
    assert_eq!(whole, steps);
    Ok(())
}

fn collect(value: &Value, path: &str, pointers: &mut Vec<String>, values: &mut Vec<Value>) {
    pointers.push(path.to_owned());
    values.push(value.clone());
    match value {
        Value::Object(object) => {
            for (name, inner) in object {
                let step = name.replace('~', "~0").replace('/', "~1");
                collect(inner, &format!("{path}/{step}"), pointers, values);
            }
        }
        Value::Array(list) => {
            for (index, inner) in list.iter().enumerate() {
                collect(inner, &format!("{path}/{index}"), pointers, values);
            }
        }
        _ => {}
    }
}

/// A strategic merge patch that is applied twice does what it does once, unless it deletes items:
/// one that it adds again goes to the end.
fn merged_by_kind(
    choices: &mut Unstructured<'_>,
    kind: &ResourceType,
    object: &Value,
) -> Result<()> {
    let mut patch = objects::object(choices, kind)?;
    let mut deletes = false;
    direct(choices, &mut patch, DIRECTIVE_LEVELS_MAX, &mut deletes)?;
    let apply = |object: &mut Value, patch: &Value| strategic(&kind.schema, object, patch);
    let Some(once) = patched(object, &patch, apply) else {
        return Ok(());
    };
    if !deletes {
        let twice = patched(&once, &patch, apply);
        assert_eq!(twice.as_ref(), Some(&once), "{object} patched twice with {patch}");
    }
    check_nothing(&kind.schema, &once);
    Ok(())
}

/// A patch that says nothing changes nothing.
fn check_nothing(schema: &Schema, object: &Value) {
    let mut same = object.clone();
    strategic(schema, &mut same, &json!({})).expect("an empty patch fits");
    assert_eq!(same, *object);
    merge(&mut same, &json!({})).expect("an empty patch fits");
    assert_eq!(same, *object);
}

/// Puts directives into a patch.
fn direct(
    choices: &mut Unstructured<'_>,
    patch: &mut Value,
    levels: usize,
    deletes: &mut bool,
) -> Result<()> {
    match patch {
        Value::Object(object) if levels > 0 => {
            for inner in object.values_mut() {
                direct(choices, inner, levels - 1, deletes)?;
            }
            if choices.ratio(1_u8, 6)? {
                directive(choices, object, deletes)?;
            }
        }
        Value::Array(list) if levels > 0 => {
            for inner in list {
                direct(choices, inner, levels - 1, deletes)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn directive(
    choices: &mut Unstructured<'_>,
    object: &mut Map<String, Value>,
    deletes: &mut bool,
) -> Result<()> {
    let names: Vec<String> = object.keys().cloned().collect();
    let name = if names.is_empty() { "a".to_owned() } else { choices.choose(&names)?.clone() };
    let list = match object.get(&name) {
        Some(Value::Array(list)) => Value::Array(list.iter().rev().cloned().collect()),
        _ => json!(["b", "a"]),
    };
    match choices.int_in_range(0..=6)? {
        0 => object.insert("$patch".to_owned(), json!("merge")),
        1 => object.insert("$patch".to_owned(), json!("replace")),
        2 => {
            *deletes = true;
            object.insert("$patch".to_owned(), json!("delete"))
        }
        3 => object.insert("$retainKeys".to_owned(), json!(names)),
        4 => object.insert(format!("$setElementOrder/{name}"), list),
        5 => {
            *deletes = true;
            object.insert(format!("$deleteFromPrimitiveList/{name}"), list)
        }
        _ => object.insert("$patch".to_owned(), json!(1)),
    };
    Ok(())
}
