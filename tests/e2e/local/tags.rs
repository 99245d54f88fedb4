//! What `config-features`, `config-domain` and `config-network` make of hosts and tags.

use ebb_tests::ebb::Ebb;
use ebb_tests::eventually;
use ebb_tests::manifest::backend;

/// Settings of hosts that are not the usual ones, and of tags by a header.
const SETTINGS: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: config-features, namespace: knative-serving}
data: {tag-header-based-routing: Enabled}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config-domain, namespace: knative-serving}
data:
  example.com: ''
  red.example.com: 'selector: {team: red}'
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config-network, namespace: knative-serving}
data: {domain-template: '{{.Name}}-{{.Namespace}}.{{.Domain}}'}
";

#[tokio::test]
async fn a_header_chooses_a_tag_and_labels_choose_a_domain() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    for (text, revision) in [("one", "hello-00001"), ("two", "hello-00002")] {
        kubectl.apply(&backend("hello", &["--text", text])).await?;
        let ready = format!("--for=jsonpath={{.status.latestReadyRevisionName}}={revision}");
        kubectl.ok(&["wait", &ready, "--timeout=60s", "ksvc/hello"]).await?;
    }
    let split = r#"{"spec":{"traffic":[
        {"revisionName":"hello-00002","percent":100},
        {"revisionName":"hello-00001","tag":"old"}]}}"#;
    kubectl.ok(&["patch", "ksvc", "hello", "--type", "merge", "-p", split]).await?;
    let url = "{.status.traffic[1].url}";
    let tagged = eventually("the tag has a host", || async {
        kubectl.field("ksvc/hello", url).await.ok().filter(|url| !url.is_empty())
    })
    .await;
    assert_eq!(tagged, format!("http://{}", ebb.host("old-hello")));

    let client = ebb.client();
    let text = async |host: &str, tag: &'static str| -> Option<String> {
        let answer = client.with_tag(tag).get(host, "/").await.ok()?;
        (answer.status == 200).then(|| answer.field("text"))
    };
    let own = ebb.host("hello");
    assert_eq!(text(&own, "old").await.as_deref(), Some("two"), "it is not allowed yet");
    kubectl.apply(SETTINGS).await?;
    eventually("the header is heeded", || async {
        text("hello-default.example.com", "old").await.filter(|text| text == "one")
    })
    .await;
    let own = "hello-default.example.com";
    assert_eq!(text(own, "other").await.as_deref(), Some("two"));
    assert_eq!(kubectl.field("ksvc/hello", "{.status.url}").await?, format!("http://{own}"));

    kubectl.ok(&["label", "ksvc", "hello", "team=red"]).await?;
    let red = "hello-default.red.example.com";
    eventually("the label has given it another domain", || async {
        text(red, "").await.filter(|text| text == "two")
    })
    .await;
    assert_eq!(client.get(own, "/").await?.status, 404, "the other domain is its own no more");
    let tagged = kubectl.field("ksvc/hello", url).await?;
    assert_eq!(tagged, format!("http://old-{red}"));
    Ok(())
}
