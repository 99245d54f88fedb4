//! A model that is slow to start, behind a proxy that bears no silence: what OpenAI's SDKs make of it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use ebb_tests::ebb::Ebb;
use ebb_tests::manifest::example;
use ebb_tests::sdk::told_by;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a connection may be silent, as it is with some load balancers.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How long the model loads: three times as long.
const LOAD_TIME: &str = "45s";
/// A Revision of it is Ready without a pod, so that it starts once only.
const ZERO_AT_FIRST: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: config-autoscaler, namespace: knative-serving}
data: {allow-zero-initial-scale: \"true\"}
";

/// The example, which never had a pod, as the model of its own name; with one more variable.
fn sleeper(name: &str, variable: &str, value: &str) -> anyhow::Result<String> {
    let manifest = example("chat")?;
    let annotation = format!("  name: {name}\n  annotations: {{serving.ebb.dev/models: {name}}}\n");
    let variable = format!("          env:\n            - {{name: {variable}, value: {value}}}\n");
    let changed = manifest
        .replacen("  name: chat\n", &annotation, 1)
        .replacen("          env:\n", &variable, 1)
        .replacen("value: 3s", &format!("value: {LOAD_TIME}"), 1)
        .replacen("min-scale: \"0\"", "initial-scale: \"0\"", 1);
    ensure!(changed.len() > manifest.len() + 100, "the example has changed: {changed}");
    Ok(changed)
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
    let ebb = Ebb::start_quick().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(ZERO_AT_FIRST).await?;
    let speed = ("EBB_CHAT_ANSWER_TOKENS", "8");
    // It waits for long enough that the response has begun when it fails.
    let failure = ("EBB_CHAT_EXIT_AFTER", "6s");
    for (name, (variable, value)) in [("slow", speed), ("failing", failure)] {
        kubectl.apply(&sleeper(name, variable, value)?).await?;
        kubectl.wait_ready(name).await?;
    }
    let (proxy, _tasks) = impatient(ebb.gateway).await?;
    let (proxy, host) = (proxy.to_string(), ebb.models_host());
    let arguments = [&*proxy, &host, "slow", "failing"];
    let both = ["python-patience", "node-patience"].map(|program| told_by(program, &arguments));
    for said in futures::future::try_join_all(both).await? {
        let text = said["slow"].as_str().unwrap_or_default();
        assert!(text.split_whitespace().count() > 3, "{said}");
        let failed = &said["failed"];
        assert_eq!(failed["code"], "cannot-start", "{said}");
        let message = failed["message"].as_str().unwrap_or_default();
        assert!(message.contains("failing-00001 cannot start: ExitCode1"), "{said}");
    }
    Ok(())
}
