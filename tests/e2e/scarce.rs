//! Two models, and a device for one.

use std::sync::Arc;

use ebb_tests::ebb::Ebb;
use ebb_tests::eventually;
use ebb_tests::manifest::image;
use tempfile::TempDir;

/// A device that no node has by itself.
const DEVICE: &str = "example.com/slot";

/// An Ebb on a machine with one such device: of local mode's own, or patched into the node's status.
async fn start() -> anyhow::Result<Ebb> {
    if !Ebb::is_on_cluster() {
        let folder = Arc::new(TempDir::with_prefix("ebb-test-")?);
        return Ebb::start_in(folder, &["--devices", &format!("{DEVICE}=1")]).await;
    }
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    let node = kubectl.ok(&["get", "nodes", "-o", "name"]).await?;
    let node = node.trim();
    let capacity = format!(r#"{{"status":{{"capacity":{{"{DEVICE}":"1"}}}}}}"#);
    kubectl.ok(&["patch", node, "--subresource=status", "--type=merge", "-p", &capacity]).await?;
    eventually("kubelet offers the device", || async {
        let path = "{.status.allocatable.example\\.com/slot}";
        (kubectl.field(node, path).await.ok()? == "1").then_some(())
    })
    .await;
    Ok(ebb)
}

/// A model that needs the device, and would stay awake for ten minutes.
fn model(name: &str) -> String {
    let image = image("ebb-backend");
    format!(
        "apiVersion: serving.knative.dev/v1
kind: Service
metadata: {{name: {name}}}
spec:
  template:
    metadata: {{annotations: {{autoscaling.knative.dev/window: 10m}}}}
    spec:
      containers:
        - image: {image}
          command: [ebb-backend]
          resources: {{limits: {{{DEVICE}: \"1\"}}}}
"
    )
}

#[tokio::test]
async fn two_models_take_turns_at_one_device() -> anyhow::Result<()> {
    let ebb = start().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(&model("first")).await?;
    kubectl.wait_ready("first").await?;
    // Its first pod finds no device, until the idle one lets go of it.
    kubectl.apply(&model("second")).await?;
    kubectl.wait_ready("second").await?;
    // Its object may outlive its processes, which have given the device back, by a moment.
    kubectl.wait_asleep("first").await;
    let client = ebb.client();
    for round in 0..3 {
        for name in ["first", "second"] {
            let answer = client.get(&ebb.host(name), "/").await?;
            assert_eq!(answer.status, 200, "{name}, round {round}: {}", answer.text);
        }
    }
    // One that asks for more than there is fails, and says why; it holds nobody up.
    let greedy = model("greedy").replace("slot: \"1\"", "slot: \"2\"");
    kubectl.apply(&greedy).await?;
    let (_, message) = kubectl.wait_failed("greedy").await?;
    assert!(message.contains(DEVICE), "{message}");
    let answer = client.get(&ebb.host("first"), "/").await?;
    assert_eq!(answer.status, 200, "{}", answer.text);
    Ok(())
}
