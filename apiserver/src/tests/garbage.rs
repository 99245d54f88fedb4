//! Deletion: grace periods, finalizers, owners, namespaces.

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, Patch, PatchParams, PropagationPolicy};

use super::*;

/// A ConfigMap that `owner` owns.
fn owned(name: &str, owner: &ConfigMap, blocks: bool) -> ConfigMap {
    let mut object = config_map(name, &json!({}));
    object.metadata.owner_references = Some(vec![from(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "name": owner.metadata.name,
        "uid": owner.metadata.uid, "blockOwnerDeletion": blocks,
    }))]);
    object
}

async fn exists(client: &kube::Client, name: &str) -> bool {
    config_maps(client).get_opt(name).await.unwrap().is_some()
}

fn params(policy: PropagationPolicy) -> DeleteParams {
    DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() }
}

#[tokio::test(start_paused = true)]
async fn dependents_go_after_their_owner() {
    let (_server, client) = server();
    let owner = create(&client, &config_map("owner", &json!({}))).await;
    let child = create(&client, &owned("child", &owner, true)).await;
    create(&client, &owned("grandchild", &child, true)).await;
    settle().await;
    assert!(exists(&client, "grandchild").await);
    config_maps(&client).delete("owner", &DeleteParams::default()).await.unwrap();
    settle().await;
    assert!(!exists(&client, "child").await);
    assert!(!exists(&client, "grandchild").await);
}

#[tokio::test(start_paused = true)]
async fn in_the_foreground_dependents_go_before_their_owner() {
    let (_server, client) = server();
    let owner = create(&client, &config_map("owner", &json!({}))).await;
    let mut held = owned("child", &owner, true);
    held.metadata.finalizers = Some(vec!["example.com/held".into()]);
    create(&client, &held).await;
    let foreground = params(PropagationPolicy::Foreground);
    config_maps(&client).delete("owner", &foreground).await.unwrap();
    settle().await;
    assert!(exists(&client, "owner").await, "it waits for the child");
    let child = config_maps(&client).get("child").await.unwrap();
    assert!(child.metadata.deletion_timestamp.is_some());

    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    config_maps(&client).patch("child", &PatchParams::default(), &free).await.unwrap();
    settle().await;
    assert!(!exists(&client, "child").await);
    assert!(!exists(&client, "owner").await);
}

#[tokio::test(start_paused = true)]
async fn orphans_stay_without_their_owner() {
    let (_server, client) = server();
    let owner = create(&client, &config_map("owner", &json!({}))).await;
    create(&client, &owned("child", &owner, true)).await;
    let orphan = params(PropagationPolicy::Orphan);
    config_maps(&client).delete("owner", &orphan).await.unwrap();
    settle().await;
    assert!(!exists(&client, "owner").await);
    let child = config_maps(&client).get("child").await.unwrap();
    assert_eq!(child.metadata.owner_references, None);
}

#[tokio::test(start_paused = true)]
async fn a_dependent_goes_with_the_last_of_its_owners() {
    let (_server, client) = server();
    let one = create(&client, &config_map("one", &json!({}))).await;
    let two = create(&client, &config_map("two", &json!({}))).await;
    let mut child = owned("child", &one, false);
    let second = owned("child", &two, false).metadata.owner_references.unwrap();
    child.metadata.owner_references.as_mut().unwrap().extend(second);
    create(&client, &child).await;
    config_maps(&client).delete("one", &DeleteParams::default()).await.unwrap();
    settle().await;
    let left = config_maps(&client).get("child").await.unwrap().metadata.owner_references.unwrap();
    assert_eq!(left.len(), 1);
    config_maps(&client).delete("two", &DeleteParams::default()).await.unwrap();
    settle().await;
    assert!(!exists(&client, "child").await);
}

#[tokio::test(start_paused = true)]
async fn a_pod_stays_for_its_grace_period_until_its_runner_deletes_it() {
    let (_server, client) = server();
    let api = pods(&client);
    let mut placed = pod("p");
    placed.spec.as_mut().unwrap().node_name = Some("n".into());
    api.create(&PostParams::default(), &placed).await.unwrap();
    let marked = api.delete("p", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(7));
    assert!(api.get_opt("p").await.unwrap().is_some());
    let stale = DeleteParams::default().grace_period(0).preconditions(kube::api::Preconditions {
        uid: Some("another".into()),
        resource_version: None,
    });
    assert_eq!(status(api.delete("p", &stale).await).code, 409);
    api.delete("p", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert!(api.get_opt("p").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_namespace_takes_its_contents_along() {
    let (_server, client) = server();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let team: Namespace = from(json!({ "metadata": { "name": "team" } }));
    namespaces.create(&PostParams::default(), &team).await.unwrap();
    let inside: Api<ConfigMap> = Api::namespaced(client.clone(), "team");
    let mut held = config_map("a", &json!({}));
    held.metadata.finalizers = Some(vec!["example.com/held".into()]);
    inside.create(&PostParams::default(), &held).await.unwrap();

    namespaces.delete("team", &DeleteParams::default()).await.unwrap();
    settle().await;
    let phase = namespaces.get("team").await.unwrap().status.unwrap().phase;
    assert_eq!(phase.as_deref(), Some("Terminating"));
    let refused = inside.create(&PostParams::default(), &config_map("b", &json!({}))).await;
    assert_eq!(status(refused).code, 403);

    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    inside.patch("a", &PatchParams::default(), &free).await.unwrap();
    settle().await;
    assert!(namespaces.get_opt("team").await.unwrap().is_none());
    let kept = status(namespaces.delete("default", &DeleteParams::default()).await);
    assert_eq!(kept.code, 403);
}
