//! The files of a model: fetched before it starts, once, and seen read-only.

use std::sync::Arc;

use ebb_tests::binaries::source;
use ebb_tests::ebb::Ebb;
use ebb_tests::file_server::FileServer;
use ebb_tests::manifest::{QUICK, digits_at, fetched_digits};
use serde_json::Value;
use tempfile::TempDir;

/// An Ebb, and a server of the model that its pods can reach; `None` on a cluster of which this machine
/// is no node.
async fn start() -> anyhow::Result<Option<(Ebb, FileServer)>> {
    let ebb = if Ebb::is_on_cluster() {
        Ebb::start().await?
    } else {
        let folder = Arc::new(TempDir::with_prefix("ebb-test-")?);
        let models = folder.path().join("models").display().to_string();
        let arguments = ["--models", &models, "--model-network", "127.0.0.0/8"];
        let ebb = Ebb::start_in(folder, &arguments).await?;
        ebb.kubectl().apply(QUICK).await?;
        ebb
    };
    let model = std::fs::read(source().join("examples/onnx/models/digits.onnx"))?;
    match FileServer::start(ebb.gateway.ip(), "digits.onnx", model).await {
        Ok(server) => Ok(Some((ebb, server))),
        Err(error) if Ebb::is_on_cluster() => {
            println!("left out: this machine has no address for pods: {error}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Asks for the digit of the example, which is a seven.
async fn sees_a_seven(ebb: &Ebb, name: &str) -> anyhow::Result<()> {
    let body = std::fs::read_to_string(source().join("examples/onnx/seven.json"))?;
    let client = ebb.client();
    let answer = client.post(&ebb.host(name), "/v2/models/digits/infer", body.into()).await?;
    let told: Value = serde_json::from_str(&answer.text)?;
    let outputs = told["outputs"].as_array().cloned().unwrap_or_default();
    let digit = outputs.iter().find(|output| output["name"] == "digit");
    assert_eq!(digit.map(|digit| &digit["data"][0]), Some(&Value::from(7)), "{}", answer.text);
    Ok(())
}

#[tokio::test]
async fn a_model_is_fetched_before_its_server_starts() -> anyhow::Result<()> {
    let Some((ebb, server)) = start().await? else { return Ok(()) };
    let kubectl = ebb.kubectl();
    let model = digits_at(&server.url());
    kubectl.apply(&fetched_digits("digits", &model, "", "")).await?;
    kubectl.wait_ready("digits").await?;
    sees_a_seven(&ebb, "digits").await?;
    let fetched = server.requests();
    assert!(fetched > 0, "nobody asked for the model");
    if Ebb::is_on_cluster() {
        return Ok(());
    }
    // The next start, and another Service, find the file in the cache of the machine.
    kubectl.wait_asleep("digits").await;
    sees_a_seven(&ebb, "digits").await?;
    kubectl.apply(&fetched_digits("others", &model, "", "")).await?;
    kubectl.wait_ready("others").await?;
    sees_a_seven(&ebb, "others").await?;
    assert_eq!(server.requests(), fetched, "a model that is there was asked for");
    Ok(())
}

#[tokio::test]
async fn a_model_that_cannot_be_fetched_says_why() -> anyhow::Result<()> {
    let Some((ebb, server)) = start().await? else { return Ok(()) };
    let kubectl = ebb.kubectl();
    let other = server.url().replace("digits.onnx", "gone.onnx");
    kubectl.apply(&fetched_digits("missing", &digits_at(&other), "", "")).await?;
    let wrong = format!("{}#sha256={}", server.url(), "0".repeat(64));
    kubectl.apply(&fetched_digits("wrong", &wrong, "", "")).await?;
    for (service, part) in [("missing", "404"), ("wrong", "sha256")] {
        let (reason, message) = kubectl.wait_failed(service).await?;
        assert!(message.to_lowercase().contains(part), "{service}: {reason}: {message}");
    }
    Ok(())
}

#[tokio::test]
async fn what_no_model_can_be_fetched_from_is_refused() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let manifest = fetched_digits("digits", "https://me:secret@host/x", "", "");
    let told = ebb.kubectl().fails(&["apply", "-f", "-"], Some(&manifest)).await?;
    assert!(told.contains("serving.ebb.dev/model"), "{told}");
    assert!(told.contains("is no URL of a file"), "{told}");
    assert!(!told.contains("secret"), "{told}");
    Ok(())
}
