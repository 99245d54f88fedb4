//! Wrong manifests are refused with Knative's words and nothing is stored; for programs that cannot
//! run the Revision says why.

use ebb_tests::ebb::Ebb;
use ebb_tests::kubectl::Kubectl;
use ebb_tests::manifest::{backend, image, service};

/// Applies a manifest that must be refused with all of `words`, leaving nothing behind.
async fn refused(kubectl: &Kubectl, manifest: &str, words: &[&str]) -> anyhow::Result<()> {
    let said = kubectl.fails(&["apply", "-f", "-"], Some(manifest)).await?;
    for word in words {
        assert!(said.contains(word), "{word:?} is missing: {said}");
    }
    assert_eq!(kubectl.ok(&["get", "ksvc,cfg,rt,rev", "-o", "name"]).await?, "");
    Ok(())
}

#[tokio::test]
async fn a_wrong_manifest_is_refused_with_the_fields_path() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    let good = backend("bad", &[]);
    refused(
        &kubectl,
        &good.replace("image:", "imgae: x, image:"),
        &["strict decoding error: unknown field \"spec.template.spec.containers[0].imgae\""],
    )
    .await?;
    refused(
        &kubectl,
        &service("bad", "ebb-backend", &[], "", "containerConcurrency: many"),
        &["spec.template.spec.containerConcurrency: invalid type: string \"many\""],
    )
    .await?;
    let annotation = r#"autoscaling.knative.dev/min-scale: "lots""#;
    refused(
        &kubectl,
        &service("bad", "ebb-backend", &[], annotation, ""),
        &[
            "admission webhook \"validation.webhook.serving.knative.dev\" denied the request: \
         validation failed: ",
            "invalid value: lots: \
         spec.template.metadata.annotations.autoscaling.knative.dev/min-scale",
        ],
    )
    .await?;
    let limit = service("bad", "ebb-backend", &[], "", "containerConcurrency: -1");
    refused(
        &kubectl,
        &limit,
        &["expected 0 <= -1 <= 1000: spec.template.spec.containerConcurrency"],
    )
    .await?;
    let traffic = format!("{good}  traffic: [{{latestRevision: true, percent: 99}}]\n");
    refused(&kubectl, &traffic, &["Traffic targets sum to 99, want 100: spec.traffic"]).await?;
    let unnamed = good.replace(&format!("image: {}, ", image("ebb-backend")), "");
    refused(&kubectl, &unnamed, &["missing field(s): spec.template.spec.containers[0].image"]).await
}

/// Deploys a service that cannot run. Returns reason and message of the revision's Ready condition.
pub(crate) async fn broken(
    ebb: &Ebb,
    name: &str,
    manifest: &str,
) -> anyhow::Result<(String, String)> {
    let kubectl = ebb.kubectl();
    kubectl.apply(manifest).await?;
    kubectl.wait_failed(name).await?;
    let service = format!("ksvc/{name}");
    kubectl.ok(&["wait", "--for=condition=Ready=False", "--timeout=60s", &service]).await?;
    // Read once more: the service has waited for the revision's final reason.
    kubectl.wait_failed(name).await
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_named() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let manifest = service("missing", "no-such-program", &[], "", "");
    let (reason, message) = broken(&ebb, "missing", &manifest).await?;
    // A kubelet reports the first reason until it has tried again.
    assert!(["RunContainerError", "ExitCode128"].contains(&reason.as_str()), "{reason}: {message}");
    assert!(message.contains("no-such-program"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_process_that_exits_gives_its_code_and_its_last_words() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let (reason, message) = broken(&ebb, "exits", &backend("exits", &["--exit-code", "7"])).await?;
    assert_eq!(reason, "ExitCode7", "{message}");
    assert!(message.contains("about to exit as told"), "{message}");
    Ok(())
}

#[tokio::test]
async fn a_port_that_never_opens_is_named_when_the_deadline_passes() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let deadline = r#"serving.knative.dev/progress-deadline: "5s""#;
    let manifest = service("deaf", "ebb-backend", &["--deaf"], deadline, "");
    let (reason, message) = broken(&ebb, "deaf", &manifest).await?;
    assert_eq!(reason, "ProgressDeadlineExceeded", "{message}");
    assert!(message.contains("readiness probe never passed"), "{message}");
    Ok(())
}

#[tokio::test]
async fn an_unknown_host_is_not_found() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    for host in ["nobody.default.localhost", "127.0.0.1", "169.254.169.254", "kubernetes.default"] {
        let answer = ebb.client().get(host, "/").await?;
        assert_eq!(answer.status, 404, "{host}: {}", answer.text);
    }
    Ok(())
}
