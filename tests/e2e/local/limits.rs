//! Limits of memory and processor time, where control groups can be made: this machine may forbid it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ebb_tests::ebb::Ebb;
use ebb_tests::manifest::chat;
use ebb_tests::{eventually, processes};

const MEBIBYTE: u64 = 1 << 20;

/// The control groups that a process is in, as folders; none where Ebb makes none for it.
fn groups(pid: i32) -> Vec<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let own = |line: &str| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        let tree = Path::new("/sys/fs/cgroup").join(controllers);
        let folder = tree.join(group.trim_start_matches('/'));
        group.split('/').any(|part| part.starts_with("ebb-")).then_some(folder)
    };
    text.lines().filter_map(own).collect()
}

/// The model's process, once there is one.
async fn model(mark: &str) -> i32 {
    let marker = format!("LIMITS_TEST={mark}");
    eventually("the model has a process", || async {
        processes::with_environment(&marker).into_iter().next()
    })
    .await
}

fn mark(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

/// Whether Ebb has said that limits have no effect here.
fn said_to_have_none(ebb: &Ebb) -> bool {
    ebb.left_out().iter().any(|field| field.contains(".limits."))
}

/// The first of these files that is there, in any of the groups.
fn read(groups: &[PathBuf], files: [&str; 2]) -> String {
    let mut paths = groups.iter().flat_map(|group| files.map(|file| group.join(file)));
    paths.find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default()
}

#[tokio::test]
async fn a_model_has_what_its_limits_say_and_its_groups_go_with_it() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    let mark = mark("kept");
    let limits = "resources: {limits: {memory: 200Mi, cpu: 250m}}";
    let bounds = "autoscaling.knative.dev/min-scale: \"1\"";
    kubectl.apply(&chat("kept", bounds, &[("LIMITS_TEST", &mark)], limits)).await?;
    kubectl.wait_ready("kept").await?;
    let pid = model(&mark).await;
    let groups = groups(pid);
    if groups.is_empty() {
        // On a machine where no group can be made, Ebb says so in its terminal.
        assert!(said_to_have_none(&ebb));
        return Ok(());
    }
    let memory = read(&groups, ["memory.limit_in_bytes", "memory.max"]);
    assert_eq!(memory.trim(), (200 * MEBIBYTE).to_string());
    let processors = read(&groups, ["cpu.cfs_quota_us", "cpu.max"]);
    assert_eq!(processors.split_whitespace().next(), Some("25000"));
    assert!(!said_to_have_none(&ebb), "they have an effect");

    // A killed Ebb leaves its groups; the next one removes them.
    let folder = ebb.kill().await?;
    eventually("the model ends", || async { (!processes::is_alive(pid)).then_some(()) }).await;
    let left: BTreeSet<_> = groups.iter().filter_map(|group| group.parent()).collect();
    assert!(left.iter().any(|group| group.exists()), "{left:?}");
    let ebb = Ebb::start_in(folder, &[]).await?;
    assert!(!left.iter().any(|group| group.exists()), "{left:?}");
    ebb.kubectl().wait_ready("kept").await?;
    let next = self::groups(model(&mark).await);
    assert!(!next.is_empty());
    ebb.stop().await?;
    let left: BTreeSet<_> = next.iter().filter_map(|group| group.parent()).collect();
    assert!(!left.iter().any(|group| group.exists()), "{left:?}");
    Ok(())
}

#[tokio::test]
async fn a_model_that_needs_more_memory_than_its_limit_is_killed_and_its_pod_says_why()
-> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    let mark = mark("large");
    let variables = [("LIMITS_TEST", &*mark), ("EBB_CHAT_WEIGHTS_MIB", "256")];
    let limits = "resources: {limits: {memory: 96Mi}}";
    kubectl.apply(&chat("large", "", &variables, limits)).await?;
    let path = "{.items[*].status.containerStatuses[*].lastState.terminated.reason}";
    let told = eventually("it ends, or runs without limits", || async {
        let told = kubectl.field("pods", path).await.ok()?;
        let is_ready =
            kubectl.field("ksvc/large", "{.status.conditions[?(@.type==\"Ready\")].status}");
        let is_ready = is_ready.await.is_ok_and(|status| status == "True");
        (is_ready || !told.is_empty()).then_some(told)
    })
    .await;
    if told.is_empty() {
        assert!(said_to_have_none(&ebb), "it had more memory than its limit");
        return Ok(());
    }
    assert!(told.split(' ').all(|reason| reason == "OOMKilled"), "{told}");
    let path = "{.items[*].status.containerStatuses[*].lastState.terminated.exitCode}";
    assert!(kubectl.field("pods", path).await?.contains("137"));
    let reason = "{.status.conditions[?(@.type==\"ContainerHealthy\")].message}";
    eventually("the Revision says why", || async {
        let message = kubectl.field("revision/large-00001", reason).await.ok()?;
        (!message.is_empty()).then_some(message)
    })
    .await;
    Ok(())
}
