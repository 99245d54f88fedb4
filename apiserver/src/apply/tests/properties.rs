//! Properties that hold for every sequence of writes, checked on a kind whose data merges by key.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{fields_of, writer};
use crate::apply::{apply, track_update};
use crate::resources::tests::schema_of;
use crate::schema::Schema;

static CONFIG_MAP: LazyLock<Arc<Schema>> = LazyLock::new(|| schema_of("ConfigMap", false));

/// Data and labels of a ConfigMap, which merge key by key.
fn config(keys: &'static str) -> impl Strategy<Value = Value> {
    let map = || proptest::collection::btree_map(keys, "[xyz]", 0..4);
    (map(), map()).prop_map(|(data, labels)| {
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "c", "labels": labels},
            "data": data,
        })
    })
}

/// The same without empty maps. The real server stores none, but gives them to who applies them: who
/// then applies the first key of the map conflicts with that.
fn full_config(keys: &'static str) -> impl Strategy<Value = Value> {
    config(keys).prop_map(|mut object| {
        for holder in ["/metadata", ""] {
            let fields = object.pointer_mut(holder).and_then(Value::as_object_mut).unwrap();
            fields.retain(|_, value| *value != json!({}));
        }
        object
    })
}

fn apply_config(live: Option<&Value>, object: &Value, manager: &str, second: i64) -> Value {
    apply(&CONFIG_MAP, (live, &json!({})), object, &writer(manager, second), false).unwrap()
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(first in config("[a-d]"), second in config("[a-d]")) {
        let live = apply_config(None, &first, "me", 1);
        let once = apply_config(Some(&live), &second, "me", 2);
        let twice = apply_config(Some(&once), &second, "me", 3);
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn what_one_manager_drops_is_gone_and_nothing_else(first in config("[a-d]"), second in config("[a-d]")) {
        let live = apply_config(None, &first, "me", 1);
        let result = apply_config(Some(&live), &second, "me", 2);
        let fresh = apply_config(None, &second, "me", 2);
        for field in ["data", "metadata"] {
            let mut result = result[field].clone();
            let mut fresh = fresh[field].clone();
            for object in [&mut result, &mut fresh] {
                if let Some(object) = object.as_object_mut() {
                    object.remove("managedFields");
                }
            }
            prop_assert_eq!(result, fresh);
        }
    }

    #[test]
    fn managers_of_different_fields_do_not_touch_each_other(
        mine in full_config("m[a-d]"),
        yours in full_config("y[a-d]"),
        mine_then in full_config("m[a-d]"),
    ) {
        let live = apply_config(None, &mine, "me", 1);
        let live = apply_config(Some(&live), &yours, "you", 2);
        let live = apply_config(Some(&live), &mine_then, "me", 3);
        for object in [&mine_then, &yours] {
            for (key, value) in object["data"].as_object().into_iter().flatten() {
                prop_assert_eq!(&live["data"][key], value);
            }
        }
        let data = |object: &Value| object["data"].as_object().map_or(0, serde_json::Map::len);
        prop_assert_eq!(data(&live), data(&mine_then) + data(&yours));
    }

    #[test]
    fn an_update_after_an_apply_owns_exactly_what_it_changed(mine in config("[a-d]"), next in config("[a-d]")) {
        let live = apply_config(None, &mine, "me", 1);
        let mut updated = next.clone();
        track_update(&CONFIG_MAP, Some(&live), &mut updated, &writer("you", 2));
        let changed = next["data"].as_object().unwrap().iter()
            .filter(|(key, value)| mine["data"].get(key.as_str()) != Some(value));
        for (key, _) in changed {
            let field = format!("f:{key}");
            prop_assert!(fields_of(&updated, "you")["f:data"].get(&field).is_some());
            prop_assert!(fields_of(&updated, "me")["f:data"].get(&field).is_none());
        }
    }
}
