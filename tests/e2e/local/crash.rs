//! Ebb is killed in the middle of its work, and goes on after a restart as if nothing had happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ebb_tests::ebb::Ebb;
use ebb_tests::manifest::{backend, service};
use ebb_tests::{eventually, processes};

/// The child processes of this Ebb that are alive: the replicas and their guardian.
fn replicas(ebb: &Ebb) -> Vec<i32> {
    let own = processes::children(ebb.pid());
    own.into_iter().filter(|pid| processes::is_alive(*pid)).collect()
}

#[tokio::test]
async fn after_kill_9_under_load_no_process_is_left_and_everything_is_as_it_was()
-> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(&backend("hello", &["--text", "kept"])).await?;
    let bounds = r#"autoscaling.knative.dev/min-scale: "2""#;
    kubectl.apply(&service("pair", "ebb-backend", &[], bounds, "")).await?;
    kubectl.wait_ready("hello").await?;
    kubectl.wait_ready("pair").await?;
    let uid = kubectl.field("ksvc/hello", "{.metadata.uid}").await?;

    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (client, host, stop) = (ebb.client(), ebb.host("hello"), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    // Requests that are in flight when the process dies may fail: the kill is the
                    // fault under test.
                    drop(client.get(&host, "/sleep?ms=5").await);
                }
            })
        })
        .collect();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let before = replicas(&ebb);
    assert!(before.len() >= 3, "three replicas and their guardian run: {before:?}");
    let folder = ebb.kill().await?;
    stop.store(true, Ordering::Relaxed);
    for task in load {
        task.await?;
    }
    eventually("every process of the killed Ebb ends", || async {
        (!before.iter().any(|pid| processes::is_alive(*pid))).then_some(())
    })
    .await;

    let ebb = Ebb::start_in(folder, &[]).await?;
    let kubectl = ebb.kubectl();
    assert_eq!(kubectl.field("ksvc/hello", "{.metadata.uid}").await?, uid);
    let answer = ebb.client().get(&ebb.host("hello"), "/").await?;
    assert_eq!((answer.status.as_u16(), answer.field("text").as_str()), (200, "kept"));
    assert_eq!(answer.field("revision"), "hello-00001");
    eventually("both replicas of min-scale 2 are back", || async {
        let ready = kubectl.field("rev/pair-00001", "{.status.actualReplicas}").await.ok()?;
        (ready == "2").then_some(())
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn ctrl_c_drains_leaves_no_process_and_keeps_the_state() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    ebb.kubectl().apply(&backend("hello", &[])).await?;
    ebb.kubectl().wait_ready("hello").await?;
    let before = replicas(&ebb);
    let (client, host) = (ebb.client(), ebb.host("hello"));
    let flying = tokio::spawn(async move { client.get(&host, "/sleep?ms=1000").await });
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let (status, folder) = ebb.stop().await?;
    assert_eq!(status, Some(0));
    let answer = flying.await??;
    assert_eq!(answer.status, 200, "the request in flight was waited for: {}", answer.text);
    eventually("every process has ended", || async {
        (!before.iter().any(|pid| processes::is_alive(*pid))).then_some(())
    })
    .await;
    let ebb = Ebb::start_in(folder, &[]).await?;
    assert_eq!(
        ebb.kubectl().ok(&["get", "ksvc", "-o", "name"]).await?.trim(),
        "service.serving.knative.dev/hello"
    );
    Ok(())
}
