use serde_json::{Value, json};

use super::*;

fn limits(amounts: &Value) -> Limits {
    let container = json!({"name": "c", "resources": {"limits": amounts}});
    Limits::of(&serde_json::from_value(container).expect("a container"))
}

#[test]
fn limits_are_read_as_kubelet_reads_them() {
    assert!(limits(&Value::Null).is_none());
    assert!(limits(&json!({"nvidia.com/gpu": "1"})).is_none());
    assert!(limits(&json!({"memory": "0", "cpu": "0"})).is_none());
    let both = limits(&json!({"memory": "64Mi", "cpu": "1500m"}));
    assert_eq!((both.memory_bytes, both.quota_us), (Some(64 << 20), Some(150_000)));
    assert_eq!(limits(&json!({"cpu": "1m"})).quota_us, Some(QUOTA_MIN_US), "no less is taken");
    assert_eq!(limits(&json!({"cpu": "1e30"})).quota_us, Some(u64::MAX));
}

#[test]
fn a_group_without_an_ebb_is_removed_and_no_other() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    // The number of no process: the kernel gives out none so large.
    let dead = format!("{PREFIX}{}", u32::MAX);
    let own = format!("{PREFIX}{}", process::id());
    let others = ["ebb-models", "other", &*own];
    for name in others {
        fs::create_dir(folder.path().join(name)).expect("it is ours");
    }
    for name in [format!("{dead}/a-model"), format!("{dead}-self")] {
        fs::create_dir_all(folder.path().join(name)).expect("it is ours");
    }
    sweep(folder.path());
    let left = fs::read_dir(folder.path()).expect("it is there").flatten();
    let mut left: Vec<_> = left.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    left.sort_unstable();
    let mut wanted = others.map(str::to_owned);
    wanted.sort_unstable();
    assert_eq!(left, wanted);
}

#[test]
fn where_no_group_can_be_made_the_reason_is_known() {
    let none = Limiter::none("because");
    assert_eq!(none.obstacle(), Some("because"));
    let limits = limits(&json!({"memory": "64Mi"}));
    assert!(none.group("a", limits).expect("nothing is tried").is_none());
    let missing = tempfile::tempdir().expect("a scratch folder").path().join("missing");
    let error = Trees::make(Place::Two(missing)).expect_err("there is no such group");
    assert!(error.to_string().contains("missing"), "{error}");
}
