//! A service when no autoscaler is left.

use ebb_tests::client::Client;

use crate::bed::{Bed, backend, host};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_request_is_served_although_no_autoscaler_runs() -> anyhow::Result<()> {
    let bed = Bed::start().await?;
    let _controller = bed.controller("controller-0").await?;
    let autoscaler = bed.autoscaler("autoscaler-0").await?;
    let activators = [
        bed.activator("activator-0", &[&autoscaler]).await?,
        bed.activator("activator-1", &[&autoscaler]).await?,
    ];
    let kubectl = bed.kubectl();
    kubectl.apply(&backend("hello")).await?;
    kubectl.wait_ready("hello").await?;
    kubectl.wait_asleep("hello").await;
    let address = autoscaler.address;
    autoscaler.kill().await?;
    let clients = activators.each_ref().map(|activator| Client::new(activator.address));
    let host = host("hello");
    let answers = clients.each_ref().map(|client| client.get(&host, "/"));
    for answer in futures::future::join_all(answers).await {
        let answer = answer?;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    let asks_for = kubectl.field("rev/hello-00001", "{.status.desiredReplicas}").await?;
    assert_eq!(asks_for, "1", "to the initial scale and never more");
    // An autoscaler that comes back decides again.
    let _back = bed.autoscaler_at("autoscaler-1", address).await?;
    kubectl.wait_asleep("hello").await;
    Ok(())
}
