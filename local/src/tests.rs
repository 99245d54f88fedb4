//! Deployments and runner together on the embedded API, with real processes.

mod platform;

use std::time::Duration;

use ebb_apiserver::pod_logs::{LogOptions, PodLogs as _};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use ebb_runner::clear_stale_pods;
use platform::{Platform, is_alive, is_ready, port, waiting_message, waiting_reason};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_starts_serves_on_a_port_of_its_own_and_ends() {
    let platform = Platform::start("test-serve");
    platform
        .deploy(
            0,
            json!({
                "command": ["python3"],
                "args": ["-u", "-m", "http.server", "$(PORT)", "--bind", "127.0.0.1"],
                "readinessProbe": {"httpGet": {"port": 8080, "path": "/"}},
            }),
        )
        .await;
    platform.scale(2).await;
    let pods =
        platform.until("two ready", |pods| pods.len() == 2 && pods.iter().all(is_ready)).await;
    assert_ne!(port(&pods[0]), port(&pods[1]));
    for pod in &pods {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port(pod))).await;
        assert!(stream.is_ok(), "it listens");
        let status = pod.status.as_ref().expect("a status");
        assert_eq!(status.pod_ip.as_deref(), Some("127.0.0.1"));
        assert_eq!(status.phase.as_deref(), Some("Running"));
    }
    platform.until_status("two counted", |status| status.ready_replicas == Some(2)).await;
    platform.scale(0).await;
    platform.until("none left", <[Pod]>::is_empty).await;
    for pod in &pods {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port(pod))).await;
        assert!(stream.is_err(), "nobody listens any more");
    }
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_runs_within_milliseconds_of_a_change_of_scale() {
    let platform = Platform::start("test-quick");
    platform.deploy(0, json!({"command": ["/bin/sh", "-c", "exec sleep 600"]})).await;
    // The first round warms caches. The best round shows the cost of the code; the rest is other
    // work of the machine.
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let begin = Instant::now();
        platform.scale(1).await;
        platform.until("running", |pods| pods.first().is_some_and(is_ready)).await;
        best = best.min(begin.elapsed());
        platform.scale(0).await;
        platform.until("none left", <[Pod]>::is_empty).await;
    }
    eprintln!("scale to running: {best:?}");
    assert!(best < Duration::from_millis(50), "{best:?}");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_fails_is_started_again_and_then_held_back_with_its_last_words() {
    let platform = Platform::start("test-crash");
    platform
        .deploy(1, json!({"command": ["/bin/sh", "-c", "echo fine; echo boom >&2; exit 3"]}))
        .await;
    let container = platform
        .until_container("held back", |c| waiting_reason(c) == Some("CrashLoopBackOff"))
        .await;
    assert_eq!(container.restart_count, 2, "the first restart is immediate");
    assert!(waiting_message(&container).starts_with("back-off 10s restarting failed container"));
    let last = container.last_state.and_then(|state| state.terminated);
    let last = last.expect("how it ended");
    assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
    // Two pipes have no order between them.
    let message = last.message.expect("its last words");
    assert!(message.contains("boom") && message.contains("fine"), "{message}");
    let name = platform.until("one", |pods| pods.len() == 1).await[0].name_any();
    let previous = LogOptions { previous: true, ..LogOptions::default() };
    let stream = platform.options.logs.open("default", &name, previous);
    let bytes: Vec<_> = stream.expect("it ran before").collect().await;
    assert!(String::from_utf8_lossy(&bytes.concat()).contains("boom"));
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_cannot_run_says_why() {
    let platform = Platform::start("test-refuse");
    platform.deploy(1, json!({})).await;
    let container = platform.until_container("refused", |c| waiting_reason(c).is_some()).await;
    assert_eq!(waiting_reason(&container), Some("CreateContainerConfigError"));
    assert!(
        waiting_message(&container).starts_with("image \"example/model\" cannot be run in local"),
        "{}",
        waiting_message(&container)
    );
    let api = platform.deployments();
    api.delete("d", &DeleteParams::default()).await.expect("deleted");
    platform.until("none left", <[Pod]>::is_empty).await;

    platform.deploy(1, json!({"command": ["no-such-program"]})).await;
    let container = platform
        .until_container("held back", |c| waiting_reason(c) == Some("CrashLoopBackOff"))
        .await;
    let last = container.last_state.and_then(|state| state.terminated);
    let last = last.expect("how it ended");
    assert_eq!((last.exit_code, last.reason.as_deref()), (128, Some("StartError")));
    let message = last.message.expect("why");
    assert!(message.starts_with("program \"no-such-program\" was not found"), "{message}");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_config_map_is_named_and_waited_for() {
    let platform = Platform::start("test-config");
    let out = platform.folder.path().join("mode");
    platform
        .deploy(
            1,
            json!({
                "command": ["/bin/sh", "-c", format!("echo $MODE > {}; exec sleep 600", out.display())],
                "env": [{"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "m"}}}],
            }),
        )
        .await;
    let container = platform.until_container("refused", |c| waiting_reason(c).is_some()).await;
    assert_eq!(waiting_message(&container), "configmap \"s\" not found");
    let maps: Api<ConfigMap> = Api::default_namespaced(platform.client.clone());
    let map = serde_json::from_value(json!({"metadata": {"name": "s"}, "data": {"m": "fast"}}));
    maps.create(&PostParams::default(), &map.expect("a map")).await.expect("created");
    assert_eq!(platform.wait_for_file("mode").await, "fast");
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_container_left_behind_ends_with_it() {
    let platform = Platform::start("test-orphans");
    let out = platform.folder.path().join("orphan");
    let script =
        format!("setsid sh -c 'echo $$$$ > {}; exec sleep 600' & exec sleep 600", out.display());
    platform.deploy(1, json!({"command": ["/bin/sh", "-c", script]})).await;
    let orphan = platform.wait_for_file("orphan").await;
    assert!(is_alive(&orphan));
    platform.scale(0).await;
    platform.until("none left", <[Pod]>::is_empty).await;
    assert!(!is_alive(&orphan));
    platform.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_ends_replicas_and_the_next_start_clears_their_pods() {
    let platform = Platform::start("test-shutdown");
    let out = platform.folder.path().join("stubborn");
    let script =
        format!("trap '' TERM; echo $$$$ > {}; while true; do sleep 0.1; done", out.display());
    platform.deploy(1, json!({"command": ["/bin/sh", "-c", script]})).await;
    let stubborn = platform.wait_for_file("stubborn").await;
    assert!(is_alive(&stubborn));
    let (client, options) = (platform.client.clone(), platform.options.clone());
    let server = platform.server.clone();
    let begin = Instant::now();
    let folder = platform.stop().await;
    assert!(begin.elapsed() >= Duration::from_millis(300), "it had its grace");
    assert!(!is_alive(&stubborn));
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    let everything = ListParams::default();
    let left = pods.list(&everything).await.expect("listed");
    assert_eq!(left.items.len(), 1);
    clear_stale_pods(&client, &options).await.expect("cleared");
    let left = pods.list(&everything).await.expect("listed");
    assert!(left.items.is_empty());
    assert!(!folder.path().join("logs").exists());
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liveness_probe_that_fails_restarts_the_process() {
    let platform = Platform::start("test-liveness");
    platform
        .deploy(
            1,
            json!({
                "command": ["/bin/sh", "-c", "exec sleep 600"],
                "livenessProbe": {
                    "exec": {"command": ["/bin/sh", "-c", "echo sick; exit 1"]},
                    "failureThreshold": 1,
                },
            }),
        )
        .await;
    let container = platform.until_container("restarted", |c| c.restart_count > 0).await;
    let last = container.last_state.and_then(|state| state.terminated);
    let last = last.expect("how it ended");
    assert_eq!((last.exit_code, last.signal), (143, Some(15)));
    let message = last.message.expect("why");
    assert!(message.contains("Liveness probe failed") && message.contains("sick"), "{message}");
    platform.stop().await;
}
