//! State that outlives the server.

use std::path::Path;
use std::pin::pin;

use futures::TryStreamExt as _;
use kube::api::{DeleteParams, Patch, PatchParams, WatchEvent, WatchParams};
use tempfile::TempDir;

use super::*;

pub(super) fn open(folder: &Path) -> Result<ApiServer, OpenError> {
    ApiServer::open(ApiOptions { storage: Storage::Folder(folder.to_owned()), ..options() })
}

#[tokio::test]
async fn objects_and_their_versions_survive_a_restart() {
    let folder = TempDir::new().unwrap();
    let server = open(folder.path()).unwrap();
    let client = server.client();
    create(&client, &config_map("a", &json!({}))).await;
    create(&client, &config_map("b", &json!({}))).await;
    let patch = Patch::Merge(json!({ "data": { "key": "patched" } }));
    let patched = config_maps(&client).patch("a", &PatchParams::default(), &patch).await.unwrap();
    config_maps(&client).delete("b", &DeleteParams::default()).await.unwrap();
    server.close().await;
    let late = config_map("c", &json!({}));
    let refused = status(config_maps(&client).create(&PostParams::default(), &late).await);
    assert_eq!(refused.code, 500, "a closed server takes no write");

    let server = open(folder.path()).unwrap();
    let client = server.client();
    assert_eq!(config_maps(&client).get("a").await.unwrap(), patched);
    assert!(config_maps(&client).get_opt("b").await.unwrap().is_none());
    let version = patched.metadata.resource_version.unwrap();
    let watch = config_maps(&client);
    let mut events = pin!(watch.watch(&WatchParams::default(), &version).await.unwrap());
    let Some(WatchEvent::Error(gone)) = events.try_next().await.unwrap() else {
        panic!("the changes before the restart are no longer known");
    };
    assert_eq!(gone.code, 410);
    let next = create(&client, &config_map("c", &json!({}))).await;
    let number = |version: Option<String>| version.unwrap().parse::<u64>().unwrap();
    assert!(number(next.metadata.resource_version) > version.parse().unwrap());
}

#[tokio::test]
async fn a_second_server_on_the_same_folder_is_refused() {
    let folder = TempDir::new().unwrap();
    let first = open(folder.path()).unwrap();
    let error = open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("is in use by another ebb"), "{error}");
    first.close().await;
    open(folder.path()).unwrap();
}

#[tokio::test]
async fn what_a_crash_left_half_collected_is_collected_at_the_next_start() {
    let folder = TempDir::new().unwrap();
    let server = open(folder.path()).unwrap();
    let client = server.client();
    let owner = create(&client, &config_map("owner", &json!({}))).await;
    let mut child = config_map("child", &json!({}));
    child.metadata.owner_references = Some(vec![from(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid,
    }))]);
    create(&client, &child).await;
    // No task runs between the deletion and the copy: the collector sees the deletion only after
    // the restart.
    let copy = TempDir::new().unwrap();
    config_maps(&client).delete("owner", &DeleteParams::default()).await.unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let again = open(copy.path()).unwrap();
    settle().await;
    assert!(config_maps(&again.client()).get_opt("child").await.unwrap().is_none());
}
