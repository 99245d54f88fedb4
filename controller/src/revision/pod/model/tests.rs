use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;

const SOURCE: &str = "hf://org/name/x.gguf";

fn files(notes: &[(&str, &str)]) -> ModelFiles {
    let named =
        |(name, value): &(&str, &str)| (format!("serving.ebb.dev/{name}"), (*value).to_owned());
    ModelFiles::of(Some(&notes.iter().map(named).collect())).expect("right").expect("a model")
}

fn cluster(image: &str, networks: &[&str]) -> ModelFetcher {
    let networks = networks.iter().map(|text| (*text).to_owned()).collect();
    ModelFetcher::Cluster(ClusterFetcher { image: image.to_owned(), networks })
}

fn local(can_mount: bool) -> ModelFetcher {
    ModelFetcher::Local(LocalFetcher {
        program: PathBuf::from("/bin/ebb"),
        cache: PathBuf::from("/cache"),
        limit: 1 << 30,
        networks: Vec::new(),
        can_mount,
    })
}

fn written() -> PodSpec {
    let pod = json!({
        "containers": [{"name": "a", "env": [{"name": "ARGS", "value": "$(EBB_MODEL)"}]}, {"name": "b"}],
        "initContainers": [{"name": "own"}],
    });
    serde_json::from_value(pod).expect("a pod")
}

fn added(
    files: &ModelFiles,
    fetcher: Option<&ModelFetcher>,
    known: Option<&PodSpec>,
) -> Result<PodSpec, String> {
    let mut pod = written();
    add(&mut pod, files, fetcher, known).map(|()| pod)
}

fn shown(pod: &PodSpec) -> Value {
    serde_json::to_value(pod).expect("JSON")
}

#[test]
fn a_cluster_fetches_into_a_folder_of_the_pod() {
    let files = files(&[("model", SOURCE), ("model-secret", "hub")]);
    let pod = added(&files, Some(&cluster("fetch:1", &["10.0.0.0/8"])), None).expect("a pod");
    let shown = shown(&pod);
    assert_eq!(shown["volumes"], json!([{"name": "ebb-model", "emptyDir": {}}]));
    let init = &shown["initContainers"][0];
    assert_eq!(init["name"], "ebb-model");
    let key = files.source.key();
    assert_eq!(
        init["args"],
        json!(["--cache", "/mnt/cache", "--key", key, "--allow-network", "10.0.0.0/8"])
    );
    assert_eq!(
        init["env"],
        json!([
            {"name": "EBB_MODEL_SOURCE", "value": "hf://org/name@main/x.gguf"},
            {"name": "EBB_TERMINATION_LOG", "value": "/dev/termination-log"},
        ])
    );
    assert_eq!(init["envFrom"], json!([{"secretRef": {"name": "hub"}}]));
    assert_eq!(init["volumeMounts"], json!([{"name": "ebb-model", "mountPath": "/mnt/cache"}]));
    assert_eq!(init["securityContext"]["runAsNonRoot"], true);
    assert_eq!(shown["initContainers"][1]["name"], "own");
    assert_eq!(shown["securityContext"], Value::Null);
    for container in [&shown["containers"][0], &shown["containers"][1]] {
        assert_eq!(
            container["env"][0],
            json!({"name": "EBB_MODEL", "value": "/mnt/models/x.gguf"})
        );
        assert_eq!(
            container["volumeMounts"],
            json!([{"name": "ebb-model", "mountPath": "/mnt/models", "readOnly": true,
                    "subPath": files.source.key()}])
        );
    }
}

#[test]
fn a_claim_keeps_files_and_is_shared_with_the_account_that_writes_it() {
    let files = files(&[("model", "hf://org/name"), ("model-cache", "models")]);
    let pod = added(&files, Some(&cluster("fetch:1", &[])), None).expect("a pod");
    let shown = shown(&pod);
    assert_eq!(
        shown["volumes"][0],
        json!({"name": "ebb-model", "persistentVolumeClaim": {"claimName": "models"}})
    );
    assert_eq!(
        shown["securityContext"],
        json!({"fsGroup": 65532, "fsGroupChangePolicy": "OnRootMismatch"})
    );
    assert_eq!(shown["containers"][0]["env"][0]["value"], "/mnt/models");
}

