//! A service when the leading process has ended.

use ebb_tests::client::Client;
use ebb_tests::eventually;
use ebb_tests::kubectl::Kubectl;

use crate::bed::{Bed, Daemon, backend, host};

/// Waits until a replica other than `not` holds a lease. Returns its name.
async fn holder(kubectl: &Kubectl, lease: &str, not: &str) -> String {
    eventually(&format!("{lease} is held"), || async {
        let path = ["get", "lease", lease, "-n", "knative-serving", "-o"];
        let path = [path.as_slice(), &["jsonpath={.spec.holderIdentity}"]].concat();
        let holder = kubectl.ok(&path).await.ok()?;
        (!holder.is_empty() && holder != not).then_some(holder)
    })
    .await
}

/// The leader of the two, and the other.
fn split(pair: [Daemon; 2], holder: &str) -> (Daemon, Daemon) {
    let [first, second] = pair;
    if holder.ends_with('0') { (first, second) } else { (second, first) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_wakes_a_service_although_the_leading_autoscaler_just_died() -> anyhow::Result<()>
{
    let bed = Bed::start().await?;
    let _controller = bed.controller("controller-0").await?;
    let autoscalers =
        [bed.autoscaler("autoscaler-0").await?, bed.autoscaler("autoscaler-1").await?];
    let activator = bed.activator("activator-0", &[&autoscalers[0], &autoscalers[1]]).await?;
    let kubectl = bed.kubectl();
    kubectl.apply(&backend("hello")).await?;
    kubectl.wait_ready("hello").await?;
    let client = Client::new(activator.address);
    kubectl.wait_asleep("hello").await;
    let leader = holder(&kubectl, "ebb-autoscaler", "").await;
    let (leading, _standby) = split(autoscalers, &leader);
    leading.kill().await?;
    let answer = client.get(&host("hello"), "/").await?;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_ne!(holder(&kubectl, "ebb-autoscaler", &leader).await, leader);
    // The autoscaler that took over also puts the service to sleep again.
    kubectl.wait_asleep("hello").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_controller_goes_on_at_once_when_the_leading_one_ends() -> anyhow::Result<()> {
    let bed = Bed::start().await?;
    let controllers =
        [bed.controller("controller-0").await?, bed.controller("controller-1").await?];
    let _autoscaler = bed.autoscaler("autoscaler-0").await?;
    let kubectl = bed.kubectl();
    kubectl.apply(&backend("before")).await?;
    kubectl.wait_ready("before").await?;
    let leader = holder(&kubectl, "ebb-controller", "").await;
    let (leading, _standby) = split(controllers, &leader);
    leading.terminate();
    assert_eq!(leading.ended().await?, Some(0));
    kubectl.apply(&backend("after")).await?;
    kubectl.wait_ready("after").await?;
    assert_ne!(holder(&kubectl, "ebb-controller", &leader).await, leader);
    Ok(())
}
