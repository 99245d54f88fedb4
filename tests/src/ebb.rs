//! The real `ebb local` as a process of its own, with a state folder of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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

use crate::client::Client;
use crate::kubectl::Kubectl;
use crate::{PATIENCE, binaries, processes};

/// A running Ebb; dropping it ends the process and everything that it started.
#[derive(Debug)]
pub struct Ebb {
    child: Child,
    folder: Arc<TempDir>,
    /// Where requests go.
    pub gateway: SocketAddr,
    /// Every event so far.
    events: Arc<Mutex<Vec<Value>>>,
}

/// Settings that make scaling quick enough to test: Knative's smallest window.
pub const QUICK: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: config-autoscaler, namespace: knative-serving}
data: {stable-window: 6s, scale-to-zero-grace-period: 1s}
";

impl Ebb {
    /// Starts an Ebb with a new state folder.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_in(Arc::new(TempDir::with_prefix("ebb-test-")?), &[]).await
    }

    /// Starts an Ebb whose autoscaler uses a window of 6 s.
    pub async fn start_quick() -> anyhow::Result<Self> {
        let ebb = Self::start().await?;
        ebb.kubectl().apply(QUICK).await?;
        Ok(ebb)
    }

    /// Starts an Ebb on a state folder, with more arguments.
    pub async fn start_in(folder: Arc<TempDir>, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut child = command(&folder.path().join("data"), arguments).spawn()?;
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
        let gateway = started["gateway"].as_str().and_then(|url| url.strip_prefix("http://"));
        let gateway = gateway.context("no gateway")?.parse()?;
        let kept = events.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                kept.lock().extend(serde_json::from_str::<Value>(&line));
            }
        });
        Ok(Self { child, folder, gateway, events })
    }

    /// `kubectl` for this Ebb.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.data().join("kubeconfig"))
    }

    /// A client of the gateway.
    pub fn client(&self) -> Client {
        Client::new(self.gateway)
    }

    /// The external host of a service in `default`, with the port.
    pub fn host(&self, service: &str) -> String {
        format!("{service}.default.localhost:{}", self.gateway.port())
    }

    /// The folder that holds state and kubeconfig; it outlives the process.
    pub fn folder(&self) -> Arc<TempDir> {
        self.folder.clone()
    }

    /// The state folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.child.id().and_then(|id| id.try_into().ok()).expect("the process runs")
    }

    /// Events of a kind that name an object, oldest first.
    pub fn events(&self, kind: &str, object: &str) -> Vec<Value> {
        let named = |event: &Value| {
            ["revision", "service"].iter().any(|key| event[*key].as_str() == Some(object))
        };
        let events = self.events.lock();
        events.iter().filter(|event| event["event"] == kind && named(event)).cloned().collect()
    }

    /// Ends the process at once, as a crash or the kernel would.
    pub async fn kill(mut self) -> anyhow::Result<Arc<TempDir>> {
        processes::signal(self.pid(), Signal::SIGKILL);
        self.child.wait().await?;
        Ok(self.folder.clone())
    }

    /// Ends the process as Ctrl-C does; the exit status.
    pub async fn stop(mut self) -> anyhow::Result<(Option<i32>, Arc<TempDir>)> {
        processes::signal(self.pid(), Signal::SIGINT);
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await??;
        Ok((status.code(), self.folder.clone()))
    }
}

impl Drop for Ebb {
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
        .args(["local", "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "-o", "json"])
        .arg("--data")
        .arg(data)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// A Service in `default` that runs the tests' backend.
pub fn backend(name: &str, arguments: &[&str]) -> String {
    service(name, "ebb-backend", arguments, "", "")
}

/// A Service in `default` that runs the tests' backend with template annotations (`key: "value"`
/// pairs, comma-separated) and more fields of the revision's spec (the same form).
pub fn service(
    name: &str,
    program: &str,
    arguments: &[&str],
    annotations: &str,
    spec: &str,
) -> String {
    let comma = if spec.is_empty() { "" } else { "," };
    format!(
        "apiVersion: serving.knative.dev/v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec:
  template:
    metadata: {{annotations: {{{annotations}}}}}
    spec: {{{spec}{comma} containers: [{{image: ebb-backend, command: [{program}], args: {arguments:?}}}]}}
"
    )
}
