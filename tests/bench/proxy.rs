//! CPU time of the proxy per warm request, at a fixed open-loop rate, beside the bare
//! pass-through with the same backend.
//!
//! Not requests per second: on two cores that would measure the load generator.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use ebb_tests::client::Client;
use ebb_tests::ebb::Ebb;
use ebb_tests::manifest::backend;
use futures::future::join_all;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::figures::{Figure, Paired, median};

/// Today's goal for the ratio; 1.5 is the next.
const GOAL_RATIO: f64 = 2.0;
/// Requests a second: enough to be busy, well below what two cores can generate and answer.
const RATE: u32 = 1_500;
/// Connections of the generator.
const CONNECTIONS: u32 = 16;
/// Length of one side of a pair.
const ROUND: Duration = Duration::from_secs(2);

pub(crate) async fn measure(pairs: usize) -> anyhow::Result<Vec<Figure>> {
    let ebb = Ebb::start().await?;
    let min_scale = "metadata: {annotations: {autoscaling.knative.dev/min-scale: \"1\"}}";
    let manifest = backend("warm", &[]).replace("metadata: {annotations: {}}", min_scale);
    ebb.kubectl().apply(&manifest).await?;
    ebb.kubectl().wait_ready("warm").await?;
    let answer = ebb.client().get(&ebb.host("warm"), "/").await?;
    let port: u16 = answer.field("port").parse().context("no port")?;
    let (bare, address) = start_bare(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    let bare_pid = bare.id().and_then(|pid| i32::try_from(pid).ok()).context("it ended")?;

    let host = ebb.host("warm");
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..=pairs {
        let own = per_request_us(ebb.pid(), ebb.gateway, &host).await?;
        let other = per_request_us(bare_pid, address, &host).await?;
        // The first pair warms caches and pools up.
        if pair > 0 {
            ours.push(own);
            theirs.push(other);
            ratios.push(own / other);
        }
    }
    let paired = Paired { name: "bare hyper", value: median(&mut theirs), unit: "us" };
    Ok(vec![
        Figure {
            name: "proxy CPU per request, ratio to bare hyper",
            value: median(&mut ratios),
            unit: "x",
            goal: Some(GOAL_RATIO),
            paired: Some(paired.clone()),
        },
        Figure {
            name: "proxy CPU per request",
            value: median(&mut ours),
            unit: "us",
            goal: None,
            paired: Some(paired),
        },
    ])
}

async fn start_bare(to: SocketAddr) -> anyhow::Result<(Child, SocketAddr)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["pass-through", &to.to_string()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let out = child.stdout.take().context("no standard output")?;
    let line = BufReader::new(out).lines().next_line().await?.context("it said nothing")?;
    Ok((child, line.parse()?))
}

/// CPU microseconds that the process spends on one request of a round.
async fn per_request_us(pid: i32, gateway: SocketAddr, host: &str) -> anyhow::Result<f64> {
    let before = cpu_ns(pid)?;
    let sent = load(gateway, host).await?;
    let used_ns = cpu_ns(pid)? - before;
    #[allow(clippy::cast_precision_loss, reason = "seconds in nanoseconds")]
    let us = used_ns as f64 / 1000.0;
    Ok(us / f64::from(sent))
}

/// Sends one round of load. Returns the number of requests, all answered 200.
async fn load(gateway: SocketAddr, host: &str) -> anyhow::Result<u32> {
    let gap = Duration::from_secs(1) * CONNECTIONS / RATE;
    let worker = |index: u32| async move {
        let client = Client::new(gateway);
        let mut due = Instant::now() + gap * index / CONNECTIONS;
        let end = Instant::now() + ROUND;
        let mut sent = 0;
        while due < end {
            tokio::time::sleep_until(due).await;
            let answer = client.get(host, "/sleep").await?;
            anyhow::ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
            sent += 1;
            due += gap;
        }
        Ok(sent)
    };
    let sent = join_all((0..CONNECTIONS).map(worker)).await;
    sent.into_iter().sum()
}

/// CPU time of all threads of a process, in nanoseconds.
fn cpu_ns(pid: i32) -> anyhow::Result<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten();
    let times = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Ok(times.sum())
}
