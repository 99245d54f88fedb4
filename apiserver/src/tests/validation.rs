//! The steps of a write: strictness, schema, admission, dry run, limits.

use kube::api::{ListParams, Patch, PatchParams};

use super::*;

const SERVICES: &str = "/apis/serving.knative.dev/v1/namespaces/default/services";

fn service_with_a_typo() -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Service",
        "metadata": { "name": "hello" },
        "spec": { "template": { "spec": {
            "foo": 1, "containers": [{ "image": "example" }],
        } } },
    })
}

fn post(query: &str) -> http::request::Builder {
    http::Request::post(format!("{SERVICES}?{query}"))
}

#[tokio::test(start_paused = true)]
async fn strict_validation_names_the_unknown_field() {
    let (server, _client) = server();
    let (head, body) = answer(&server, post("fieldValidation=Strict"), service_with_a_typo()).await;
    assert_eq!(head.status, 400);
    assert_eq!(
        body["message"],
        "Service in version \"v1\" cannot be handled as a Service: strict decoding error: \
         unknown field \"spec.template.spec.foo\""
    );
}

#[tokio::test(start_paused = true)]
async fn by_default_an_unknown_field_is_dropped_with_a_warning() {
    let (server, _client) = server();
    let (head, body) = answer(&server, post(""), service_with_a_typo()).await;
    assert_eq!(head.status, 201);
    let warning = head.headers.get("warning").unwrap().to_str().unwrap();
    assert_eq!(warning, "299 - \"unknown field \\\"spec.template.spec.foo\\\"\"");
    assert_eq!(body["spec"]["template"]["spec"].get("foo"), None);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_breaks_its_schema_is_invalid() {
    let (server, _client) = server();
    let mut service = service_with_a_typo();
    service["spec"]["template"]["spec"]["containers"] = json!("none");
    let (head, body) = answer(&server, post("fieldValidation=Ignore"), service).await;
    assert_eq!((head.status.as_u16(), &body["reason"]), (422, &json!("Invalid")), "{body}");
    let field = body["details"]["causes"][0]["field"].as_str().unwrap();
    assert_eq!(field, "spec.template.spec.containers");
}

#[tokio::test(start_paused = true)]
async fn admission_changes_warns_and_refuses() {
    let server = ruled();
    let path = "/api/v1/namespaces/default/configmaps";
    let good = json!({ "metadata": { "name": "good" } });
    let (head, body) = answer(&server, http::Request::post(path), good).await;
    assert_eq!(body["metadata"]["annotations"]["by"], "tester");
    assert_eq!(head.headers["warning"], "299 - \"annotated \\\"it\\\"\"");
    let bad = json!({ "metadata": { "name": "bad" }, "data": { "bad": "yes" } });
    let (head, body) = answer(&server, http::Request::post(path), bad).await;
    assert_eq!(head.status, 400);
    assert_eq!(body["message"], "admission webhook \"x\" denied the request: bad");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_answers_as_the_write_would_and_stores_nothing() {
    let (_server, client) = server();
    let api = config_maps(&client);
    let dry = PostParams { dry_run: true, field_manager: None };
    let answer = api.create(&dry, &config_map("a", &json!({}))).await.unwrap();
    assert!(answer.metadata.uid.is_some());
    assert!(api.list(&ListParams::default()).await.unwrap().items.is_empty());

    create(&client, &config_map("a", &json!({}))).await;
    assert_eq!(status(api.create(&dry, &config_map("a", &json!({}))).await).code, 409);
    let params = PatchParams::default().dry_run();
    let patch = Patch::Merge(json!({ "data": { "key": "other" } }));
    let patched = api.patch("a", &params, &patch).await.unwrap();
    assert_eq!(patched.data.unwrap()["key"], "other");
    assert_eq!(api.get("a").await.unwrap().data.unwrap()["key"], "value");
}

#[tokio::test(start_paused = true)]
async fn bodies_of_another_kind_place_or_size_are_refused() {
    let (server, _client) = server();
    let path = "/api/v1/namespaces/default/configmaps";
    let cases = [
        (json!({ "kind": "Secret", "metadata": { "name": "a" } }), 400),
        (json!({ "metadata": { "name": "a", "namespace": "other" } }), 400),
        (json!({ "metadata": { "name": "a", "resourceVersion": "1" } }), 400),
        (json!([]), 400),
        (json!({ "metadata": { "name": "a" }, "data": { "a": "x".repeat(4 << 20) } }), 413),
    ];
    for (body, code) in cases {
        let (head, answer) = answer(&server, http::Request::post(path), body).await;
        assert_eq!(head.status, code, "{answer}");
    }
    let strategic = http::Request::patch(format!("{SERVICES}/x"))
        .header("content-type", "application/strategic-merge-patch+json");
    let (head, _) = answer(&server, strategic, json!({})).await;
    assert_eq!(head.status, 415);
}
