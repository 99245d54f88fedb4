//! Programs that this machine cannot run, or only once.

use ebb_tests::ebb::Ebb;
use ebb_tests::manifest::{backend, service};

use crate::bad_input::broken;

#[tokio::test]
async fn an_image_without_a_command_says_what_to_do() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let manifest = backend("image", &[]).replace("command: [ebb-backend], ", "");
    let (reason, message) = broken(&ebb, "image", &manifest).await?;
    assert!(!reason.is_empty());
    assert!(message.contains("containers[0].command"), "{reason}: {message}");
    Ok(())
}

#[tokio::test]
async fn requests_that_wait_for_a_program_that_dies_fail_and_others_do_not() -> anyhow::Result<()> {
    let ebb = Ebb::start_quick().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(&backend("good", &[])).await?;
    // The program runs once and never again: the test removes the link before the next start.
    let once = ebb.data().join("runs-once");
    std::os::unix::fs::symlink(ebb_tests::binaries::binary("ebb-backend"), &once)?;
    let program = once.display().to_string();
    kubectl.apply(&service("once", &program, &[], "", "")).await?;
    kubectl.wait_ready("good").await?;
    kubectl.wait_ready("once").await?;
    ebb_tests::eventually("the service sleeps", || async {
        let scale = kubectl.field("rev/once-00001", "{.status.actualReplicas}").await.ok()?;
        (scale == "0").then_some(())
    })
    .await;
    std::fs::remove_file(&once)?;
    let (client, host) = (ebb.client(), ebb.host("once"));
    let waiting = client.get(&host, "/");
    let good_host = ebb.host("good");
    let (dead, alive) = tokio::join!(waiting, client.get(&good_host, "/"));
    let (dead, alive) = (dead?, alive?);
    assert_eq!(dead.status, 503, "{}", dead.text);
    assert!(dead.text.contains("ExitCode128"), "{}", dead.text);
    assert_eq!(alive.status, 200, "{}", alive.text);
    let healthy = r#"{.status.conditions[?(@.type=="ContainerHealthy")].reason}"#;
    ebb_tests::eventually("the revision says why", || async {
        let reason = kubectl.field("rev/once-00001", healthy).await.ok()?;
        (reason == "ExitCode128").then_some(())
    })
    .await;
    Ok(())
}
