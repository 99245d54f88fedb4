//! Readiness probes of every kind decide when a request is sent.

use ebb_tests::ebb::Ebb;
use ebb_tests::manifest::service;

/// A Service of the backend with the readiness probe `probe`, in flow style.
fn probed(name: &str, probe: &str, arguments: &[&str], annotations: &str) -> String {
    service(name, "ebb-backend", arguments, annotations, "")
        .replace("command", &format!("readinessProbe: {{{probe}}}, command"))
}

#[tokio::test]
async fn a_probe_of_each_kind_lets_the_first_request_through_and_not_too_early()
-> anyhow::Result<()> {
    let ebb = Ebb::start_quick().await?;
    let kubectl = ebb.kubectl();
    let slow = ["--start-delay-ms", "700"];
    for (name, probe) in [
        ("http", "httpGet: {path: /}"),
        ("tcp", "tcpSocket: {}"),
        ("exec", "exec: {command: [ebb-backend, --check]}"),
        ("http-header", "httpGet: {path: /, httpHeaders: [{name: A, value: b}]}"),
    ] {
        kubectl.apply(&probed(name, probe, &slow, "")).await?;
        kubectl.wait_ready(name).await?;
        kubectl.wait_asleep(name).await;
        let answer = ebb.client().get(&ebb.host(name), "/").await?;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text);
    }
    Ok(())
}

#[tokio::test]
async fn a_probe_that_never_passes_keeps_the_revision_from_being_ready() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    let deadline = r#"serving.knative.dev/progress-deadline: "10s""#;
    let never = r#"httpGet: {path: "/status?code=503"}"#;
    kubectl.apply(&probed("never", never, &[], deadline)).await?;
    let (reason, message) = kubectl.wait_failed("never").await?;
    assert_eq!(reason, "ProgressDeadlineExceeded", "{message}");
    Ok(())
}
