use serde_json::{Value, json};

use super::*;
use crate::resources::tests::schema_of;

fn patched(target: &Value, patch: &Value) -> Value {
    let mut result = target.clone();
    strategic(&schema_of("Pod", false), &mut result, patch).unwrap();
    result
}

fn pod(containers: &Value) -> Value {
    json!({"spec": {"containers": containers}})
}

#[test]
fn a_json_patch_is_done_whole_or_not_at_all() {
    let mut target = json!({"a": 1});
    let fails = json!([
        {"op": "replace", "path": "/a", "value": 2},
        {"op": "test", "path": "/a", "value": 3},
    ]);
    assert!(matches!(json(&mut target, &fails), Err(PatchError::Inapplicable(_))));
    assert_eq!(target, json!({"a": 1}));
    json(&mut target, &json!([{"op": "add", "path": "/b", "value": [1]}])).unwrap();
    assert_eq!(target, json!({"a": 1, "b": [1]}));
    for malformed in [json!({"op": "add"}), json!([1])] {
        assert!(matches!(json(&mut target, &malformed), Err(PatchError::Malformed(_))));
    }
    for unknown in [json!([{"op": "jump", "path": "/a"}]), json!([{"op": "add", "path": "/a"}])] {
        assert!(matches!(json(&mut target, &unknown), Err(PatchError::Inapplicable(_))));
    }
    let many = Value::Array(vec![json!({"op": "test", "path": "/a", "value": 1}); 10_001]);
    assert!(matches!(json(&mut target, &many), Err(PatchError::Malformed(_))));
}

/// Each copy doubles the result of the one before.
#[test]
fn copies_and_moves_are_bounded_by_what_they_carry() {
    let mut target = json!({"a": "x".repeat(1_000)});
    let doubling = |times: usize| {
        let copies =
            (0..times).map(|at| json!({"op": "copy", "from": "", "path": format!("/b{at}")}));
        Value::Array(copies.collect())
    };
    let before = target.clone();
    assert!(matches!(json(&mut target, &doubling(60)), Err(PatchError::Inapplicable(_))));
    assert_eq!(target, before);
    json(&mut target, &doubling(3)).unwrap();
    assert!(target.to_string().len() > 8_000);
    let moves = [
        json!({"op": "move", "from": "/a", "path": "/c"}),
        json!({"op": "move", "from": "/c", "path": "/a"}),
    ];
    json(&mut target, &Value::Array(moves.to_vec())).unwrap();
    let many = Value::Array(moves.iter().cycle().take(4_000).cloned().collect());
    assert!(matches!(json(&mut target, &many), Err(PatchError::Inapplicable(_))));
}

/// Moves and copies into each other could nest an object so deep that reading it ended the process.
#[test]
fn no_patch_nests_an_object_too_deep() {
    let mut target = json!({"a": 1});
    let wrap = [
        json!({"op": "add", "path": "/b", "value": {}}),
        json!({"op": "move", "from": "/a", "path": "/b/a"}),
        json!({"op": "move", "from": "/b", "path": "/a"}),
    ];
    let wraps = |times: usize| Value::Array(wrap.iter().cycle().take(3 * times).cloned().collect());
    json(&mut target, &wraps(90)).unwrap();
    let before = target.clone();
    assert!(matches!(json(&mut target, &wraps(20)), Err(PatchError::Inapplicable(_))));
    assert_eq!(target, before);
    let copies = json!([
        {"op": "copy", "from": "", "path": "/c"},
        {"op": "copy", "from": "", "path": "/c/a/c"},
        {"op": "copy", "from": "", "path": "/c/a/c/a/c"},
        {"op": "copy", "from": "", "path": "/c/a/c/a/c/a/c"},
    ]);
    assert!(matches!(json(&mut target, &copies), Err(PatchError::Inapplicable(_))));
}

#[test]
fn a_field_that_is_not_there_is_null_to_a_json_patch() {
    let mut target = json!({"a": 1, "list": []});
    let patch = json!([
        {"op": "replace", "path": "/b", "value": 2},
        {"op": "copy", "from": "/none", "path": "/c"},
        {"op": "test", "path": "/none", "value": null},
    ]);
    json(&mut target, &patch).unwrap();
    assert_eq!(target, json!({"a": 1, "b": 2, "c": null, "list": []}));
    for unfit in [
        json!([{"op": "replace", "path": "/none/b", "value": 2}]),
        json!([{"op": "replace", "path": "/list/0", "value": 2}]),
        json!([{"op": "move", "from": "/none", "path": "/b"}]),
        json!([{"op": "remove", "path": "/none"}]),
        json!([{"op": "test", "path": "/none", "value": 1}]),
    ] {
        assert!(matches!(json(&mut target, &unfit), Err(PatchError::Inapplicable(_))), "{unfit}");
    }
}

