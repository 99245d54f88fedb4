//! A model that sleeps without being stopped.

use anyhow::Context as _;
use ebb_tests::ebb::Ebb;
use ebb_tests::kubectl::Kubectl;
use ebb_tests::manifest::image;
use ebb_tests::{eventually, processes};
use http::StatusCode;
use serde_json::Value;

/// What stands for the model's weights.
const WEIGHTS_MIB: u64 = 96;
const QUESTION: &str =
    r#"{"model":"nap","max_tokens":1,"messages":[{"role":"user","content":"hi"}]}"#;

/// A model whose server has vLLM's paths.
fn model(mark: &str) -> String {
    let image = image("ebb-chat");
    format!(
        "apiVersion: serving.knative.dev/v1
kind: Service
metadata:
  name: nap
  annotations: {{serving.ebb.dev/models: nap}}
spec:
  template:
    metadata:
      annotations:
        serving.ebb.dev/standby: process
        serving.ebb.dev/standby-for: 25s
    spec:
      containers:
        - image: {image}
          command: [ebb-chat]
          env:
            - {{name: EBB_CHAT_MODEL, value: nap}}
            - {{name: EBB_CHAT_LOAD_TIME, value: 0s}}
            - {{name: EBB_CHAT_WEIGHTS_MIB, value: \"{WEIGHTS_MIB}\"}}
            - {{name: STANDBY_TEST, value: {mark}}}
          readinessProbe: {{httpGet: {{path: /health}}}}
"
    )
}

/// Its state and phase at the models host.
async fn state(ebb: &Ebb) -> anyhow::Result<(Value, Value)> {
    let answer = ebb.client().get(&ebb.models_host(), "/v1/models/nap").await?;
    let answer = answer.json().context("the model is listed")?;
    Ok((answer["state"].clone(), answer["phase"].clone()))
}

async fn falls_asleep(ebb: &Ebb) {
    eventually("the model sleeps in its process", || async {
        let (state, phase) = state(ebb).await.ok()?;
        (state == "asleep" && phase == "standby").then_some(())
    })
    .await;
}

/// Name, UID and restarts of its pods.
async fn pods(kubectl: &Kubectl) -> anyhow::Result<String> {
    let path = "{range .items[*]}{.metadata.name} {.metadata.uid} \
                {.status.containerStatuses[0].restartCount}{end}";
    let label = "serving.knative.dev/service=nap";
    kubectl.ok(&["get", "pods", "-l", label, "-o", &format!("jsonpath={path}")]).await
}

#[tokio::test]
async fn a_model_sleeps_in_its_process_wakes_by_a_call_and_goes_in_the_end() -> anyhow::Result<()> {
    let ebb = Ebb::start_quick().await?;
    let (kubectl, client, host) = (ebb.kubectl(), ebb.client(), ebb.host("nap"));
    let mark = format!("nap-{}", std::process::id());
    kubectl.apply(&model(&mark)).await?;
    kubectl.wait_ready("nap").await?;
    let ask = || client.post(&host, "/v1/chat/completions", QUESTION.into());
    let answer = ask().await?;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let pod = pods(&kubectl).await?;
    let process = || processes::with_environment(&format!("STANDBY_TEST={mark}"));
    let weights = WEIGHTS_MIB << 20;
    let bytes = move |process: &[i32]| processes::resident_bytes(*process.first()?);
    let awake = process();
    if !Ebb::is_on_cluster() {
        assert!(bytes(&awake) > Some(weights), "the weights are in memory");
    }

    falls_asleep(&ebb).await;
    if !Ebb::is_on_cluster() {
        eventually("the weights are given up", || async {
            bytes(&awake).filter(|bytes| *bytes < weights).map(drop)
        })
        .await;
    }
    // Its pod alone is known to sleep, and clients can neither let it sleep nor wake it.
    let paths = [
        "/sleep?level=1",
        "/sleep/",
        "//sleep",
        "/%73leep",
        "/sleep%0A",
        "/llm/sleep",
        "/wake_up",
        "/v1/../wake_up",
        "/is_sleeping",
    ];
    for path in paths {
        let answer = client.post(&host, path, "".into()).await?;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}: {}", answer.text);
        assert!(answer.text.contains("reserved for Ebb"), "{path}: {}", answer.text);
    }
    assert_eq!(state(&ebb).await?, ("asleep".into(), "standby".into()), "nothing has woken it");

    let answer = ask().await?;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(pods(&kubectl).await?, pod, "the same pod, never started again");
    assert_eq!(process(), awake, "the same process");
    assert_eq!(state(&ebb).await?.0, "ready");
    let answer = client.post(&host, "/wake_up", "".into()).await?;
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}", answer.text);

    falls_asleep(&ebb).await;
    kubectl.wait_asleep("nap").await;
    assert_eq!(state(&ebb).await?, ("asleep".into(), Value::Null));
    let answer = ask().await?;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_ne!(pods(&kubectl).await?, pod, "a new start");
    Ok(())
}
