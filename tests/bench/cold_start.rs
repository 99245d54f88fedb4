//! From the request to the first byte of a sleeping model, less what the model itself needs to
//! listen: the platform's own share of a cold start.

use std::process::Stdio;
use std::time::Duration;

use ebb_tests::binaries::binary;
use ebb_tests::ebb::Ebb;
use ebb_tests::manifest::example;
use ebb_tests::ports::free_address;
use tokio::process::Command;
use tokio::time::Instant;

use crate::figures::{Figure, Paired, median};

const GOAL_MS: f64 = 25.0;

pub(crate) async fn measure(pairs: usize) -> anyhow::Result<Vec<Figure>> {
    let ebb = Ebb::start_quick().await?;
    ebb.kubectl().apply(&example("onnx")?).await?;
    ebb.kubectl().wait_ready("digits").await?;
    let (mut whole, mut alone, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..pairs {
        asleep(&ebb).await;
        let listens = time_to_listen().await?;
        let began = Instant::now();
        let answer = ebb.client().get(&ebb.host("digits"), "/v2/health/ready").await?;
        let answered = began.elapsed();
        anyhow::ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
        whole.push(millis(answered));
        alone.push(millis(listens));
        own.push(millis(answered) - millis(listens));
    }
    let alone = median(&mut alone);
    Ok(vec![
        Figure {
            name: "cold start less the model's own time",
            value: median(&mut own),
            unit: "ms",
            goal: Some(GOAL_MS),
            paired: Some(Paired { name: "model alone", value: alone, unit: "ms" }),
        },
        Figure {
            name: "cold start, request to first byte",
            value: median(&mut whole),
            unit: "ms",
            goal: None,
            paired: Some(Paired { name: "model alone", value: alone, unit: "ms" }),
        },
    ])
}

async fn asleep(ebb: &Ebb) {
    ebb.kubectl().wait_asleep("digits").await;
    // The process of the last replica has ended with its pod; let the machine come to rest.
    tokio::time::sleep(Duration::from_millis(200)).await;
}

/// From starting the model server to its first accepted connection, without Ebb.
async fn time_to_listen() -> anyhow::Result<Duration> {
    let port = free_address().port();
    let began = Instant::now();
    let mut child = Command::new(binary("ebb-onnx"))
        .args(["--model", "digits.onnx"])
        .env("PORT", port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let listens = loop {
        if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            break began.elapsed();
        }
        anyhow::ensure!(child.try_wait()?.is_none(), "the model server ended");
        tokio::time::sleep(Duration::from_micros(200)).await;
    };
    child.kill().await?;
    Ok(listens)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
