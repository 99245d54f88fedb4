//! A model that sleeps in its process, beside one that was stopped and one that is warm: the memory
//! of its process, and the time to the first byte of an answer.

use std::time::Duration;

use anyhow::Context as _;
use ebb_tests::ebb::Ebb;
use ebb_tests::kubectl::Kubectl;
use ebb_tests::manifest::chat;
use ebb_tests::{eventually, processes};
use tokio::time::Instant;

use crate::figures::{Figure, Paired, median};

/// The simulated model: what its weights take, how long they load, and how long they take to come back
/// to a process that sleeps. Figures of a simulator show what Ebb adds, not what an engine takes.
const WEIGHTS_MIB: u64 = 512;
const LOAD_MS: u64 = 2000;
const WAKE_MS: u64 = 200;
const QUESTION: &str =
    r#"{"model":"chat","max_tokens":1,"messages":[{"role":"user","content":"hi"}]}"#;

fn model(name: &str, annotations: &str, mark: &str) -> String {
    let variables = [
        ("EBB_CHAT_LOAD_TIME", &*format!("{LOAD_MS}ms")),
        ("EBB_CHAT_WAKE_TIME", &format!("{WAKE_MS}ms")),
        ("EBB_CHAT_TOKENS_PER_SECOND", "1000000"),
        ("EBB_CHAT_WEIGHTS_MIB", &WEIGHTS_MIB.to_string()),
        ("STANDBY_BENCH", mark),
    ];
    chat(name, annotations, &variables, "")
}

pub(crate) async fn measure(pairs: usize) -> anyhow::Result<Vec<Figure>> {
    let ebb = Ebb::start_quick().await?;
    let kubectl = ebb.kubectl();
    let mark = format!("bench-{}", std::process::id());
    let standby = "serving.ebb.dev/standby: process, serving.ebb.dev/standby-for: forever";
    kubectl.apply(&model("standby", standby, &mark)).await?;
    kubectl.apply(&model("zero", "", "zero")).await?;
    for name in ["standby", "zero"] {
        kubectl.wait_ready(name).await?;
    }
    let process = *processes::with_environment(&format!("STANDBY_BENCH={mark}"))
        .first()
        .context("the model has a process")?;
    let before = mebibytes(process);
    let (mut asleep, mut awake) = (Vec::new(), Vec::new());
    let (mut from_standby, mut from_zero, mut warm) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..pairs {
        falls_asleep(&kubectl, process).await;
        kubectl.wait_asleep("zero").await;
        asleep.push(mebibytes(process));
        from_standby.push(first_byte(&ebb, "standby").await?);
        awake.push(mebibytes(process));
        warm.push(first_byte(&ebb, "standby").await?);
        from_zero.push(first_byte(&ebb, "zero").await?);
    }
    let asleep = median(&mut asleep);
    let standby = median(&mut from_standby);
    let memory = Paired { name: "asleep", value: asleep, unit: "MiB" };
    let time = Paired { name: "from standby", value: standby, unit: "ms" };
    let figure = |name, value, unit, paired| Figure { name, value, unit, goal: None, paired };
    Ok(vec![
        figure("standby: memory before", before, "MiB", Some(memory.clone())),
        figure("standby: memory asleep", asleep, "MiB", None),
        figure("standby: memory awake again", median(&mut awake), "MiB", Some(memory)),
        figure("first byte from zero", median(&mut from_zero), "ms", Some(time.clone())),
        figure("first byte from standby", standby, "ms", None),
        figure("first byte of a warm model", median(&mut warm), "ms", Some(time)),
    ])
}

/// Waits until the weights are given up, and no call is under way.
async fn falls_asleep(kubectl: &Kubectl, process: i32) {
    eventually("the model sleeps", || async {
        (mebibytes(process) < bytes_as_mebibytes(WEIGHTS_MIB << 20)).then_some(())
    })
    .await;
    eventually("its pod says so", || async {
        let label = "serving.knative.dev/service=standby";
        let path = "jsonpath={.items[*].metadata.annotations}";
        let notes = kubectl.ok(&["get", "pods", "-l", label, "-o", path]).await.ok()?;
        notes.contains("serving.ebb.dev/asleep").then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_millis(200)).await;
}

async fn first_byte(ebb: &Ebb, service: &str) -> anyhow::Result<f64> {
    let began = Instant::now();
    let host = ebb.host(service);
    let answer = ebb.client().post(&host, "/v1/chat/completions", QUESTION.into()).await?;
    let took = began.elapsed();
    anyhow::ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
    Ok(took.as_secs_f64() * 1000.0)
}

fn mebibytes(process: i32) -> f64 {
    processes::resident_bytes(process).map_or(0.0, bytes_as_mebibytes)
}

#[allow(clippy::cast_precision_loss, reason = "bytes of one machine")]
fn bytes_as_mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
