//! A firewall between one of two activators and the autoscalers. The autoscalers then do not know
//! what that activator has in flight, so no scale is lowered, and an Event says why.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use ebb_tests::ebb::Ebb;
use ebb_tests::eventually;
use ebb_tests::kubectl::Kubectl;
use ebb_tests::manifest::{backend, service};
use ebb_tests::nft::Table;
use tokio::process::Command;
use tokio::time::Instant;

/// Name of the table with the test's own rule.
const TABLE: &str = "ebb_test_cut";
/// Seconds after which an Event is to report it, instead of the 600 of an installed Ebb.
const NOTICE: &str = "EBB_UNHEARD_NOTICE=10";
/// Longer than a silent activator was once waited for (30 s), with the windows on top of that.
const LONG: Duration = Duration::from_secs(75);

/// Drops what one activator sends to the autoscalers.
async fn cut(activator: &str, autoscalers: &str) -> anyhow::Result<Table> {
    let autoscalers = autoscalers.split_whitespace().collect::<Vec<_>>().join(", ");
    // Before the rules of kube-proxy. Packets between pods on one bridge pass this hook, because
    // cluster/up asks for that.
    let chain = format!(
        "chain forward {{
           type filter hook forward priority -10; policy accept;
           ip saddr {activator} ip daddr {{ {autoscalers} }} tcp dport 8080 counter drop
         }}"
    );
    Table::load(TABLE, &chain).await
}

/// Whether this runs inside of the network of a cluster that cluster/up made.
async fn is_inside() -> bool {
    let look = ["-brief", "address", "show", "dev", "cni0"];
    let said = Command::new("ip").args(look).stderr(Stdio::null()).output().await;
    said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("10.88.0.1/"))
}

/// One field of the pods of a component of Ebb, separated by spaces.
async fn pods(kubectl: &Kubectl, component: &str, field: &str) -> anyhow::Result<String> {
    let label = format!("app.kubernetes.io/component={component}");
    let path = format!("jsonpath={{.items[*]{field}}}");
    kubectl.ok(&["-n", "knative-serving", "get", "pods", "-l", &label, "-o", &path]).await
}

async fn set_notice(kubectl: &Kubectl, setting: &str) -> anyhow::Result<()> {
    let autoscaler = ["-n", "knative-serving"];
    let set = ["set", "env", "deployment/ebb-autoscaler", setting];
    kubectl.ok(&[&autoscaler[..], &set].concat()).await?;
    let wait = ["rollout", "status", "--timeout=110s", "deployment/ebb-autoscaler"];
    kubectl.ok(&[&autoscaler[..], &wait].concat()).await?;
    // The rule is to name the new pods alone, so the old ones have to be gone.
    eventually("two autoscalers are left", || async {
        let names = pods(kubectl, "autoscaler", ".metadata.name").await.ok()?;
        (names.split_whitespace().count() == 2).then_some(())
    })
    .await;
    Ok(())
}

async fn desired(kubectl: &Kubectl) -> anyhow::Result<String> {
    kubectl.field("rev/held-00001", "{.status.desiredReplicas}").await
}

async fn cut_off(kubectl: &Kubectl) -> anyhow::Result<()> {
    // While every activator is heard, a silent service goes to sleep.
    kubectl.apply(&backend("before", &[])).await?;
    kubectl.wait_ready("before").await?;
    kubectl.wait_asleep("before").await;

    let names = pods(kubectl, "activator", ".metadata.name").await?;
    let addresses = pods(kubectl, "activator", ".status.podIP").await?;
    let autoscalers = pods(kubectl, "autoscaler", ".status.podIP").await?;
    let name = names.split_whitespace().next().context("there are activators")?;
    let address = addresses.split_whitespace().next().context("they have addresses")?;
    let cut = cut(address, &autoscalers).await?;
    let two = "autoscaling.knative.dev/initial-scale: \"2\"";
    kubectl.apply(&service("held", "ebb-backend", &[], two, "")).await?;
    kubectl.wait_ready("held").await?;
    let start = Instant::now();
    while start.elapsed() < LONG {
        assert_eq!(desired(kubectl).await?, "2", "after {:?}", start.elapsed());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let select = "--field-selector=involvedObject.name=held-00001,reason=ScaleDownHeld";
    let said = eventually("an Event says what holds it", || async {
        let events = ["get", "events", select, "-o", "jsonpath={.items[*].message}"];
        kubectl.ok(&events).await.ok().filter(|said| !said.is_empty())
    })
    .await;
    assert!(said.contains(name) && said.contains("reports port"), "{said}");
    assert!(cut.counted().await? > 0, "nothing was cut off");
    drop(cut);
    kubectl.wait_asleep("held").await;
    Ok(())
}

#[tokio::test]
async fn a_scale_is_not_lowered_while_one_of_two_activators_cannot_report() -> anyhow::Result<()> {
    if !is_inside().await {
        println!("left out: the network of a given cluster is not ours to cut");
        return Ok(());
    }
    let ebb = Ebb::start_quick().await?;
    let kubectl = ebb.kubectl();
    set_notice(&kubectl, NOTICE).await?;
    let outcome = cut_off(&kubectl).await;
    set_notice(&kubectl, "EBB_UNHEARD_NOTICE-").await?;
    outcome
}
