//! Two activators that share a concurrency limit.

use ebb_tests::client::Client;
use ebb_tests::eventually;
use futures::future::join_all;

use crate::bed::{Bed, Daemon, host, narrow_backend};

/// Waits until an activator divides the revisions among `count` activators.
async fn members(activator: &Daemon, count: f64) {
    eventually(&format!("{count} activators know each other"), || async {
        let members = activator.metric("ebb_activator_ring_members").await?;
        ((members - count).abs() < 0.5).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_activators_keep_one_limit_and_one_of_them_can_die() -> anyhow::Result<()> {
    let bed = Bed::start().await?;
    let _controller = bed.controller("controller-0").await?;
    let autoscaler = bed.autoscaler("autoscaler-0").await?;
    let first = bed.activator_among_others("activator-0", &[&autoscaler]).await?;
    let second = bed.activator_among_others("activator-1", &[&autoscaler]).await?;
    members(&first, 2.0).await;
    members(&second, 2.0).await;
    let kubectl = bed.kubectl();
    kubectl.apply(&narrow_backend("narrow")).await?;
    kubectl.wait_ready("narrow").await?;
    let clients = [Client::new(first.address), Client::new(second.address)];
    let host = host("narrow");
    let requests = (0..40).map(|number| clients[number % 2].get(&host, "/exclusive?ms=20"));
    for answer in join_all(requests).await {
        let answer = answer?;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    let forwarded = |daemon| Daemon::metric(daemon, "ebb_activator_forwarded_total");
    let (by_first, by_second) =
        (forwarded(&first).await.unwrap_or(0.0), forwarded(&second).await.unwrap_or(0.0));
    assert!((by_first + by_second - 20.0).abs() < 0.5, "{by_first} and {by_second} forwarded");
    // The owner dies, while its Pod still says that it is ready.
    let (owner, client) = if by_first > 0.0 { (second, &clients[0]) } else { (first, &clients[1]) };
    owner.kill().await?;
    let answer = client.get(&host, "/").await?;
    assert_eq!(answer.status, 200, "{}", answer.text);
    Ok(())
}
