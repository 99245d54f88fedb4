//! Upgrade, test and uninstall of an installed Ebb by helm, while requests flow.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context as _;
use ebb_tests::binaries::source;
use ebb_tests::ebb::Ebb;
use ebb_tests::eventually;
use ebb_tests::kubectl::Kubectl;
use ebb_tests::manifest::backend;
use tokio::process::Command;

use crate::load::Load;

/// Timeout of helm: activators may take as long as `activator.drainSeconds` to end.
const LIMIT: &str = "--timeout=180s";

/// The real helm, on the cluster under test.
async fn helm(arguments: &[&str]) -> anyhow::Result<()> {
    let kubeconfig: PathBuf = std::env::var_os("EBB_E2E_KUBECONFIG").context("no cluster")?.into();
    let mut command = Command::new("helm");
    command.arg("--kubeconfig").arg(kubeconfig).args(["--namespace", "knative-serving"]);
    let output = command.args(arguments).stdin(Stdio::null()).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "helm {arguments:?}: {said}");
    Ok(())
}

/// Removes the annotation by which helm recognises a map of settings as its own; `kubectl replace`
/// does the same. Returns the map's UID.
async fn disown(kubectl: &Kubectl, map: &str) -> anyhow::Result<String> {
    let annotate = ["-n", "knative-serving", "annotate", map, "meta.helm.sh/release-name-"];
    kubectl.ok(&annotate).await?;
    identity(kubectl, map).await
}

async fn identity(kubectl: &Kubectl, map: &str) -> anyhow::Result<String> {
    let get = ["-n", "knative-serving", "get", map, "-o", "jsonpath={.metadata.uid}"];
    kubectl.ok(&get).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_helm_replaces_everything() -> anyhow::Result<()> {
    let ebb = Ebb::start_quick().await?;
    let kubectl = ebb.kubectl();
    for name in ["busy", "sleeper"] {
        kubectl.apply(&backend(name, &[])).await?;
        kubectl.wait_ready(name).await?;
    }
    kubectl.wait_asleep("sleeper").await;
    let pods = ["-n", "knative-serving", "get", "pods", "-o", "name"];
    let before = kubectl.ok(&pods).await?;
    let map = "configmap/config-defaults";
    let disowned = disown(&kubectl, map).await?;
    let load = Load::on(&ebb, "busy");
    let chart = source().join("deploy/helm/ebb");
    let chart = chart.to_str().context("the path of the chart")?;
    // A new annotation changes the pod templates: every pod of all three components is replaced.
    let change = format!("--set-string=podAnnotations.upgrade={:016x}", rand::random::<u64>());
    helm(&["upgrade", "ebb", chart, "--reuse-values", "--wait", LIMIT, &change]).await?;
    let woken = ebb.client().get(&ebb.host("sleeper"), "/").await?;
    assert_eq!(woken.status, 200, "{}", woken.text);
    kubectl.apply(&backend("after", &[])).await?;
    kubectl.wait_ready("after").await?;
    let answered = load.end().await?;
    assert!(answered > 100, "only {answered} requests");
    let after = kubectl.ok(&pods).await?;
    let made = after.lines().filter(|pod| !before.contains(pod)).count();
    assert!(made >= before.lines().count(), "of {before} only {made} were replaced: {after}");
    // Helm deletes objects that an upgrade no longer names.
    assert_eq!(identity(&kubectl, map).await?, disowned, "the settings were made anew");
    Ok(())
}

/// The webhooks answer the question of the chart's own test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn helms_test_of_the_release_passes() -> anyhow::Result<()> {
    let ebb = Ebb::start_quick().await?;
    helm(&["test", "ebb", LIMIT]).await?;
    let left = ["-n", "knative-serving", "get", "routes.serving.knative.dev", "-o", "name"];
    assert_eq!(ebb.kubectl().ok(&left).await?, "", "the test's Route is still there");
    Ok(())
}

/// Runs last of all, because it uninstalls Ebb; tests/cluster/uninstall also checks what is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes Ebb away: run by tests/cluster/uninstall"]
async fn helm_uninstalls_ebb_and_leaves_user_objects() -> anyhow::Result<()> {
    let ebb = Ebb::start_quick().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(&backend("busy", &[])).await?;
    kubectl.wait_ready("busy").await?;
    let (client, host) = (ebb.client(), ebb.host("busy"));
    let long = tokio::spawn(async move { client.get(&host, "/sleep?ms=4000").await });
    eventually("the long request is at the backend", || async {
        let beside = ebb.client().get(&ebb.host("busy"), "/").await.ok()?;
        (beside.field("inside") == "2").then_some(())
    })
    .await;
    let load = Load::on(&ebb, "busy");
    helm(&["uninstall", "ebb", "--wait", LIMIT]).await?;
    eventually("Ebb's pods end", || async {
        let pods = ["-n", "knative-serving", "get", "pods", "-o", "name"];
        kubectl.ok(&pods).await.ok()?.is_empty().then_some(())
    })
    .await;
    // The request that was in flight during the uninstall is answered.
    assert_eq!(long.await??.status, 200);
    // A later request finds no server at all; it gets no response with an error in it.
    let refused = load.end().await.expect_err("somebody still answers");
    assert!(refused.to_string() == "no response", "{refused:#}");
    let kept = kubectl.ok(&["get", "ksvc/busy", "rev/busy-00001", "-o", "name"]).await?;
    assert_eq!(kept.lines().count(), 2, "{kept}");
    Ok(())
}
