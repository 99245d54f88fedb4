//! The webhooks, asked by a real API server.

use ebb_tests::ebb::Ebb;
use ebb_tests::manifest::backend;

#[tokio::test]
async fn a_setting_that_cannot_be_used_is_refused_when_it_is_written() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let patch = r#"{"data":{"stable-window":"5 apples"}}"#;
    let system = ["-n", "knative-serving", "patch", "configmap", "config-autoscaler"];
    let arguments = [&system[..], &["--type", "merge", "-p", patch]].concat();
    let said = ebb.kubectl().fails(&arguments, None).await?;
    assert!(
        said.contains("config.webhook.serving.knative.dev") && said.contains("5 apples"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn creator_and_last_modifier_of_a_service_are_recorded() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(&backend("owned", &[])).await?;
    let creator = r"{.metadata.annotations.serving\.knative\.dev/creator}";
    assert!(!kubectl.field("ksvc/owned", creator).await?.is_empty());
    let patch = r#"{"metadata":{"annotations":{"serving.knative.dev/creator":"somebody"}}}"#;
    let change = ["patch", "ksvc", "owned", "--type", "merge", "-p", patch];
    let said = kubectl.fails(&change, None).await?;
    assert!(said.contains("annotation value is immutable"), "{said}");
    Ok(())
}
