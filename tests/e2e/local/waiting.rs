//! A model that is slow to start, behind a proxy that bears no silence: what OpenAI's SDKs make of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use ebb_tests::client::Client;
use ebb_tests::ebb::Ebb;
use ebb_tests::eventually;
use ebb_tests::kubectl::Kubectl;
use ebb_tests::manifest::example;
use ebb_tests::ports::free_address;
use ebb_tests::sdk::told_by;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// How long a connection may be silent, as it is with some load balancers.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How long the model loads: three times as long.
const LOAD_S: u64 = 45;
/// A Revision of it is Ready without a pod, so that it starts once only.
const ZERO_AT_FIRST: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: config-autoscaler, namespace: knative-serving}
data: {allow-zero-initial-scale: \"true\"}
";

/// The example, which never had a pod, as the model of its own name; with one more variable.
fn sleeper(name: &str, variable: &str, value: &str) -> anyhow::Result<String> {
    let annotations = format!("  annotations: {{serving.ebb.dev/models: {name}=chat}}\n");
    let variable =
        format!("          env:\n            - {{name: {variable}, value: \"{value}\"}}\n");
    let mut manifest = example("chat")?;
    for (from, to) in [
        ("  name: chat\n", format!("  name: {name}\n{annotations}")),
        ("          env:\n", variable),
        ("value: 3s", format!("value: {LOAD_S}s")),
        ("min-scale: \"0\"", "initial-scale: \"0\"".to_owned()),
    ] {
        ensure!(manifest.contains(from), "the example has changed: {manifest}");
        manifest = manifest.replacen(from, &to, 1);
    }
    Ok(manifest)
}

/// Passes bytes to and fro, and ends a connection on which none come for [`SILENCE_MAX`].
async fn impatient(gateway: SocketAddr) -> anyhow::Result<(SocketAddr, JoinSet<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            connections.spawn(async move {
                let Ok(mut server) = TcpStream::connect(gateway).await else { return };
                let (mut ours, mut theirs) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
                loop {
                    let both = async {
                        tokio::select! {
                            read = client.read(&mut ours) => {
                                let bytes = read?;
                                server.write_all(&ours[..bytes]).await?;
                                Ok(bytes)
                            }
                            read = server.read(&mut theirs) => {
                                let bytes = read?;
                                client.write_all(&theirs[..bytes]).await?;
                                std::io::Result::Ok(bytes)
                            }
                        }
                    };
                    if !matches!(timeout(SILENCE_MAX, both).await, Ok(Ok(1..))) {
                        return;
                    }
                }
            });
        }
    });
    Ok((address, tasks))
}

#[tokio::test]
async fn both_sdks_read_the_stream_of_a_slow_model_and_see_that_another_fails() -> anyhow::Result<()>
{
    let admin = free_address();
    let folder = Arc::new(TempDir::with_prefix("ebb-test-")?);
    let ebb = Ebb::start_in(folder, &["--admin", &admin.to_string()]).await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(ZERO_AT_FIRST).await?;
    let speed = ("EBB_CHAT_ANSWER_TOKENS", "8");
    // It waits for long enough that the response has begun when it fails.
    let failure = ("EBB_CHAT_EXIT_AFTER", "8s");
    let programs = ["python-patience", "node-patience"];
    for (name, (variable, value)) in
        [("slow", speed), (programs[0], failure), (programs[1], failure)]
    {
        let manifest = sleeper(name, variable, value)?;
        // The settings may take a moment to be known.
        eventually("it is applied", || async { kubectl.apply(&manifest).await.ok() }).await;
        kubectl.wait_ready(name).await?;
    }
    assert_eq!(kubectl.ok(&["get", "pods", "-o", "name"]).await?.trim(), "", "one has started");
    let (proxy, _tasks) = impatient(ebb.gateway).await?;
    let (proxy, host) = (proxy.to_string(), ebb.models_host());
    let began = Instant::now();
    let both = programs.map(|program| {
        let arguments = [&*proxy, &*host, "slow", program].map(str::to_owned);
        async move { told_by(program, &arguments.each_ref().map(|text| &**text)).await }
    });
    let (said, ()) = futures::try_join!(
        futures::future::try_join_all(both),
        the_start_is_told_of(&kubectl, admin)
    )?;
    for said in said {
        let text = said["slow"].as_str().unwrap_or_default();
        assert!(text.split_whitespace().count() > 3, "{said}");
        let failed = &said["failed"];
        assert_eq!(failed["code"], "cannot-start", "{said}");
        let message = failed["message"].as_str().unwrap_or_default();
        assert!(message.contains("cannot start: ExitCode1"), "{said}");
        assert_eq!(failed["status"], serde_json::Value::Null, "the response had begun: {said}");
    }
    assert!(began.elapsed().as_secs() >= LOAD_S, "it was not slow");
    the_start_is_known(&kubectl).await
}

/// While the model loads, its Revision and the admin listener say so, and say it of the others, too.
async fn the_start_is_told_of(kubectl: &Kubectl, admin: SocketAddr) -> anyhow::Result<()> {
    let path = "{.status.annotations.serving\\.ebb\\.dev/start}";
    let told = eventually("the Revision tells that it loads", || async {
        let text = kubectl.field("revision/slow-00001", path).await.ok()?;
        let told: Value = serde_json::from_str(text.trim()).ok()?;
        (told["phase"] == "loading").then_some(told)
    })
    .await;
    assert!(told["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{told}");
    assert_eq!(told["usualStartSeconds"], Value::Null, "none was measured: {told}");
    let client = Client::new(admin);
    let one = client.get("admin", "/revisions/default/slow-00001").await?;
    let one: Value = serde_json::from_str(&one.text)?;
    assert_eq!((&one["state"], &one["phase"]), (&json!("waking"), &json!("loading")), "{one}");
    assert!(one["queued"].as_u64() > Some(0) && one["waking_for_s"].is_u64(), "{one}");
    let all: Value = serde_json::from_str(&client.get("admin", "/revisions").await?.text)?;
    let names: Vec<_> = all["revisions"].as_array().expect("a list").iter().collect();
    let names: Vec<_> = names.iter().filter_map(|item| item["name"].as_str()).collect();
    assert_eq!(names, ["node-patience-00001", "python-patience-00001", "slow-00001"]);
    let unknown = client.get("admin", "/revisions/default/fast").await?;
    assert_eq!(unknown.status, 404);
    assert!(unknown.text.contains("/revisions"), "{}", unknown.text);
    Ok(())
}

/// The start was measured, nothing tells of it as if it went on, and the next Revision knows of it.
async fn the_start_is_known(kubectl: &Kubectl) -> anyhow::Result<()> {
    let path = "{.metadata.annotations.serving\\.ebb\\.dev/starts} \
                {.status.annotations.serving\\.ebb\\.dev/starts}";
    let known = |revision| async move {
        let text = kubectl.field(&format!("revision/{revision}"), path).await.ok()?;
        text.trim().parse::<u64>().ok()
    };
    let first = eventually("the start is in the status", || known("slow-00001")).await;
    assert!((LOAD_S..LOAD_S + 30).contains(&first), "{first} s");
    let path = "{.status.annotations.serving\\.ebb\\.dev/start}";
    assert_eq!(kubectl.field("revision/slow-00001", path).await?.trim(), "");
    let change = r#"{"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}}"#;
    kubectl.ok(&["patch", "ksvc", "slow", "--type=merge", "-p", change]).await?;
    let next = eventually("the next Revision knows of one", || known("slow-00002")).await;
    assert_eq!(next, first);
    Ok(())
}
