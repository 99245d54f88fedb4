//! The two doors of a cluster: a private service through the load balancer, and from a pod.

use ebb_tests::ebb::Ebb;
use ebb_tests::eventually;
use ebb_tests::manifest::{backend, image};

/// The label that makes a Service private.
const PRIVATE: &str = "networking.knative.dev/visibility=cluster-local";
/// Gives the first revision a tag.
const TAG: &str = r#"{"spec":{"traffic":[
    {"revisionName":"priv-00001","percent":100,"tag":"blue"}]}}"#;

/// The load balancer's address once answered for every name that a Route has inside the cluster.
#[tokio::test]
async fn a_private_service_is_reached_by_pods_only() -> anyhow::Result<()> {
    let ebb = Ebb::start_quick().await?;
    let kubectl = ebb.kubectl();
    for name in ["open", "priv"] {
        kubectl.apply(&backend(name, &[])).await?;
        kubectl.wait_ready(name).await?;
    }
    kubectl.ok(&["label", "ksvc", "priv", PRIVATE]).await?;
    kubectl.ok(&["patch", "ksvc", "priv", "--type", "merge", "-p", TAG]).await?;
    let namespace = kubectl.ok(&["config", "view", "--minify", "-o", "jsonpath={..namespace}"]);
    let namespace = namespace.await?;
    for (field, name) in [("url", "priv"), ("traffic[0].url", "blue-priv")] {
        let url = format!("http://{name}.{namespace}.svc.cluster.local");
        let told = format!("--for=jsonpath={{.status.{field}}}={url}");
        kubectl.ok(&["wait", &told, "--timeout=60s", "route/priv"]).await?;
    }
    let client = ebb.client();
    // There are two activators, and one may hear of a change a moment after the other.
    eventually("the external host is gone", || async {
        client.get(&ebb.host("priv"), "/").await.ok().filter(|answer| answer.status == 404)
    })
    .await;
    let unknown = client.get("nobody.ebb.example.com", "/").await?;
    for name in ["priv", "blue-priv", "open"] {
        for domain in ["", ".svc", ".svc.cluster.local"] {
            let host = format!("{name}.{namespace}{domain}");
            let outside = client.get(&host, "/").await?;
            assert_eq!((outside.status, &outside.text), (unknown.status, &unknown.text), "{host}");
        }
    }
    assert_eq!(unknown.status, 404);
    assert_eq!(client.get(&ebb.host("open"), "/").await?.status, 200);
    let image = image("ebb-backend");
    for (number, domain) in ["", ".svc", ".svc.cluster.local"].into_iter().enumerate() {
        let asker = format!("asker-{number}");
        let url = format!("http://priv.{namespace}{domain}/from-inside");
        let run = ["run", &asker, "--restart=Never", "--image", &image, "--", "--ask", &url];
        kubectl.ok(&run).await?;
        let said = eventually("the pod was answered", || async {
            let logs = kubectl.ok(&["logs", &asker]).await.ok()?;
            logs.contains("/from-inside").then_some(logs)
        })
        .await;
        assert!(said.contains("priv-00001"), "{said}");
    }
    Ok(())
}