#[test]
fn a_merge_patch_removes_with_null_and_replaces_lists() {
    let mut target = json!({"a": {"b": 1, "c": 2}, "list": [1, 2]});
    merge(&mut target, &json!({"a": {"b": null}, "list": [3]})).unwrap();
    assert_eq!(target, json!({"a": {"c": 2}, "list": [3]}));
    assert!(matches!(merge(&mut target, &json!([])), Err(PatchError::Malformed(_))));
}

#[test]
fn items_merge_by_their_key() {
    let target = pod(&json!([
        {"name": "a", "image": "1", "env": [{"name": "X", "value": "x"}]},
        {"name": "b", "image": "2"},
    ]));
    let patch = pod(&json!([
        {"name": "c", "image": "3"},
        {"name": "a", "env": [{"name": "Y", "value": "y"}, {"name": "X", "value": "z"}]},
    ]));
    assert_eq!(
        patched(&target, &patch),
        pod(&json!([
            {"name": "c", "image": "3"},
            {"name": "a", "image": "1", "env": [{"name": "Y", "value": "y"}, {"name": "X", "value": "z"}]},
            {"name": "b", "image": "2"},
        ]))
    );
}

#[test]
fn ports_merge_by_number_alone() {
    let target = pod(&json!([{"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]));
    let patch = pod(&json!([{"name": "a", "ports": [{"containerPort": 80, "name": "http"}]}]));
    assert_eq!(
        patched(&target, &patch),
        pod(&json!([
            {"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP", "name": "http"}]},
        ]))
    );
}

#[test]
fn directives_delete_replace_and_retain() {
    let target = json!({
        "metadata": {"labels": {"a": "1"}, "finalizers": ["x", "y"]},
        "spec": {
            "containers": [{"name": "a"}, {"name": "b"}],
            "securityContext": {"runAsUser": 1},
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
    });
    let patch = json!({
        "metadata": {
            "labels": {"$patch": "replace", "b": "2"},
            "$deleteFromPrimitiveList/finalizers": ["x"],
            "finalizers": ["z", "y"],
        },
        "spec": {
            "containers": [{"name": "a", "$patch": "delete"}],
            "securityContext": {"$patch": "delete"},
            "volumes": [{"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "c"}}],
        },
    });
    assert_eq!(
        patched(&target, &patch),
        json!({
            "metadata": {"labels": {"b": "2"}, "finalizers": ["z", "y"]},
            "spec": {
                "containers": [{"name": "b"}],
                "volumes": [{"name": "v", "configMap": {"name": "c"}}],
            },
        })
    );
    let replace = json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "z"}]}});
    assert_eq!(patched(&target, &replace)["spec"]["containers"], json!([{"name": "z"}]));
}

#[test]
fn the_order_that_the_client_saw_is_kept() {
    let target = pod(&json!([{"name": "server"}, {"name": "a"}, {"name": "b"}]));
    let patch = json!({"spec": {
        "$setElementOrder/containers": [{"name": "c"}, {"name": "b"}, {"name": "a"}, {"name": "gone"}],
        "containers": [{"name": "c"}],
    }});
    let result = patched(&target, &patch);
    let names: Vec<&str> = result["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|container| container["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["c", "server", "b", "a"]);
    let contrary = json!({"spec": {
        "$setElementOrder/containers": [{"name": "a"}, {"name": "b"}],
        "containers": [{"name": "b"}, {"name": "a"}],
    }});
    let refused = strategic(&schema_of("Pod", false), &mut target.clone(), &contrary);
    assert!(matches!(refused, Err(PatchError::Malformed(_))));
}

#[test]
fn a_patch_that_is_malformed_changes_nothing() {
    let before = pod(&json!([{"name": "a"}]));
    for patch in [
        json!("text"),
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"image": "i"}]}}),
        json!({"spec": {"containers": ["a"]}}),
        json!({"spec": {"containers": [{"name": null}]}}),
        json!({"spec": {"containers": [{"name": {"a": "b"}}]}}),
        json!({"spec": {"$patch": "explode"}}),
        json!({"spec": {"$retainKeys": 1}}),
    ] {
        let mut target = before.clone();
        let result = strategic(&schema_of("Pod", false), &mut target, &patch);
        assert!(matches!(result, Err(PatchError::Malformed(_))), "{patch}");
        assert_eq!(target, before);
    }
}
