//! The models host: lists that wake nothing, and requests that name their model in the body.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use ebb_api::config::NetworkConfig;
use ebb_api::serving::Route;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep};

use super::fixture::*;
use super::peers::{Pair, one_at_a_time};
use crate::WatchChange;
use crate::route::Door;

mod bodies;
mod keys;

const MODELS: &str = "models.example.com";
const CHAT: &str = "/v1/chat/completions";
const MIB: usize = 1024 * 1024;

/// The Route of the revision declares these models.
fn declare(world: &World, models: &str) {
    let network = NetworkConfig { domain: "example.com:8080".into(), ..NetworkConfig::default() };
    world.activator.directory().change_network(&network);
    world.activator.change_routes([WatchChange::Applied(route_of(models))]);
}

/// The Route of the revision, which declares these models.
fn route_of(models: &str) -> Route {
    serde_json::from_value(json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Route",
        "metadata": {
            "name": "digits", "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {"serving.ebb.dev/models": models},
        },
        "spec": {},
        "status": {
            "url": format!("http://{HOST}:8080"),
            "traffic": [{"revisionName": "digits-00001", "percent": 100, "tag": "canary",
                "url": format!("http://canary-{HOST}:8080")}],
        },
    }))
    .unwrap()
}

fn request(method: Method, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).header("host", MODELS);
    request.body(Full::new(body.into())).unwrap()
}

fn chat(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    request(Method::POST, CHAT, body)
}

async fn read(response: Response<Incoming>) -> Value {
    assert_eq!(response.headers()["content-type"], "application/json");
    serde_json::from_str(&text(response).await).unwrap()
}

/// Answers with the length that the head said, and the body.
fn mirror() -> Handler {
    Arc::new(|request| {
        Box::pin(async move {
            let length = request.headers().get("content-length").cloned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let mut response = reply(body);
            length.and_then(|length| response.headers_mut().insert("said-length", length));
            response
        })
    })
}

/// The state of the one model, and why.
async fn state(world: &World) -> (String, Value) {
    let list = read(world.send(request(Method::GET, "/v1/models", "")).await).await;
    assert_eq!(list["object"], "list");
    let model = &list["data"][0];
    assert_eq!((&model["id"], &model["object"]), (&json!("smol"), &json!("model")));
    assert_eq!((&model["owned_by"], &model["created"]), (&json!("default"), &json!(1_767_225_600)));
    let one = read(world.send(request(Method::GET, "/openai/v1/models/smol", "")).await).await;
    assert_eq!(one, *model);
    (model["state"].as_str().unwrap().to_owned(), model["reason"].clone())
}

