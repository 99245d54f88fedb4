//! The address that a service has inside the cluster, asked from a pod.

use ebb_tests::ebb::Ebb;
use ebb_tests::eventually;
use ebb_tests::manifest::{backend, image};

#[tokio::test]
async fn a_pod_reaches_a_sleeping_service_by_its_name() -> anyhow::Result<()> {
    let ebb = Ebb::start_quick().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(&backend("hello", &[])).await?;
    kubectl.wait_ready("hello").await?;
    kubectl.wait_asleep("hello").await;
    let namespace = kubectl.ok(&["config", "view", "--minify", "-o", "jsonpath={..namespace}"]);
    let namespace = namespace.await?;
    let url = format!("http://hello.{namespace}.svc.cluster.local/from-inside");
    let image = image("ebb-backend");
    let run = ["run", "asker", "--restart=Never", "--image", &image, "--", "--ask", &url];
    kubectl.ok(&run).await?;
    let said = eventually("the pod was answered", || async {
        let logs = kubectl.ok(&["logs", "asker"]).await.ok()?;
        logs.contains("/from-inside").then_some(logs)
    })
    .await;
    assert!(said.contains("hello-00001"), "{said}");
    Ok(())
}
