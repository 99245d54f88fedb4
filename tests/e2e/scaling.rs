//! Replicas follow the load: bounds, limits, and to zero and back.

use std::collections::BTreeSet;

use ebb_tests::ebb::Ebb;
use ebb_tests::eventually;
use ebb_tests::manifest::{backend, service};
use futures::future::join_all;

#[tokio::test]
async fn to_zero_and_back_twenty_times_without_losing_a_request() -> anyhow::Result<()> {
    let ebb = Ebb::start_quick().await?;
    ebb.kubectl().apply(&backend("hello", &[])).await?;
    ebb.kubectl().wait_ready("hello").await?;
    let client = ebb.client();
    let mut replicas = BTreeSet::new();
    for _ in 0..20 {
        ebb.kubectl().wait_asleep("hello").await;
        let answer = client.get(&ebb.host("hello"), "/").await?;
        assert_eq!(answer.status, 200, "{}", answer.text);
        replicas.insert(answer.field("instance"));
    }
    assert_eq!(replicas.len(), 20, "every wake is a new replica: {replicas:?}");
    assert!(ebb.wakes("hello-00001").is_none_or(|wakes| wakes == 20));
    Ok(())
}

#[tokio::test]
async fn a_sleeping_service_stays_ready_and_says_that_it_gets_no_traffic() -> anyhow::Result<()> {
    let ebb = Ebb::start_quick().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(&backend("hello", &[])).await?;
    kubectl.wait_ready("hello").await?;
    ebb.kubectl().wait_asleep("hello").await;
    let active = r#"{.status.conditions[?(@.type=="Active")].reason}"#;
    eventually("Active says NoTraffic", || async {
        (kubectl.field("rev/hello-00001", active).await.ok()? == "NoTraffic").then_some(())
    })
    .await;
    let ready = r#"{.status.conditions[?(@.type=="Ready")].status}"#;
    assert_eq!(kubectl.field("ksvc/hello", ready).await?, "True");
    assert_eq!(kubectl.field("rev/hello-00001", "{.status.desiredReplicas}").await?, "0");
    Ok(())
}

#[tokio::test]
async fn two_hundred_first_requests_are_answered_one_at_a_time_by_four_replicas()
-> anyhow::Result<()> {
    let ebb = Ebb::start_quick().await?;
    let bounds = r#"autoscaling.knative.dev/max-scale: "4""#;
    let manifest = service("single", "ebb-backend", &[], bounds, "containerConcurrency: 1");
    ebb.kubectl().apply(&manifest).await?;
    ebb.kubectl().wait_ready("single").await?;
    ebb.kubectl().wait_asleep("single").await;
    let (client, host) = (ebb.client(), ebb.host("single"));
    let answers = join_all((0..200).map(|_| client.get(&host, "/exclusive?ms=50"))).await;
    let mut replicas = BTreeSet::new();
    for answer in answers {
        let answer = answer?;
        assert_eq!(answer.status, 200, "{}", answer.text);
        replicas.insert(answer.text);
    }
    assert!((2..=4).contains(&replicas.len()), "served by {replicas:?}");
    Ok(())
}

#[tokio::test]
async fn min_scale_keeps_a_replica_and_max_scale_bounds_them_under_load() -> anyhow::Result<()> {
    let ebb = Ebb::start_quick().await?;
    let kubectl = ebb.kubectl();
    let bounds =
        r#"autoscaling.knative.dev/min-scale: "1", autoscaling.knative.dev/max-scale: "2""#;
    let manifest = service("bounded", "ebb-backend", &[], bounds, "containerConcurrency: 2");
    kubectl.apply(&manifest).await?;
    kubectl.wait_ready("bounded").await?;
    let (client, host) = (ebb.client(), ebb.host("bounded"));
    // A replica that is being deleted no longer counts, here as in a Deployment's status.
    let names =
        "{{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}}\n{{end}}{{end}}";
    let names = format!("go-template={names}");
    let pods = ["get", "pods", "-l", "serving.knative.dev/service=bounded", "-o", &names];
    let load = tokio::spawn(async move {
        let worker = |_| {
            let (client, host) = (client.clone(), host.clone());
            async move {
                for _ in 0..40 {
                    let answer = client.get(&host, "/sleep?ms=200").await?;
                    anyhow::ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
                }
                anyhow::Ok(())
            }
        };
        join_all((0..20).map(worker)).await.into_iter().collect::<anyhow::Result<Vec<_>>>()
    });
    let mut most = 0;
    while !load.is_finished() {
        most = most.max(kubectl.ok(&pods).await?.lines().count());
    }
    load.await??;
    assert_eq!(most, 2, "replicas under load");
    eventually("one replica is left", || async {
        (kubectl.ok(&pods).await.ok()?.lines().count() == 1).then_some(())
    })
    .await;
    // Longer than the window and the grace period together: the replica must stay.
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert_eq!(kubectl.ok(&pods).await?.lines().count(), 1);
    Ok(())
}

#[tokio::test]
async fn a_request_in_flight_survives_the_scale_down_of_its_replica() -> anyhow::Result<()> {
    let ebb = Ebb::start_quick().await?;
    let manifest = service("slow", "ebb-backend", &[], "", "containerConcurrency: 1");
    ebb.kubectl().apply(&manifest).await?;
    ebb.kubectl().wait_ready("slow").await?;
    let (client, host) = (ebb.client(), ebb.host("slow"));
    // One long request keeps its replica busy while the burst around it comes and goes.
    let (busy, at) = (client.clone(), host.clone());
    let long = tokio::spawn(async move { busy.get(&at, "/sleep?ms=25000").await });
    for answer in join_all((0..6).map(|_| client.get(&host, "/sleep?ms=1000"))).await {
        assert_eq!(answer?.status, 200);
    }
    let answer = long.await??;
    assert_eq!(answer.status, 200, "{}", answer.text);
    Ok(())
}
