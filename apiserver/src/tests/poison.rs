//! Objects that are made to break their readers: each is refused or harmless, and every start
//! works.

use tempfile::TempDir;

use super::restart::open;
use super::*;

/// `{"a": {"a": ...}}`, `levels` of it.
fn nested(levels: usize) -> Value {
    (1..levels).fold(json!("deep"), |inner, _| json!({ "a": inner }))
}

fn refused_or_done(head: &http::response::Parts, what: &str) -> bool {
    let code = head.status.as_u16();
    assert!(matches!(code, 200 | 201 | 400 | 413 | 422), "{what}: {code}");
    code < 300
}

const SERVICES: &str = "/apis/serving.knative.dev/v1/namespaces/default/services";

/// A Service whose template's metadata, which are kept as they come, are nested `levels` deep.
fn service(name: &str, levels: usize) -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": { "name": name },
        "spec": { "template": {
            "metadata": { "deep": nested(levels) },
            "spec": { "containers": [{ "image": "example" }] },
        } },
    })
}

/// A patch that wraps `deep` of such a Service into one more object, `times` over.
fn wraps(times: usize) -> Value {
    let deep = "/spec/template/metadata/deep";
    let wraps = (0..times).flat_map(|_| {
        [
            json!({ "op": "move", "from": deep, "path": "/spec/template/metadata/inner" }),
            json!({ "op": "add", "path": deep, "value": {} }),
            json!({
                "op": "move", "from": "/spec/template/metadata/inner", "path": format!("{deep}/a"),
            }),
        ]
    });
    Value::Array(wraps.collect())
}

#[tokio::test]
async fn a_nested_object_is_refused_or_served_and_outlives_a_restart() {
    let folder = TempDir::new().unwrap();
    let server = open(folder.path()).unwrap();
    let mut names = Vec::new();
    for levels in (70..140).chain([1_000]) {
        let name = format!("deep-{levels}");
        let (head, _) =
            answer(&server, http::Request::post(SERVICES), service(&name, levels)).await;
        if refused_or_done(&head, &name) {
            names.push(name);
        }
    }
    assert!(names.contains(&"deep-80".to_owned()), "{names:?}");
    assert!(!names.contains(&"deep-100".to_owned()), "{names:?}");
    for (times, expected) in [(5, 200), (60, 422)] {
        let patch = http::Request::patch(format!("{SERVICES}/deep-70"))
            .header("content-type", "application/json-patch+json");
        let (head, _) = answer(&server, patch, wraps(times)).await;
        assert_eq!(head.status, expected);
    }
    for extra in [20, 40] {
        let patch = http::Request::patch(format!("{SERVICES}/deep-71"))
            .header("content-type", "application/merge-patch+json");
        let document =
            json!({ "spec": { "template": { "metadata": { "more": nested(extra * 3) } } } });
        let (head, _) = answer(&server, patch, document).await;
        refused_or_done(&head, "merge");
    }
    server.close().await;

    let server = open(folder.path()).unwrap();
    let (head, list) = answer(&server, http::Request::get(SERVICES), Value::Null).await;
    assert_eq!((head.status.as_u16(), list["items"].as_array().unwrap().len()), (200, names.len()));
    for name in names {
        let patch = http::Request::patch(format!("{SERVICES}/{name}"))
            .header("content-type", "application/merge-patch+json");
        let label = json!({ "metadata": { "labels": { "later": "yes" } } });
        let (head, _) = answer(&server, patch, label).await;
        refused_or_done(&head, &name);
    }
}

#[tokio::test]
async fn an_object_grows_to_its_limit_and_no_further() {
    let (server, client) = server();
    create(&client, &config_map("large", &json!({}))).await;
    let path = "/api/v1/namespaces/default/configmaps/large";
    let mut codes = Vec::new();
    for part in 0..4 {
        let document = json!({ "data": { format!("part-{part}"): "x".repeat(1_000_000) } });
        let request =
            http::Request::patch(path).header("content-type", "application/merge-patch+json");
        codes.push(answer(&server, request, document).await.0.status.as_u16());
    }
    assert_eq!(codes, [200, 200, 200, 413]);
    let data = config_maps(&client).get("large").await.unwrap().data.unwrap();
    assert!(data.contains_key("part-2") && !data.contains_key("part-3"));
}
