//! The two doors of `ebb local`: private services answer at the inner one alone.

use ebb_tests::ebb::Ebb;
use ebb_tests::eventually;
use ebb_tests::manifest::backend;

/// The label that makes a Service private.
const PRIVATE: &str = "networking.knative.dev/visibility=cluster-local";
/// Gives the first revision a tag.
const TAG: &str = r#"{"spec":{"traffic":[
    {"revisionName":"priv-00001","percent":100,"tag":"blue"}]}}"#;

/// `curl -H 'Host: priv.default.svc.cluster.local' GATEWAY` was once answered by the model.
#[tokio::test]
async fn a_private_service_is_unknown_outside_and_answers_inside() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = ebb.kubectl();
    for name in ["open", "priv"] {
        kubectl.apply(&backend(name, &[])).await?;
        kubectl.wait_ready(name).await?;
    }
    assert_eq!(ebb.client().get(&ebb.host("priv"), "/").await?.status, 200);
    kubectl.ok(&["label", "ksvc", "priv", PRIVATE]).await?;
    kubectl.ok(&["patch", "ksvc", "priv", "--type", "merge", "-p", TAG]).await?;
    for (field, url) in [
        ("url", "http://priv.default.svc.cluster.local"),
        ("traffic[0].url", "http://blue-priv.default.svc.cluster.local"),
    ] {
        let told = format!("--for=jsonpath={{.status.{field}}}={url}");
        kubectl.ok(&["wait", &told, "--timeout=60s", "route/priv"]).await?;
    }
    let (outer, inner) = (ebb.client(), ebb.inner_client());
    // The activator hears of the Route by a watch of its own.
    eventually("the activator knows that the Service is private", || async {
        let answer = outer.get(&ebb.host("priv"), "/").await.ok()?;
        (answer.status == 404).then_some(())
    })
    .await;
    let unknown = outer.get("nobody.default.localhost", "/").await?;
    assert_eq!(unknown.status, 404);
    for name in ["priv", "blue-priv", "open"] {
        for domain in ["default", "default.svc", "default.svc.cluster.local"] {
            let host = format!("{name}.{domain}");
            let outside = outer.get(&host, "/").await?;
            assert_eq!((outside.status, &outside.text), (unknown.status, &unknown.text), "{host}");
            let inside = inner.get(&host, "/").await?;
            assert_eq!(inside.status, 200, "{host}: {}", inside.text);
        }
    }
    for host in [ebb.host("priv"), ebb.host("blue-priv")] {
        assert_eq!(outer.get(&host, "/").await?.status, 404, "{host}");
    }
    for client in [outer, inner] {
        assert_eq!(client.get(&ebb.host("open"), "/").await?.status, 200);
    }
    Ok(())
}
