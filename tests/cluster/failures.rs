//! Pods that cannot be started: the Revision says why, in the words of the component that refused.

use ebb_tests::ebb::Ebb;
use ebb_tests::manifest::{backend, image, service};

/// Deploys a service whose pods cannot run. Returns reason and message of the Revision's Ready
/// condition.
async fn refused(ebb: &Ebb, name: &str, manifest: &str) -> anyhow::Result<(String, String)> {
    let kubectl = ebb.kubectl();
    kubectl.apply(manifest).await?;
    kubectl.wait_failed(name).await
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_named() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let own = image("ebb-backend");
    let absent = own.replace("ebb-backend", "no-such-image");
    let manifest = backend("absent", &[]).replace(&own, &absent);
    let (reason, message) = refused(&ebb, "absent", &manifest).await?;
    assert!(["ErrImagePull", "ImagePullBackOff"].contains(&reason.as_str()), "{reason}: {message}");
    assert!(message.contains("no-such-image"), "{message}");
    Ok(())
}

#[tokio::test]
async fn an_unschedulable_pod_names_the_missing_resource() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let resources = "resources: {requests: {cpu: \"1000\"}}, command";
    let manifest = backend("huge", &[]).replace("command", resources);
    let (reason, message) = refused(&ebb, "huge", &manifest).await?;
    assert_eq!(reason, "Unschedulable", "{message}");
    assert!(message.contains("Insufficient cpu"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_quota_that_forbids_the_pod_is_named() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let quota = "{apiVersion: v1, kind: ResourceQuota, metadata: {name: none}, \
                 spec: {hard: {pods: 0}}}";
    ebb.kubectl().apply(quota).await?;
    let (_, message) = refused(&ebb, "over", &backend("over", &[])).await?;
    assert!(message.contains("exceeded quota: none"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_container_that_takes_too_much_memory_is_said_to_have_been_killed() -> anyhow::Result<()>
{
    let ebb = Ebb::start().await?;
    let resources = "resources: {limits: {memory: 32Mi}}, command";
    let manifest = service("greedy", "ebb-backend", &["--hold-mib", "256"], "", "");
    let manifest = manifest.replace("command", resources);
    let (reason, message) = refused(&ebb, "greedy", &manifest).await?;
    assert!(reason == "ExitCode137" && message.contains("OOMKilled"), "{reason}: {message}");
    Ok(())
}
