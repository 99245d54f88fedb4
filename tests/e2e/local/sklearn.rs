//! A scikit-learn model on MLServer, trained and deployed as examples/sklearn says. `make sklearn` runs
//! these, for MLServer is half a gigabyte.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use ebb_tests::binaries::{binary, folder, source};
use ebb_tests::ebb::Ebb;
use ebb_tests::kubectl::Kubectl;
use ebb_tests::manifest::{QUICK, example};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;

use super::volumes::copy_of;

const PATH: &str = "/v2/models/iris/infer";

/// Ebb with the model's ConfigMap, and MLServer on the PATH that its programs see.
async fn trained() -> anyhow::Result<Ebb> {
    let path = std::env::var("PATH")?;
    let path = format!("PATH={}:{path}", folder().display());
    let place = Arc::new(TempDir::with_prefix("ebb-test-")?);
    let ebb = Ebb::start_wrapped(place, &[], |command| copy_of(command, "env", &[&path])).await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(QUICK).await?;
    let output = Command::new(binary("train")).kill_on_drop(true).output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    kubectl.apply(&String::from_utf8(output.stdout)?).await?;
    Ok(ebb)
}

/// The example's manifest, with one line in the place of another.
fn manifest(line: &str, changed: &str) -> anyhow::Result<String> {
    let manifest = example("sklearn")?;
    ensure!(manifest.contains(line), "the example has changed: {manifest}");
    Ok(manifest.replace(line, changed))
}

fn output<'a>(answer: &'a Value, name: &str) -> anyhow::Result<&'a Value> {
    let mut outputs = answer["outputs"].as_array().into_iter().flatten();
    outputs.find(|output| output["name"] == name).with_context(|| format!("no {name}: {answer}"))
}

async fn pods(kubectl: &Kubectl) -> anyhow::Result<usize> {
    let ready = r#"{range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
    let output = format!("jsonpath={ready}");
    let said = kubectl
        .ok(&["get", "pods", "-l", "serving.knative.dev/service=iris", "-o", &output])
        .await?;
    Ok(said.lines().filter(|line| *line == "True").count())
}

#[tokio::test]
#[ignore = "MLServer is half a gigabyte: make sklearn"]
async fn a_sleeping_scikit_learn_model_wakes_and_tells_three_flowers_apart() -> anyhow::Result<()> {
    let ebb = trained().await?;
    let (client, kubectl, host) = (ebb.client(), ebb.kubectl(), ebb.host("iris"));
    kubectl.apply(&manifest("window: 30s", "window: 6s")?).await?;
    kubectl.wait_ready("iris").await?;
    kubectl.wait_asleep("iris").await;
    let body = std::fs::read(source().join("examples/sklearn/three.json"))?;
    let answer = client.post(&host, PATH, body.clone().into()).await?;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let timing = answer.headers["server-timing"].to_str()?;
    assert!(timing.contains("queue;dur="), "it was asleep: {timing}");
    let answer = answer.json()?;
    assert_eq!(answer["model_name"], "iris");
    // A setosa, a versicolor and a virginica.
    let predicted = output(&answer, "predict")?;
    assert_eq!(predicted["data"], serde_json::json!([0, 1, 2]), "{answer}");
    assert_eq!(predicted["datatype"], "INT64");
    let chances = output(&answer, "predict_proba")?;
    assert_eq!(chances["shape"], serde_json::json!([3, 3]), "{answer}");
    let chances: Vec<_> =
        chances["data"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
    for (kind, flower) in chances.chunks(3).enumerate() {
        assert!((flower.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{flower:?}");
        assert!(flower.iter().all(|chance| *chance <= flower[kind]), "{kind}: {flower:?}");
    }
    let model = client.get(&host, "/v2/models/iris").await?.json()?;
    assert_eq!(model["name"], "iris");
    let unknown = client.post(&host, "/v2/models/nobody/infer", body.into()).await?;
    assert_eq!(unknown.status, 404, "{}", unknown.text);
    assert!(unknown.field("error").contains("nobody"), "{}", unknown.text);
    kubectl.wait_asleep("iris").await;
    Ok(())
}

/// MLServer's other ports are the same for every replica, and one of them is a door of Ebb, unless the
/// manifest says otherwise.
#[tokio::test]
#[ignore = "MLServer is half a gigabyte: make sklearn"]
async fn two_replicas_of_mlserver_serve_on_one_machine() -> anyhow::Result<()> {
    // The inner door where nothing else is said. If another process has it, it is taken as well.
    let _door = TcpListener::bind(("127.0.0.1", 8081)).await;
    let ebb = trained().await?;
    let kubectl = ebb.kubectl();
    let two =
        "autoscaling.knative.dev/min-scale: \"2\"\n        autoscaling.knative.dev/window: 6s";
    kubectl.apply(&manifest("autoscaling.knative.dev/window: 30s", two)?).await?;
    kubectl.wait_ready("iris").await?;
    ebb_tests::eventually("two are ready", || async {
        (pods(&kubectl).await.ok()? == 2).then_some(())
    })
    .await;
    let body = std::fs::read(source().join("examples/sklearn/three.json"))?;
    for _ in 0..20 {
        let answer = ebb.client().post(&ebb.host("iris"), PATH, body.clone().into()).await?;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    assert_eq!(pods(&kubectl).await?, 2);
    Ok(())
}
