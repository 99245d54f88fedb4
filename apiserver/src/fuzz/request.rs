//! Targets of requests: paths and queries that say the same when they are written once more.

use std::sync::{Arc, LazyLock};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::object::Object;
use crate::request::{PathTarget, Query, Route, Subresource, route};
use crate::resources::ResourceType;
use crate::selector::{Selector, fuzz};

/// Bytes that an error may have beyond those of the request.
const ERROR_BYTES_MAX: usize = 400;
/// Longest value of a label.
const LABEL_CHARS_MAX: usize = 63;
/// Fields that a selector may name.
const SELECTABLE: [&str; 3] = ["status.phase", "spec.nodeName", "involvedObject.name"];

static RESOURCES: LazyLock<Vec<Arc<ResourceType>>> =
    LazyLock::new(|| super::objects::resources().iter().cloned().map(Arc::new).collect());

static OBJECTS: LazyLock<Vec<Object>> = LazyLock::new(|| {
    let labels = [json!({}), json!({"a": "1"}), json!({"a": "2", "b": ""}), json!({"b": "x.y"})];
    let names = ["a", "b"].into_iter();
    names
        .flat_map(|name| labels.iter().map(move |labels| (name, labels)))
        .map(|(name, labels)| {
            Object::new(&json!({
                "metadata": {"name": name, "namespace": "n", "labels": labels},
                "status": {"phase": "Running"},
                "spec": {"nodeName": name},
            }))
        })
        .collect()
});

/// An input is the target of a request.
///
/// # Panics
/// If the input shows a fault.
pub fn request(input: &[u8]) {
    let Ok(target) = str::from_utf8(input) else {
        return;
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    match route(path, &RESOURCES) {
        Ok(Route::Objects(objects)) => {
            let again = path_of(&objects);
            let Ok(Route::Objects(found)) = route(&again, &RESOURCES) else {
                unreachable!("{again} is the path of objects");
            };
            assert_eq!(parts(&found), parts(&objects), "{again}");
        }
        Ok(_) => {}
        Err(failure) => assert!(failure.message.len() <= 4 * path.len() + ERROR_BYTES_MAX),
    }
    match Query::parse(query) {
        Ok(query) => select(query.label_selector.as_deref(), query.field_selector.as_deref()),
        Err(failure) => assert!(failure.message.len() <= 8 * query.len() + ERROR_BYTES_MAX),
    }
}

fn parts(target: &PathTarget) -> (String, &str, Option<&str>, Option<&str>, Option<Subresource>) {
    let PathTarget { resource, namespace, name, subresource } = target;
    let version = resource.api_version();
    (version, &resource.plural, namespace.as_deref(), name.as_deref(), *subresource)
}

fn path_of(target: &PathTarget) -> String {
    let PathTarget { resource, namespace, name, subresource } = target;
    let mut path = if resource.group.is_empty() { "/api" } else { "/apis" }.to_owned();
    let place = namespace.as_deref().map(|namespace| ["namespaces", namespace]);
    let steps = resource.api_version();
    let steps = steps.split('/').chain(place.into_iter().flatten());
    let steps = steps.chain([resource.plural.as_str()]).chain(name.as_deref());
    for step in steps.chain(subresource.map(Subresource::as_str)) {
        path.push('/');
        path.extend(utf8_percent_encode(step, NON_ALPHANUMERIC));
    }
    path
}

/// A selector selects what all of its terms select, and its terms can be read again.
fn select(labels: Option<&str>, fields: Option<&str>) {
    let read = Selector::parse(labels, fields).and_then(|own| own.among(&SELECTABLE));
    let Ok(selector) = read else {
        return;
    };
    for value in fuzz::values(&selector) {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let edge = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
        assert!(
            value.len() <= LABEL_CHARS_MAX
                && value.bytes().all(inner)
                && edge(value.bytes().next())
                && edge(value.bytes().last()),
            "no label has the value {value:?}"
        );
    }
    let (labels, fields) = fuzz::terms(&selector);
    let read = |labels: &str, fields: &str| {
        Selector::parse(Some(labels), Some(fields)).expect("a term can be read again")
    };
    // The terms may be longer than what was read.
    if labels.len() + fields.len() < 100 {
        assert_eq!(read(&labels.join(","), &fields.join(",")), selector);
    }
    let terms = labels.iter().map(|term| read(term, ""));
    let terms: Vec<Selector> = terms.chain(fields.iter().map(|term| read("", term))).collect();
    for object in &*OBJECTS {
        let all = terms.iter().all(|term| term.matches(object));
        assert_eq!(selector.matches(object), all, "{labels:?} {fields:?}");
    }
}
