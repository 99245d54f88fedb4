//! In a process of its own: a watch that panics ends a daemon, with a line and a status that say
//! so.
//!
//! There is no test harness, because the daemon is this same program, and its exit status that of
//! `main`.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::net::TcpListener;
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use ebb_daemon::process::{self, Common, Process};
use ebb_daemon::tasks::BROKEN_EXIT;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::runtime::watcher;
use serde_json::json;

/// Tells this program that it is the daemon.
const DAEMON: &str = "EBB_TEST_DAEMON";

#[derive(Parser)]
struct Options {
    #[command(flatten)]
    common: Common,
}

fn main() -> ExitCode {
    if std::env::var_os(DAEMON).is_some() {
        let options = Options::parse_from(["ebb-test", "--name", "one"]);
        return process::main("ebb-test", &options.common, watch);
    }
    a_watch_that_panics_ends_its_process();
    ExitCode::SUCCESS
}

/// Far longer than the watch takes to panic. A daemon that does not notice the panic ends in order
/// after this time and fails the test, instead of running for ever.
const UNNOTICED: Duration = Duration::from_secs(30);

/// Work beside a watch whose fault is that it panics at an error.
async fn watch(process: Process) -> anyhow::Result<()> {
    let maps = Api::<ConfigMap>::default_namespaced(process.client.clone());
    let watch = async {
        let mut events = std::pin::pin!(watcher(maps, watcher::Config::default()));
        while let Some(event) = events.next().await {
            event.unwrap();
        }
    };
    drop(process.tasks.spawn("watch of ConfigMaps", &process.shutdown, watch));
    tokio::time::sleep(UNNOTICED).await;
    Ok(())
}

fn a_watch_that_panics_ends_its_process() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    // Nobody listens there: the port was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "test", "user": {}}],
    });
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let daemon = Command::new(std::env::current_exe().unwrap())
        .env(DAEMON, "1")
        .env("KUBECONFIG", &kubeconfig)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&daemon.stderr);
    assert_eq!(daemon.status.code(), Some(i32::from(BROKEN_EXIT)), "{said}");
    let line = "ebb-test: the watch of ConfigMaps panicked, which is a bug: see the log above";
    assert_eq!(said.lines().last(), Some(line), "{said}");
}
