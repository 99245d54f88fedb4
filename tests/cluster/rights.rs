//! Changes that Ebb's own accounts are refused, though RBAC alone would allow them.

use anyhow::Context as _;
use ebb_tests::ebb::Ebb;
use ebb_tests::manifest::service;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

const AUTOSCALER: &str = "system:serviceaccount:knative-serving:ebb-autoscaler";
const CONTROLLER: &str = "system:serviceaccount:knative-serving:ebb-controller";
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const ASLEEP: &str = "serving.ebb.dev/asleep";

/// A client that impersonates `user`, and its default namespace.
async fn client_as(ebb: &Ebb, user: &str) -> anyhow::Result<(Client, String)> {
    let mut config = ebb.api().await?;
    config.auth_info.impersonate = Some(user.to_owned());
    let namespace = config.default_namespace.clone();
    Ok((Client::try_from(config)?, namespace))
}

/// Without the policy the holder of the autoscaler's token could run any image in every pod.
#[tokio::test]
async fn the_autoscaler_marks_pods_and_changes_nothing_else_of_them() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let awake = "autoscaling.knative.dev/min-scale: \"1\"";
    ebb.kubectl().apply(&service("hello", "ebb-backend", &[], awake, "")).await?;
    ebb.kubectl().wait_ready("hello").await?;
    let (client, namespace) = client_as(&ebb, AUTOSCALER).await?;
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let pod = pods.list(&ListParams::default()).await?.items.pop().context("no pod")?;
    let name = pod.metadata.name.context("no name")?;
    let patch = async |change: Value| {
        pods.patch(&name, &PatchParams::default(), &Patch::Strategic(change)).await
    };
    for (change, said) in [
        (
            json!({"spec": {"containers": [{"name": "user-container", "image": "other"}]}}),
            "no pod's spec",
        ),
        (json!({"spec": {"activeDeadlineSeconds": 1}}), "no pod's spec"),
        (json!({"metadata": {"labels": {"serving.knative.dev/revision": "other"}}}), "no labels"),
        (json!({"metadata": {"labels": null}}), "no labels"),
        (json!({"metadata": {"finalizers": ["example.com/kept"]}}), "no labels"),
        (json!({"metadata": {"annotations": {"other": "1"}}}), "no annotation"),
        (json!({"metadata": {"annotations": {COST: "1", "other": "1"}}}), "no annotation"),
    ] {
        let error = patch(change.clone()).await.err().context("it was taken")?.to_string();
        assert!(error.contains("ebb-autoscaler-pods") && error.contains(said), "{change}: {error}");
    }
    for mark in [COST, ASLEEP] {
        for value in [json!("-1000"), json!("7"), json!(null)] {
            let marked = patch(json!({"metadata": {"annotations": {mark: value}}})).await?;
            let annotations = marked.metadata.annotations.unwrap_or_default();
            assert_eq!(annotations.get(mark).map(String::as_str), value.as_str());
        }
    }
    // The policy applies to the autoscaler alone.
    ebb.kubectl().ok(&["annotate", "pod", &name, "other=1"]).await?;
    Ok(())
}

/// Without the policy the holder of the controller's token could cut off every Service.
#[tokio::test]
async fn the_controller_changes_and_deletes_no_service_but_those_of_routes() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    ebb.kubectl().apply(&service("hello", "ebb-backend", &[], "", "")).await?;
    ebb.kubectl().wait_ready("hello").await?;
    let (client, namespace) = client_as(&ebb, CONTROLLER).await?;
    let services: Api<Service> = Api::namespaced(client, &namespace);
    let other = json!({"metadata": {"name": "other"}, "spec": {"ports": [{"port": 80}]}});
    services.create(&PostParams::default(), &serde_json::from_value(other)?).await?;
    let refused = services.delete("other", &DeleteParams::default()).await.err();
    let owner = json!({"metadata": {"labels": {"serving.knative.dev/route": "hello"}}});
    let patch = Patch::Merge(owner);
    let unchanged = services.patch("other", &PatchParams::default(), &patch).await.err();
    for refused in [refused, unchanged] {
        let refused = refused.context("it was taken")?.to_string();
        assert!(refused.contains("no Service but those of Routes"), "{refused}");
    }
    let dry = DeleteParams { dry_run: true, ..DeleteParams::default() };
    services.delete("hello", &dry).await?;
    Ok(())
}
