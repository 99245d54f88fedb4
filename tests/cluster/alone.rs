//! Activators when no autoscaler is left to decide.

use ebb_tests::ebb::Ebb;
use ebb_tests::eventually;
use ebb_tests::kubectl::Kubectl;
use ebb_tests::manifest::backend;

const AUTOSCALERS: [&str; 4] = ["-n", "knative-serving", "deployment/ebb-autoscaler", "-o"];

/// Scales the autoscaler's Deployment.
async fn scale(kubectl: &Kubectl, replicas: &str) -> anyhow::Result<()> {
    let scale = ["-n", "knative-serving", "scale", "--replicas", replicas];
    kubectl.ok(&[&scale[..], &["deployment/ebb-autoscaler"]].concat()).await.map(drop)
}

/// Waits until no pod of an autoscaler is left.
async fn gone(kubectl: &Kubectl) {
    let selector = "app.kubernetes.io/component=autoscaler";
    let pods = ["get", "pods", "-n", "knative-serving", "-l", selector, "-o", "name"];
    eventually("no autoscaler is left", || async {
        kubectl.ok(&pods).await.ok().filter(|pods| pods.trim().is_empty()).map(drop)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_request_is_served_although_no_autoscaler_is_left() -> anyhow::Result<()> {
    let ebb = Ebb::start_quick().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(&backend("alone", &[])).await?;
    kubectl.wait_ready("alone").await?;
    kubectl.wait_asleep("alone").await;
    let path = [&["get"][..], &AUTOSCALERS, &["jsonpath={.spec.replicas}"]].concat();
    let replicas = kubectl.ok(&path).await?;
    let asked = async {
        scale(&kubectl, "0").await?;
        gone(&kubectl).await;
        ebb.client().get(&ebb.host("alone"), "/").await
    };
    let asked = asked.await;
    // Whatever the outcome: other tests need the autoscalers.
    scale(&kubectl, replicas.trim()).await?;
    let answer = asked?;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let asks_for = kubectl.field("rev/alone-00001", "{.status.desiredReplicas}").await?;
    assert_eq!(asks_for, "1", "to the initial scale and never more");
    // The autoscalers that come back put the service to sleep again.
    kubectl.wait_asleep("alone").await;
    Ok(())
}