#[tokio::test(start_paused = true)]
async fn a_list_tells_how_each_model_stands_and_wakes_none() {
    let world = World::new(json!({}));
    declare(&world, "smol");
    assert_eq!(state(&world).await, ("asleep".into(), Value::Null));
    sleep(Duration::from_secs(30)).await;
    assert!(world.notes.reports.lock().is_empty(), "somebody was told to wake it");
    world.tell(1, json!({"phase": "Pending", "podIP": null}));
    assert_eq!(state(&world).await.0, "waking");
    let running = json!([{"name": "ebb-model", "image": "", "imageID": "", "ready": false,
        "restartCount": 0, "state": {"running": {}}}]);
    for (init, phase) in [(json!([]), "pending"), (running, "fetching")] {
        world.tell(1, json!({"phase": "Pending", "podIP": null, "initContainerStatuses": init}));
        let list = read(world.send(request(Method::GET, "/v1/models", "")).await).await;
        assert_eq!(list["data"][0]["phase"], phase);
    }
    world.start(1, echo("hello"));
    settle().await;
    assert_eq!(state(&world).await.0, "ready");
    world.untell(1);
    assert_eq!(state(&world).await.0, "asleep");
    let waiting = json!({"waiting": {"reason": "InvalidImageName", "message": "no such image"}});
    world.tell(2, json!({"podIP": null, "containerStatuses": [{"state": waiting}]}));
    sleep(Duration::from_mins(1)).await;
    let (state, reason) = state(&world).await;
    assert_eq!(state, "failed");
    assert!(reason.as_str().unwrap().contains("InvalidImageName"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn the_admin_listener_tells_how_any_revision_stands_and_wakes_none() {
    use tower::ServiceExt as _;

    let world = World::new(json!({}));
    let ask = async |path: &str| {
        let router = crate::admin::router(world.activator.clone());
        let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    let only = async || {
        let all: Value = serde_json::from_str(&ask("/revisions").await.1).unwrap();
        assert_eq!(
            (&all["has_more"], all["revisions"].as_array().unwrap().len()),
            (&json!(false), 1)
        );
        all["revisions"][0].clone()
    };
    let asleep = only().await;
    let name = asleep["name"].as_str().unwrap().to_owned();
    assert_eq!(
        asleep,
        json!({"namespace": "default", "name": name, "state": "asleep", "queued": 0})
    );
    sleep(Duration::from_secs(30)).await;
    assert!(world.notes.reports.lock().is_empty(), "somebody was told to wake it");
    world.tell(1, json!({"phase": "Pending", "podIP": null}));
    let waking = only().await;
    assert_eq!((&waking["state"], &waking["phase"]), (&json!("waking"), &json!("pending")));
    world.start(1, echo("hello"));
    settle().await;
    let (status, one) = ask(&format!("/revisions/default/{name}")).await;
    let one: Value = serde_json::from_str(&one).unwrap();
    assert_eq!((status, &one["state"]), (200, &json!("ready")));
    // Somebody has asked for it: it may be one that others know of.
    let (status, told) = ask("/revisions/default/unknown").await;
    assert_eq!(status, 404);
    assert_eq!(told, "there is no revision of this name: /revisions lists them\n");
}

#[tokio::test(start_paused = true)]
async fn a_body_goes_to_the_model_that_it_names_as_it_came() {
    let world = World::new(json!({}));
    declare(&world, "smol, gpt=smol");
    let large = format!(r#"{{"messages":"{}","model":"smol"}}"#, "x".repeat(20 * MIB));
    let small = r#" {"model" : "sm\u006fl", "n": 1e2}"#.to_owned();
    let sleeping = world.send(chat(small.clone()));
    let woken = async {
        sleep(Duration::from_secs(1)).await;
        world.start(1, mirror());
    };
    let (response, ()) = futures::join!(sleeping, woken);
    assert_eq!(response.headers()["said-length"], small.len().to_string());
    assert_eq!(text(response).await, small);
    assert_eq!(text(world.send(chat(large.clone())).await).await, large);
    for (name, told) in [("gpt", "smol"), ("smol:canary", "smol"), ("default/gpt", "smol")] {
        let body = |name: &str| format!(r#"{{"model":"{name}","x":[1]}}"#);
        let response = world.send(chat(body(name))).await;
        assert_eq!(response.headers()["said-length"], body(told).len().to_string());
        assert_eq!(text(response).await, body(told));
    }
    settle().await;
    assert_eq!(world.metric("held_bytes"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_form_goes_to_the_model_that_it_names() {
    let world = World::new(json!({}));
    declare(&world, "whisper, w=whisper");
    world.start(1, mirror());
    let form = |model: &str| {
        let part = |head: &str, value: &str| {
            format!("--x\r\ncontent-disposition: form-data; {head}\r\n\r\n{value}\r\n")
        };
        let file = part("name=\"file\"; filename=\"a.wav\"", "RIFF\r\n--no");
        format!("{file}{}--x--\r\n", part("name=\"model\"", model))
    };
    for name in ["whisper", "w"] {
        let mut request = request(Method::POST, "/v1/audio/transcriptions", form(name));
        let media = "multipart/form-data; boundary=x".parse().unwrap();
        request.headers_mut().insert("content-type", media);
        assert_eq!(text(world.send(request).await).await, form("whisper"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_may_come_in_single_bytes_and_over_http2() {
    let world = World::new(json!({}));
    declare(&world, "smol");
    world.start(1, mirror());
    let body = r#"{"messages":["\"model\""],"model":"smol"}"#;
    let mut stream = world.dial();
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: {MODELS}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    for byte in body.chars() {
        stream.write_all(format!("1\r\n{byte}\r\n").as_bytes()).await.unwrap();
        settle().await;
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(body), "{answer}");

    let io = TokioIo::new(world.dial());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let large = format!(r#"{{"messages":"{}","model":"smol"}}"#, "x".repeat(4 * MIB));
    let request = Request::post(format!("http://{MODELS}{CHAT}"));
    let response =
        sender.send_request(request.body(Full::<Bytes>::from(large.clone())).unwrap()).await;
    assert_eq!(text(response.unwrap()).await, large);
}

/// A body that asks for a stream is held whole, however it came and however long it is.
#[tokio::test(start_paused = true)]
async fn a_body_that_asks_for_a_stream_gets_comments_while_its_model_wakes() {
    let world = World::new(json!({"timeoutSeconds": 9}));
    declare(&world, "smol");
    let large = format!(r#"{{"messages":"{}","stream":true,"model":"smol"}}"#, "x".repeat(MIB));
    for head in [format!("content-length: {}", large.len()), "transfer-encoding: chunked".into()] {
        let mut stream = world.dial();
        let start = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: {MODELS}\r\nconnection: close\r\n{head}\r\n\r\n"
        );
        stream.write_all(start.as_bytes()).await.unwrap();
        if head.contains("chunked") {
            let chunk = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
            stream.write_all(chunk.as_bytes()).await.unwrap();
        } else {
            stream.write_all(large.as_bytes()).await.unwrap();
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{head}: {answer}");
        assert!(answer.contains(": waiting for the model: asked, "), "{head}: {answer}");
        assert!(answer.contains("event: error\n"), "{head}: {answer}");
    }
    // Speech is streamed as sound.
    let speech = request(Method::POST, "/v1/audio/speech", r#"{"stream":true,"model":"smol"}"#);
    assert_eq!(world.send(speech).await.status(), StatusCode::GATEWAY_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_told_in_the_form_of_the_sdk() {
    let world = World::new(json!({}));
    declare(&world, "smol, tiny");
    let pod = world.start(1, mirror());
    let told = async |request: Request<Full<Bytes>>| {
        let response = world.send(request).await;
        let (status, allow) = (response.status(), response.headers().get("allow").cloned());
        let label = response.headers()["ebb-error"].to_str().unwrap().to_owned();
        (status.as_u16(), label, allow, read(response).await)
    };
    let (status, label, _, body) = told(chat(r#"{"model":"other"}"#)).await;
    assert_eq!((status, &*label), (404, "model-unknown"));
    assert_eq!(
        body["error"],
        json!({"type": "invalid_request_error", "param": "model", "code": "model_not_found",
            "message": "the model \"other\" does not exist; there is smol, tiny"})
    );
    let (status, _, _, body) =
        told(request(Method::POST, "/v1/messages", r#"{"model":"other"}"#)).await;
    assert_eq!((status, &body["error"]["type"]), (404, &json!("not_found_error")));
    for (request, expected) in [
        (chat("{}"), (400, "model-missing")),
        (chat("no"), (400, "body-unfit")),
        (chat("{no}"), (400, "body-broken")),
        (chat(r#"{"model":"smol","model":"tiny"}"#), (400, "model-twice")),
        (request(Method::GET, "/v1/models/other", ""), (404, "model-unknown")),
        (request(Method::POST, "/v1/chat", ""), (404, "path-unknown")),
        (request(Method::POST, "/v1/audio/transcriptions", "{}"), (400, "body-unfit")),
    ] {
        let (status, label, ..) = told(request).await;
        assert_eq!((status, &*label), expected);
    }
    assert_eq!(told(request(Method::GET, CHAT, "")).await.2.unwrap(), "POST");
    assert_eq!(told(request(Method::DELETE, "/v1/models/smol", "")).await.2.unwrap(), "GET, HEAD");
    let mut packed = chat(r#"{"model":"smol"}"#);
    packed.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    assert_eq!(told(packed).await.0, 415);
    assert_eq!(pod.served.load(Ordering::SeqCst), 0, "the pod was asked");
}

/// The rest of the hosts, and the rest of the doors, know nothing of models.
#[tokio::test(start_paused = true)]
async fn only_the_models_host_has_models() {
    let world = World::new(json!({}));
    declare(&world, "smol");
    for host in ["example.com", "models.example.org", "models.default.example.com", "models"] {
        let mut request = request(Method::GET, "/v1/models", "");
        request.headers_mut().insert("host", host.parse().unwrap());
        assert_eq!(world.send(request).await.status(), 404, "{host}");
    }
    let mut upper = request(Method::GET, "/v1/models", "");
    upper.headers_mut().insert("host", "MODELS.example.com:8080".parse().unwrap());
    assert_eq!(world.send(upper).await.status(), 200);
    world.activator.directory().change_network(&NetworkConfig::default());
    let inside = |door| {
        let mut request = request(Method::GET, "/v1/models", "");
        let host = "models.svc.cluster.local".parse().unwrap();
        request.headers_mut().insert("host", host);
        world.send_at(door, request)
    };
    assert_eq!(inside(Door::Outer).await.status(), 404);
    assert_eq!(inside(Door::Inner).await.status(), 200);
    for host in ["models.knative-serving", "models.knative-serving.svc.cluster.local"] {
        let listed = |door| {
            let mut request = request(Method::GET, "/v1/models", "");
            request.headers_mut().insert("host", host.parse().unwrap());
            world.send_at(door, request)
        };
        assert_eq!(listed(Door::Outer).await.status(), 404, "{host}");
        assert_eq!(listed(Door::Inner).await.status(), 200, "{host}");
    }
}

/// What the owner of a revision says comes in the client's form as well.
#[tokio::test(start_paused = true)]
async fn an_error_of_another_activator_has_the_form_of_the_sdk() {
    let pair = Pair::new(&one_at_a_time());
    declare(&pair.other, "smol");
    let waiting = json!({"waiting": {"reason": "InvalidImageName", "message": "no such image"}});
    let failing = json!({"podIP": null, "containerStatuses": [{"state": waiting}]});
    pair.owner.tell(1, failing);
    sleep(Duration::from_mins(1)).await;
    let response = pair.other.send(chat(r#"{"model":"smol"}"#)).await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "10");
    let body = read(response).await;
    assert_eq!(body["error"]["code"], "cannot-start");
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("InvalidImageName"), "{message}");
}
