//! A service through three processes.

use std::time::Duration;

use ebb_tests::eventually;

use crate::bed::{Bed, backend, host};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_deployed_woken_and_put_to_sleep_by_three_processes() -> anyhow::Result<()> {
    let bed = Bed::start().await?;
    let _controller = bed.controller("controller-0").await?;
    let autoscaler = bed.autoscaler("autoscaler-0").await?;
    let activator = bed.activator("activator-0", &[&autoscaler]).await?;
    let kubectl = bed.kubectl();
    kubectl.apply(&backend("hello")).await?;
    kubectl.wait_ready("hello").await?;
    let client = ebb_tests::client::Client::new(activator.address);
    for _ in 0..2 {
        let answer = client.get(&host("hello"), "/").await?;
        assert_eq!(answer.status, 200, "{}", answer.text);
        kubectl.wait_asleep("hello").await;
    }
    assert_eq!(activator.metric("ebb_activator_report_streams").await, Some(1.0));
    assert_eq!(client.get(&host("nobody"), "/").await?.status, 404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activator_that_is_to_end_lets_its_requests_end_first() -> anyhow::Result<()> {
    let bed = Bed::start().await?;
    let _controller = bed.controller("controller-0").await?;
    let autoscaler = bed.autoscaler("autoscaler-0").await?;
    let (leaving, staying) = (
        bed.activator("activator-0", &[&autoscaler]).await?,
        bed.activator("activator-1", &[&autoscaler]).await?,
    );
    bed.kubectl().apply(&backend("slow")).await?;
    bed.kubectl().wait_ready("slow").await?;
    let client = ebb_tests::client::Client::new(leaving.address);
    assert_eq!(client.get(&host("slow"), "/").await?.status, 200);
    let in_flight = tokio::spawn({
        let client = client.clone();
        async move { client.get(&host("slow"), "/sleep?ms=3000").await }
    });
    eventually("the request is in flight", || async {
        leaving.metric("ebb_activator_in_flight").await.filter(|count| *count > 0.0)
    })
    .await;
    leaving.terminate();
    assert_eq!(in_flight.await??.status, 200);
    assert_eq!(tokio::time::timeout(Duration::from_secs(30), leaving.ended()).await??, Some(0));
    let other = ebb_tests::client::Client::new(staying.address);
    assert_eq!(other.get(&host("slow"), "/").await?.status, 200);
    Ok(())
}