#[test]
fn neither_an_upgrade_nor_a_setting_changes_pods_that_exist() {
    let files = files(&[("model", SOURCE)]);
    let before = added(&files, Some(&cluster("fetch:1", &[])), None).expect("a pod");
    let newer = cluster("fetch:2", &["10.0.0.0/8"]);
    assert_eq!(added(&files, Some(&newer), Some(&before)), Ok(before.clone()));
    assert_ne!(added(&files, Some(&newer), None), Ok(before.clone()));
    let other = self::files(&[("model", "hf://org/other")]);
    let pod = added(&other, Some(&newer), Some(&before)).expect("a pod");
    assert_eq!(shown(&pod)["initContainers"][0]["image"], "fetch:2");
}

#[test]
fn local_mode_fetches_into_its_cache() {
    let files = files(&[("model", SOURCE)]);
    let key = files.source.key();
    let pod = added(&files, Some(&local(true)), None).expect("a pod");
    let mounted = shown(&pod);
    let init = &mounted["initContainers"][0];
    assert_eq!(init["command"], json!(["/bin/ebb"]));
    assert_eq!(
        init["args"],
        json!(["fetch", "--cache", "/cache", "--key", key, "--limit", "1073741824"])
    );
    let path = format!("/cache/{key}");
    assert_eq!(mounted["volumes"], json!([{"name": "ebb-model", "hostPath": {"path": path}}]));
    assert_eq!(
        mounted["containers"][0]["volumeMounts"],
        json!([{"name": "ebb-model", "mountPath": "/mnt/models", "readOnly": true}])
    );

    let bare = shown(&added(&files, Some(&local(false)), None).expect("a pod"));
    assert_eq!(bare["containers"][0]["env"][0]["value"], format!("{path}/x.gguf"));
    assert_eq!(
        (&bare["volumes"], &bare["containers"][0]["volumeMounts"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn files_of_this_machine_are_mounted_under_their_name() {
    for (source, at) in [
        ("file:///data/x.gguf", "/mnt/models/x.gguf"),
        ("file:///data/x", "/mnt/models/x"),
        ("file:///data/x/", "/mnt/models"),
    ] {
        let files = files(&[("model", source)]);
        let pod = shown(&added(&files, Some(&local(true)), None).expect("a pod"));
        assert_eq!(pod["initContainers"].as_array().map(Vec::len), Some(1), "only its own");
        assert_eq!(pod["containers"][0]["volumeMounts"][0]["mountPath"], at);
        assert_eq!(pod["containers"][0]["env"][0]["value"], at);
        let bare = shown(&added(&files, Some(&local(false)), None).expect("a pod"));
        assert_eq!(bare["containers"][0]["env"][0]["value"], source.trim_start_matches("file://"));
    }
}

#[test]
fn nothing_of_a_url_is_expanded_or_shown_to_the_machine() {
    let url = "https://h/x?price=$(SECRET)$1";
    let pod = shown(&added(&files(&[("model", url)]), Some(&local(true)), None).expect("a pod"));
    let init = &pod["initContainers"][0];
    assert_eq!(init["env"][0]["value"], "https://h/x?price=$$(SECRET)$$1");
    assert!(!init["args"].to_string().contains("SECRET"), "{init}");
}

#[test]
fn the_init_container_asks_for_what_the_model_asks_for() {
    let mut pod = written();
    let amounts = json!({"requests": {"cpu": "1"},
        "limits": {"cpu": "1", "memory": "2Gi", "nvidia.com/gpu": "1"}});
    pod.containers[0].resources = serde_json::from_value(amounts).expect("resources");
    let fetcher = cluster("fetch:1", &[]);
    add(&mut pod, &files(&[("model", SOURCE)]), Some(&fetcher), None).expect("added");
    assert_eq!(
        shown(&pod)["initContainers"][0]["resources"],
        json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1", "memory": "2Gi"}})
    );
}

#[test]
fn the_authors_own_variable_stays() {
    let mut pod = written();
    let own = variable(VARIABLE, "mine".to_owned());
    pod.containers[0].env = Some(vec![own]);
    add(&mut pod, &files(&[("model", SOURCE)]), Some(&local(true)), None).expect("added");
    assert_eq!(
        shown(&pod)["containers"][0]["env"],
        json!([{"name": "EBB_MODEL", "value": "mine"}])
    );
}

#[test]
fn what_cannot_be_fetched_here_says_what_to_do() {
    let plain = files(&[("model", SOURCE)]);
    let claimed = files(&[("model", SOURCE), ("model-cache", "models")]);
    let file = files(&[("model", "file:///x")]);
    for (files, fetcher, told) in [
        (&plain, None, NO_FETCHER),
        (&claimed, Some(local(true)), NO_CLAIM),
        (&file, Some(cluster("fetch:1", &[])), NO_FILE),
    ] {
        assert_eq!(added(files, fetcher.as_ref(), None), Err(told.to_owned()));
    }
}
