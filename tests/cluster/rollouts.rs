//! Replacements while requests flow: of Ebb's own pods, during which no request may fail, and of
//! Services of one name, of which none may answer for another.

use ebb_tests::ebb::Ebb;
use ebb_tests::incarnations;
use ebb_tests::kubectl::Kubectl;
use ebb_tests::manifest::backend;

use crate::load::Load;

/// Replaces every pod of a component, and waits until the old ones are gone.
async fn restart(kubectl: &Kubectl, component: &str) -> anyhow::Result<()> {
    let deployment = format!("deployment/{component}");
    let system = ["-n", "knative-serving", "rollout"];
    kubectl.ok(&[&system[..], &["restart", &deployment]].concat()).await?;
    kubectl.ok(&[&system[..], &["status", "--timeout=110s", &deployment]].concat()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_each_component_is_restarted() -> anyhow::Result<()> {
    let ebb = Ebb::start_quick().await?;
    let kubectl = ebb.kubectl();
    for name in ["busy", "sleeper"] {
        kubectl.apply(&backend(name, &[])).await?;
        kubectl.wait_ready(name).await?;
    }
    for component in ["ebb-activator", "ebb-autoscaler", "ebb-controller"] {
        let load = Load::on(&ebb, "busy");
        restart(&kubectl, component).await?;
        // The replaced component still does its work.
        kubectl.wait_asleep("sleeper").await;
        let woken = ebb.client().get(&ebb.host("sleeper"), "/").await?;
        assert_eq!(woken.status, 200, "{component}: {}", woken.text);
        let answered = load.end().await?;
        assert!(answered > 100, "{component}: only {answered} requests");
    }
    kubectl.apply(&backend("after", &[])).await?;
    kubectl.wait_ready("after").await
}

/// Old pods live on for a while, with the label of a new Revision that has taken the name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_used_again_is_never_answered_by_its_earlier_owner() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let answered = incarnations::follow(&ebb, 200).await?;
    println!("{answered} requests were answered");
    Ok(())
}
