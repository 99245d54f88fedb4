//! The real `ebb local` as a process of its own, with a state folder of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::{PATIENCE, binaries, processes};

/// A process that runs; dropping it ends it and everything that it started.
#[derive(Debug)]
pub(super) struct Local {
    child: Child,
    folder: Arc<TempDir>,
    /// Where requests go.
    pub(super) gateway: SocketAddr,
    /// Where requests to cluster-local hosts go.
    pub(super) inner: SocketAddr,
    /// Every event so far.
    events: Arc<Mutex<Vec<Value>>>,
}

impl Local {
    /// Starts one on a state folder, with more arguments.
    pub(super) async fn start(folder: Arc<TempDir>, arguments: &[&str]) -> anyhow::Result<Self> {
        let child = command(&folder.path().join("data"), arguments).spawn()?;
        Self::started(child, folder).await
    }

    /// The same with the command changed before it is run.
    pub(super) async fn start_wrapped(
        folder: Arc<TempDir>,
        arguments: &[&str],
        wrap: impl FnOnce(&Command) -> Command,
    ) -> anyhow::Result<Self> {
        let mut command = wrap(&command(&folder.path().join("data"), arguments));
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        Self::started(child, folder).await
    }

    async fn started(mut child: Child, folder: Arc<TempDir>) -> anyhow::Result<Self> {
        let out = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(out).lines();
        let events = Arc::new(Mutex::new(Vec::new()));
        let started = async {
            loop {
                let Some(line) = lines.next_line().await? else { bail!("ebb ended at its start") };
                let event: Value = serde_json::from_str(&line)
                    .with_context(|| format!("not one JSON object: {line}"))?;
                events.lock().push(event.clone());
                if event["event"] == "started" {
                    return Ok(event);
                }
            }
        };
        let started = tokio::time::timeout(PATIENCE, started).await.context("ebb hangs")??;
        let address = |name: &str| -> anyhow::Result<SocketAddr> {
            let url = started[name].as_str().and_then(|url| url.strip_prefix("http://"));
            Ok(url.with_context(|| format!("no address of {name}"))?.parse()?)
        };
        let (gateway, inner) = (address("gateway")?, address("inner")?);
        let kept = events.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                kept.lock().extend(serde_json::from_str::<Value>(&line));
            }
        });
        Ok(Self { child, folder, gateway, inner, events })
    }

    /// The folder that holds the state; it outlives the process.
    pub(super) fn folder(&self) -> Arc<TempDir> {
        self.folder.clone()
    }

    /// The process id.
    pub(super) fn pid(&self) -> i32 {
        self.child.id().and_then(|id| id.try_into().ok()).expect("the process runs")
    }

    /// Every event so far, oldest first.
    pub(super) fn events(&self) -> Vec<Value> {
        self.events.lock().clone()
    }

    /// How many events of that kind there were so far.
    pub(super) fn count(&self, kind: &str) -> usize {
        self.events.lock().iter().filter(|event| event["event"] == kind).count()
    }

    /// Sends a signal and waits for the end. Returns the exit status.
    pub(super) async fn end(&mut self, signal: Signal) -> anyhow::Result<Option<i32>> {
        processes::signal(self.pid(), signal);
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await??;
        Ok(status.code())
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            processes::signal(pid, Signal::SIGTERM);
            let deadline = std::time::Duration::from_secs(10);
            let step = Duration::from_millis(20);
            for _ in 0..deadline.as_millis() / step.as_millis() {
                if !processes::is_alive(pid) {
                    return;
                }
                std::thread::sleep(step);
            }
            processes::signal(pid, Signal::SIGKILL);
        }
    }
}

/// `ebb local` on free ports with JSON events; its logs go to the test's own standard error.
pub fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binaries::binary("ebb"));
    command
        .args(["local", "--listen", "127.0.0.1:0", "--inner", "127.0.0.1:0"])
        .args(["--api", "127.0.0.1:0", "-o", "json"])
        .arg("--data")
        .arg(data)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}
