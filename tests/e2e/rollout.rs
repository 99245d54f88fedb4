//! Revisions side by side: splits, tags, rollback.

use std::collections::{BTreeMap, BTreeSet};

use ebb_tests::ebb::Ebb;
use ebb_tests::manifest::backend;
use ebb_tests::{PATIENCE, eventually, incarnations};
use tokio::time::Instant;

/// Requests for a split: with 200 at 50/50, fewer than a quarter on one side has a chance below
/// 1e-12.
const REQUESTS: usize = 200;

async fn two_revisions(ebb: &Ebb) -> anyhow::Result<()> {
    let kubectl = ebb.kubectl();
    for (text, revision) in [("one", "hello-00001"), ("two", "hello-00002")] {
        kubectl.apply(&backend("hello", &["--text", text])).await?;
        let ready = format!("--for=jsonpath={{.status.latestReadyRevisionName}}={revision}");
        kubectl.ok(&["wait", &ready, "--timeout=60s", "ksvc/hello"]).await?;
        kubectl.wait_ready("hello").await?;
    }
    Ok(())
}

async fn texts(ebb: &Ebb, host: &str, count: usize) -> anyhow::Result<BTreeMap<String, usize>> {
    let client = ebb.client();
    let mut seen = BTreeMap::new();
    for _ in 0..count {
        let answer = client.get(host, "/").await?;
        assert_eq!(answer.status, 200, "{}", answer.text);
        *seen.entry(answer.field("text")).or_default() += 1;
    }
    Ok(seen)
}

#[tokio::test]
async fn a_split_sends_half_to_each_revision_and_a_tag_has_a_host_of_its_own() -> anyhow::Result<()>
{
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    two_revisions(&ebb).await?;
    let split = r#"{"spec":{"traffic":[
        {"revisionName":"hello-00001","percent":50,"tag":"blue"},
        {"revisionName":"hello-00002","percent":50,"tag":"green"}]}}"#;
    kubectl.ok(&["patch", "ksvc", "hello", "--type", "merge", "-p", split]).await?;
    kubectl
        .ok(&[
            "wait",
            r#"--for=jsonpath={.status.traffic[?(@.tag=="green")].tag}=green"#,
            "--timeout=60s",
            "ksvc/hello",
        ])
        .await?;
    kubectl.wait_ready("hello").await?;

    let seen = texts(&ebb, &ebb.host("hello"), REQUESTS).await?;
    for text in ["one", "two"] {
        assert!(seen.get(text).is_some_and(|count| *count >= REQUESTS / 4), "{seen:?}");
    }
    let url = kubectl.field("ksvc/hello", "{.status.traffic[0].url}").await?;
    assert_eq!(url, format!("http://{}", ebb.host("blue-hello")));
    assert_eq!(
        texts(&ebb, &ebb.host("blue-hello"), 10).await?,
        BTreeMap::from([("one".into(), 10)])
    );
    assert_eq!(
        texts(&ebb, &ebb.host("green-hello"), 10).await?,
        BTreeMap::from([("two".into(), 10)])
    );
    Ok(())
}

/// A field that is removed from an item of a list is also gone from everything that was made from
/// it.
#[tokio::test]
async fn arguments_and_a_tag_that_are_taken_out_are_gone() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(&backend("hello", &["--text", "one"])).await?;
    kubectl.wait_ready("hello").await?;
    let without = backend("hello", &[]).replace(", args: []", "");
    assert!(!without.contains("args"), "{without}");
    kubectl.apply(&without).await?;
    let second = "--for=jsonpath={.status.latestReadyRevisionName}=hello-00002";
    kubectl.ok(&["wait", second, "--timeout=60s", "ksvc/hello"]).await?;
    assert_eq!(kubectl.field("rev/hello-00002", "{.spec.containers[0].args}").await?, "");

    for (tag, wanted) in [(r#","tag":"blue""#, "blue"), ("", "")] {
        let traffic =
            format!(r#"{{"spec":{{"traffic":[{{"latestRevision":true,"percent":100{tag}}}]}}}}"#);
        kubectl.ok(&["patch", "ksvc", "hello", "--type", "merge", "-p", &traffic]).await?;
        eventually("the tag follows", || async {
            let tags = kubectl.field("rt/hello", "{.status.traffic[*].tag}").await.ok()?;
            (tags == wanted).then_some(())
        })
        .await;
    }
    Ok(())
}

#[tokio::test]
async fn a_rollback_sends_everything_to_the_old_revision_without_losing_a_request()
-> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    two_revisions(&ebb).await?;
    assert_eq!(texts(&ebb, &ebb.host("hello"), 5).await?, BTreeMap::from([("two".into(), 5)]));
    let back = r#"{"spec":{"traffic":[{"revisionName":"hello-00001","percent":100}]}}"#;
    let (client, host) = (ebb.client(), ebb.host("hello"));
    let traffic = tokio::spawn(async move {
        for _ in 0..200 {
            let answer = client.get(&host, "/").await?;
            anyhow::ensure!(answer.status == 200, "{} {}", answer.status, answer.text);
        }
        anyhow::Ok(())
    });
    kubectl.ok(&["patch", "ksvc", "hello", "--type", "merge", "-p", back]).await?;
    kubectl
        .ok(&[
            "wait",
            "--for=jsonpath={.status.traffic[0].revisionName}=hello-00001",
            "--timeout=60s",
            "ksvc/hello",
        ])
        .await?;
    traffic.await??;
    assert_eq!(texts(&ebb, &ebb.host("hello"), 5).await?, BTreeMap::from([("one".into(), 5)]));
    Ok(())
}

