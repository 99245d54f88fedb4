//! The whole server as `kube::Client` sees it, in memory and on a paused clock.

mod collection;
mod concurrency;
mod garbage;
mod poison;
mod restart;
mod validation;
mod watching;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

/// In memory, with kinds and a namespace beside Kubernetes' own.
fn options() -> ApiOptions {
    ApiOptions {
        definitions: ebb_api::crd::all(),
        namespaces: vec!["knative-serving".to_owned()],
        ..ApiOptions::memory()
    }
}

/// A server in memory, and a client of it.
fn server() -> (ApiServer, kube::Client) {
    let server = ApiServer::open(options()).unwrap();
    let client = server.client();
    (server, client)
}

fn config_maps(client: &kube::Client) -> Api<ConfigMap> {
    Api::default_namespaced(client.clone())
}

fn pods(client: &kube::Client) -> Api<Pod> {
    Api::default_namespaced(client.clone())
}

fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn config_map(name: &str, labels: &Value) -> ConfigMap {
    from(json!({ "metadata": { "name": name, "labels": labels }, "data": { "key": "value" } }))
}

fn pod(name: &str) -> Pod {
    from(json!({
        "metadata": { "name": name },
        "spec": {
            "containers": [{ "name": "main", "image": "example" }],
            "terminationGracePeriodSeconds": 7,
        },
    }))
}

async fn create(client: &kube::Client, object: &ConfigMap) -> ConfigMap {
    config_maps(client).create(&PostParams::default(), object).await.unwrap()
}

/// The Status of a request that must fail.
fn status<T: std::fmt::Debug>(result: kube::Result<T>) -> kube::core::Status {
    match result {
        Err(kube::Error::Api(status)) => *status,
        other => panic!("not refused by the server: {other:?}"),
    }
}

/// Lets the background tasks do all that they can do now.
async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

/// One raw request; for requests that `kube::Client` cannot make.
async fn raw(client: &kube::Client, request: http::request::Builder, body: Value) -> Value {
    let body = serde_json::to_vec(&body).unwrap();
    client.request(request.body(body).unwrap()).await.unwrap()
}

/// As [`raw`], with the head of the response.
async fn answer(
    server: &ApiServer,
    request: http::request::Builder,
    body: Value,
) -> (http::response::Parts, Value) {
    use http_body_util::{BodyExt as _, Full};
    use tower::ServiceExt as _;
    let body = Full::new(bytes::Bytes::from(body.to_string()));
    let response = server.service("tester").oneshot(request.body(body).unwrap()).await.unwrap();
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    (head, serde_json::from_slice(&bytes).unwrap())
}

/// Rules for tests: a ConfigMap gets an annotation, one with `data.bad` is refused.
struct Rules;

impl admission::Admission for Rules {
    fn review(&self, review: &admission::Review<'_>) -> admission::AdmissionVerdict {
        use admission::{AdmissionVerdict, Phase};
        let (Some(object), "ConfigMap") = (review.object, review.kind) else {
            return AdmissionVerdict::allowed();
        };
        match review.phase {
            Phase::Mutate => {
                let mut object = object.clone();
                object["metadata"]["annotations"]["by"] = json!(review.user);
                AdmissionVerdict::Allowed {
                    object: Some(object),
                    warnings: vec!["annotated \"it\"".into()],
                }
            }
            Phase::Validate if object["data"]["bad"].is_string() => AdmissionVerdict::Denied {
                code: 400,
                message: "admission webhook \"x\" denied the request: bad".into(),
            },
            Phase::Validate => AdmissionVerdict::allowed(),
        }
    }
}

fn ruled() -> ApiServer {
    let mut options = options();
    options.admission = Arc::new(Rules);
    ApiServer::open(options).unwrap()
}
