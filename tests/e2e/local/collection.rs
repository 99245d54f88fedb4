//! Revisions that no Route refers to any more are deleted, as `config-gc` says.

use anyhow::ensure;
use ebb_tests::ebb::Ebb;
use ebb_tests::eventually;
use ebb_tests::manifest::service;

/// Settings that keep no Revision that is of no use.
const AT_ONCE: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: config-gc, namespace: knative-serving}
data:
  retain-since-create-time: disabled
  retain-since-last-active-time: disabled
  min-non-active-revisions: \"0\"
  max-non-active-revisions: \"0\"
";

#[tokio::test]
async fn what_no_route_refers_to_goes_and_the_rest_stays() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    // Each template has a Revision; the second is kept by an annotation, the third by a tag.
    for (name, kept) in
        [("00001", "false"), ("00002", "true"), ("00003", "false"), ("00004", "false")]
    {
        let note = format!("serving.knative.dev/no-gc: {kept:?}, test.ebb.dev/name: {name:?}");
        kubectl.apply(&service("gone", "ebb-backend", &[], &note, "")).await?;
        eventually("the Revision is ready", || async {
            let ready =
                kubectl.field("ksvc/gone", "{.status.latestReadyRevisionName}").await.ok()?;
            (ready == format!("gone-{name}")).then_some(())
        })
        .await;
    }
    let tagged = r#"{"spec": {"traffic": [
        {"latestRevision": true, "percent": 100},
        {"revisionName": "gone-00003", "tag": "old", "percent": 0}]}}"#;
    kubectl.ok(&["patch", "ksvc", "gone", "--type", "merge", "-p", tagged]).await?;
    let revisions = async || kubectl.ok(&["get", "revisions", "-o", "name"]).await;
    ensure!(revisions().await?.lines().count() == 4, "all are kept for two days");

    let refused =
        AT_ONCE.replace("min-non-active-revisions: \"0\"", "min-non-active-revisions: \"1\"");
    let refused = kubectl.fails(&["apply", "-f", "-"], Some(&refused)).await?;
    let why = "max-non-active-revisions: must not be less than min-non-active-revisions";
    ensure!(refused.contains(why), "{refused}");

    // The tag has to be seen first, or the Revision is of no use yet.
    eventually("the tag is in force", || async {
        let tags = kubectl.field("route/gone", "{.status.traffic[*].tag}").await.ok()?;
        (tags == "old").then_some(())
    })
    .await;
    kubectl.apply(AT_ONCE).await?;
    eventually("the first Revision goes", || async {
        let left = revisions().await.ok()?;
        (!left.contains("gone-00001")).then_some(())
    })
    .await;
    let left = revisions().await?;
    ensure!(
        ["gone-00002", "gone-00003", "gone-00004"].iter().all(|name| left.contains(name)),
        "{left}"
    );
    eventually("its Deployment goes with it", || async {
        let deployments = kubectl.ok(&["get", "deployments", "-o", "name"]).await.ok()?;
        (!deployments.contains("gone-00001")).then_some(())
    })
    .await;
    let about = "involvedObject.kind=Configuration,reason=RevisionsDeleted";
    eventually("an event tells", || async {
        let events =
            ["get", "events", "--field-selector", about, "-o", "jsonpath={.items[*].message}"];
        kubectl.ok(&events).await.ok().filter(|said| said.contains("Revisions gone-00001"))
    })
    .await;
    for host in ["gone", "old-gone"] {
        let answer = ebb.client().get(&ebb.host(host), "/").await?;
        ensure!(answer.status == 200, "{host}: {answer:?}");
    }
    Ok(())
}