#[tokio::test]
async fn a_revision_that_fails_leaves_the_traffic_where_it_was() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(&backend("hello", &["--text", "one"])).await?;
    kubectl.wait_ready("hello").await?;
    kubectl.apply(&backend("hello", &["--exit-code", "7"])).await?;
    kubectl.ok(&["wait", "--for=condition=Ready=False", "--timeout=60s", "ksvc/hello"]).await?;
    assert_eq!(texts(&ebb, &ebb.host("hello"), 5).await?, BTreeMap::from([("one".into(), 5)]));
    kubectl.apply(&backend("hello", &["--text", "three"])).await?;
    kubectl
        .ok(&[
            "wait",
            "--for=jsonpath={.status.latestReadyRevisionName}=hello-00003",
            "--timeout=60s",
            "ksvc/hello",
        ])
        .await?;
    kubectl.wait_ready("hello").await?;
    assert_eq!(texts(&ebb, &ebb.host("hello"), 5).await?, BTreeMap::from([("three".into(), 5)]));
    Ok(())
}

/// tests/cluster repeats this two hundred times.
#[tokio::test]
async fn a_name_that_is_used_again_is_never_answered_by_its_earlier_owner() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let answered = incarnations::follow(&ebb, 8).await?;
    println!("{answered} requests were answered");
    Ok(())
}

/// Requests move to the new Revision in steps, and the Service says so until all have.
#[tokio::test]
async fn a_gradual_rollout_moves_requests_step_by_step() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    kubectl.apply(&backend("hello", &["--text", "one"])).await?;
    kubectl.wait_ready("hello").await?;
    let gradual = "serving.knative.dev/rollout-duration=8s";
    kubectl.ok(&["annotate", "ksvc", "hello", gradual]).await?;
    kubectl.apply(&backend("hello", &["--text", "two"])).await?;
    // Shares, oldest Revision first, such as `99 1`, and why the Route is not ready.
    let part =
        r#"{.status.traffic[*].percent},{.status.conditions[?(@.type=="RoutesReady")].reason}"#;
    let mut seen = Vec::new();
    let (mut reasons, mut texts_seen) = (BTreeSet::new(), BTreeSet::new());
    let deadline = Instant::now() + PATIENCE;
    while seen.last().is_none_or(|shares| *shares != [100] || seen.len() == 1) {
        assert!(Instant::now() < deadline, "{seen:?}");
        let said = kubectl.field("ksvc/hello", part).await?;
        let (shares, reason) = said.split_once(',').unwrap();
        let shares: Vec<u32> = shares.split(' ').map(|share| share.parse().unwrap()).collect();
        assert_eq!(shares.iter().sum::<u32>(), 100, "{said}");
        if shares.len() > 1 {
            reasons.insert(reason.to_owned());
            texts_seen.extend(texts(&ebb, &ebb.host("hello"), 20).await?.into_keys());
        }
        if seen.last() != Some(&shares) {
            seen.push(shares);
        }
    }
    let newest: Vec<u32> = seen.iter().skip(1).map(|shares| *shares.last().unwrap()).collect();
    assert!(newest.len() > 3 && newest.is_sorted(), "{seen:?}");
    assert_eq!(reasons, ["RolloutInProgress".to_owned()].into());
    assert_eq!(texts_seen, ["one".to_owned(), "two".to_owned()].into());
    kubectl.wait_ready("hello").await?;
    assert_eq!(texts(&ebb, &ebb.host("hello"), 10).await?, [("two".to_owned(), 10)].into());
    let note = kubectl.field("route/hello", "{.status.annotations}").await?;
    assert_eq!(note, "", "nothing is left of it");
    Ok(())
}
