//! A model that sleeps in its process, and another one that needs the room that it gave up.

use std::sync::Arc;

use ebb_tests::ebb::Ebb;
use ebb_tests::manifest::{QUICK, chat};
use ebb_tests::{eventually, processes};
use tempfile::TempDir;

/// Room for one and a half of these models.
const ROOM: &str = "300Mi";
const ASKED_MIB: u64 = 200;
const WEIGHTS_MIB: u64 = 150;

fn model(name: &str, annotations: &str, mark: &str) -> String {
    let variables = [
        ("EBB_CHAT_LOAD_TIME", "0s"),
        ("EBB_CHAT_WEIGHTS_MIB", &*WEIGHTS_MIB.to_string()),
        ("CROWDED_TEST", mark),
    ];
    let asked = format!("resources: {{requests: {{memory: {ASKED_MIB}Mi}}}}");
    chat(name, annotations, &variables, &asked)
}

/// A call that wakes would take more memory than there is; a new start waits for room.
#[tokio::test]
async fn a_model_that_sleeps_gives_its_room_and_goes_when_it_could_not_wake() -> anyhow::Result<()>
{
    let folder = Arc::new(TempDir::with_prefix("ebb-test-")?);
    let ebb = Ebb::start_in(folder, &["--memory", ROOM]).await?;
    let (kubectl, client) = (ebb.kubectl(), ebb.client());
    kubectl.apply(QUICK).await?;
    let mark = format!("crowded-{}", std::process::id());
    kubectl.apply(&model("nap", "serving.ebb.dev/standby: process", &mark)).await?;
    kubectl.wait_ready("nap").await?;
    let process = processes::with_environment(&format!("CROWDED_TEST={mark}"))[0];
    eventually("the model sleeps", || async {
        processes::resident_bytes(process).filter(|bytes| *bytes < WEIGHTS_MIB << 20).map(drop)
    })
    .await;
    assert!(processes::is_alive(process), "and is there");
    // It has room beside the model that sleeps, and for it alone.
    kubectl.apply(&model("other", "autoscaling.knative.dev/window: 10m", "other")).await?;
    kubectl.wait_ready("other").await?;
    eventually("it goes, for it could not wake", || async {
        (!processes::is_alive(process)).then_some(())
    })
    .await;
    kubectl.wait_asleep("nap").await;
    let answer = client.get(&ebb.host("nap"), "/health").await?;
    assert_eq!(answer.status, 200, "a new start has made room: {}", answer.text);
    Ok(())
}
