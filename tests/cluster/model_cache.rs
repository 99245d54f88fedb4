//! A claim that keeps models, on a real node: the files of a model are fetched once.

use std::os::unix::fs::PermissionsExt as _;

use ebb_tests::binaries::source;
use ebb_tests::ebb::Ebb;
use ebb_tests::file_server::FileServer;
use ebb_tests::manifest::{digits_at, fetched_digits};
use serde_json::json;
use tempfile::TempDir;

/// A volume in a folder of the one node, which belongs to root, and a claim to it.
fn claim(node: &str, namespace: &str, folder: &TempDir) -> String {
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": format!("models-{namespace}")},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "storageClassName": "", "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": namespace, "name": "models"},
            "local": {"path": folder.path()},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]},
            ]}]}},
        },
    });
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "models"},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "volumeName": format!("models-{namespace}"),
            "resources": {"requests": {"storage": "1Gi"}},
        },
    });
    json!({"apiVersion": "v1", "kind": "List", "items": [volume, claim]}).to_string()
}

/// The classifier of digits with its model from the claim, as Pod Security `restricted` asks.
fn digits(name: &str, url: &str) -> String {
    let strict = "securityContext: {allowPrivilegeEscalation: false, runAsNonRoot: true, \
        capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}";
    fetched_digits(name, &digits_at(url), "serving.ebb.dev/model-cache: models", strict)
}

#[tokio::test]
async fn a_claim_keeps_a_model_for_later_starts_and_other_services() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let model = std::fs::read(source().join("examples/onnx/models/digits.onnx"))?;
    let Ok(server) = FileServer::start(ebb.gateway.ip(), "digits.onnx", model).await else {
        println!("left out: this machine is no node of the cluster");
        return Ok(());
    };
    let kubectl = ebb.kubectl();
    let namespace = ebb.api().await?.default_namespace;
    let strict = "pod-security.kubernetes.io/enforce=restricted";
    kubectl.ok(&["label", "namespace", &namespace, strict]).await?;
    let node = kubectl.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]).await?;
    let folder = TempDir::with_prefix("ebb-models-")?;
    // As on most storage: only its group, which the pods get, may write.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o770))?;
    kubectl.apply(&claim(node.trim(), &namespace, &folder)).await?;

    let outcome = starts_once(&ebb, &server).await;
    kubectl.ok(&["delete", "ksvc", "--all"]).await?;
    kubectl.ok(&["delete", "pv", "--wait=false", &format!("models-{namespace}")]).await?;
    outcome
}

async fn starts_once(ebb: &Ebb, server: &FileServer) -> anyhow::Result<()> {
    let kubectl = ebb.kubectl();
    kubectl.apply(&digits("first", &server.url())).await?;
    kubectl.wait_ready("first").await?;
    let ready = async |name: &str| ebb.client().get(&ebb.host(name), "/v2/models/digits").await;
    assert_eq!(ready("first").await?.status, 200);
    let fetched = server.requests();
    assert!(fetched > 0, "nobody asked for the model");
    kubectl.wait_asleep("first").await;
    assert_eq!(ready("first").await?.status, 200);
    kubectl.apply(&digits("second", &server.url())).await?;
    kubectl.wait_ready("second").await?;
    assert_eq!(ready("second").await?.status, 200);
    assert_eq!(server.requests(), fetched, "a model that is there was asked for");
    let logs = ["logs", "-l", "serving.knative.dev/service=second", "-c", "ebb-model"];
    println!("{}", kubectl.ok(&logs).await?);
    Ok(())
}
