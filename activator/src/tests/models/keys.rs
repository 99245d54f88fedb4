//! API keys at the models host: who is let in, to what, how often, and what it costs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use ebb_api::config::Config;
use http::HeaderMap;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::*;

mod spent;

const ANN: &str = "sk-ann";
const BOB: &str = "sk-bob";

/// A Secret in which Ann may use `smol` alone, and Bob all, with these limits.
fn secret(limits: &str) -> Secret {
    let entry = |key: &str, rest: &str| {
        let hash = digest(&SHA256, key.as_bytes());
        let hash = hash.as_ref().iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        });
        ByteString(format!(r#"{{"sha256":"{hash}"{rest}}}"#).into_bytes())
    };
    let data = BTreeMap::from([
        ("ann".to_owned(), entry(ANN, r#","models":["smol"]"#)),
        ("bob".to_owned(), entry(BOB, limits)),
        ("eve".to_owned(), ByteString(b"sk-eve".to_vec())),
    ]);
    Secret { data: Some(data), ..Secret::default() }
}

/// A world whose models host asks for the keys of that Secret.
fn guarded(limits: &str) -> World {
    let world = World::new(json!({}));
    declare(&world, "smol, tiny");
    let gate = &world.activator.directory().gate;
    gate.ask_for(Some("ebb-api-keys"));
    gate.change(Some(&secret(limits)));
    world
}

fn with_key(mut request: Request<Full<Bytes>>, key: &str) -> Request<Full<Bytes>> {
    let value = format!("Bearer {key}").parse().unwrap();
    request.headers_mut().insert("authorization", value);
    request
}

/// The status, the `code` or `type` of an error, and the head.
async fn told(world: &World, request: Request<Full<Bytes>>) -> (u16, String, HeaderMap) {
    let response = world.send(request).await;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = read(response).await;
    let error = &body["error"];
    let code =
        error["code"].as_str().or_else(|| error["type"].as_str()).unwrap_or_default().to_owned();
    (status, code, headers)
}

fn to(model: &str) -> Request<Full<Bytes>> {
    chat(format!(r#"{{"model":"{model}"}}"#))
}

#[tokio::test(start_paused = true)]
async fn who_shows_no_key_is_refused_in_the_form_of_the_sdk_and_wakes_nothing() {
    let world = guarded("");
    for (request, code) in [
        (to("smol"), "invalid_api_key"),
        (with_key(to("smol"), "sk-eve"), "invalid_api_key"),
        (with_key(to("smol"), "SK-ANN"), "invalid_api_key"),
        (request(Method::GET, "/v1/models", ""), "invalid_api_key"),
        (request(Method::GET, "/v1/models/smol", ""), "invalid_api_key"),
        (request(Method::POST, "/v1/messages", r#"{"model":"smol"}"#), "authentication_error"),
        (request(Method::GET, "/v1/none", ""), "invalid_api_key"),
    ] {
        let (status, told, headers) = told(&world, request).await;
        assert_eq!((status, &*told), (401, code));
        assert_eq!(headers["www-authenticate"], "Bearer");
    }
    // Ann's key, for a model that is Bob's alone.
    let (status, code, _) = told(&world, with_key(to("tiny"), ANN)).await;
    assert_eq!((status, &*code), (404, "model_not_found"));
    sleep(Duration::from_secs(30)).await;
    assert!(world.notes.reports.lock().is_empty(), "somebody was told to wake it");
    assert_eq!(world.queued(), 0);
    assert_eq!(world.metric("errors_total{reason=\"key-unknown\"}"), 2);
    assert_eq!(world.metric("key_faults"), 1, "Eve's entry is no JSON");
}

#[tokio::test(start_paused = true)]
async fn a_key_opens_what_it_may_use_and_the_server_does_not_see_it() {
    let world = guarded("");
    let seen: Arc<parking_lot::Mutex<Vec<HeaderMap>>> = Arc::default();
    let heads = Arc::clone(&seen);
    world.start(
        1,
        Arc::new(move |request| {
            heads.lock().push(request.headers().clone());
            Box::pin(async { reply("{}") })
        }),
    );
    let mut packed = with_key(to("smol"), ANN);
    packed.headers_mut().insert("accept-encoding", "gzip".parse().unwrap());
    assert_eq!(world.send(packed).await.status(), 200);
    let mut by_other_header = request(Method::POST, "/v1/messages", r#"{"model":"smol"}"#);
    by_other_header.headers_mut().insert("x-api-key", ANN.parse().unwrap());
    assert_eq!(world.send(by_other_header).await.status(), 200);
    for head in &*seen.lock() {
        assert!(!format!("{head:?}").contains("sk-"), "{head:?}");
        assert!(!head.contains_key("accept-encoding"), "its tokens could not be read");
    }
    let listed = async |key: &str| {
        let list = world.send(with_key(request(Method::GET, "/v1/models", ""), key)).await;
        let list = read(list).await;
        let ids = list["data"].as_array().unwrap().iter();
        ids.map(|model| model["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(ANN).await, ["smol"]);
    assert_eq!(listed(BOB).await, ["smol", "tiny"]);
    for (model, status) in [("smol", 200), ("tiny", 404), ("none", 404)] {
        let show = request(Method::GET, &format!("/v1/models/{model}"), "");
        assert_eq!(world.send(with_key(show, ANN)).await.status(), status, "{model}");
    }
    // What is not said of a model that she may not use: whether it exists.
    let body = read(world.send(with_key(to("tiny"), ANN)).await).await;
    let message = "the model \"tiny\" does not exist; there is smol";
    assert_eq!(body["error"]["message"], message);
    assert_eq!(world.metric(r#"key_requests_total{key="ann",model="smol",code_class="2xx"}"#), 2);
    assert_eq!(world.metric(r#"key_requests_total{key="ann",model="other",code_class="4xx"}"#), 1);
}

#[tokio::test(start_paused = true)]
async fn while_the_keys_cannot_be_known_nobody_is_let_in() {
    let world = World::new(json!({}));
    declare(&world, "smol");
    let pod = world.start(1, echo("{}"));
    settle().await;
    let gate = &world.activator.directory().gate;
    assert_eq!(world.send(to("smol")).await.status(), 200, "no key is asked for");
    let refused = async || {
        let (status, code, headers) = told(&world, with_key(to("smol"), ANN)).await;
        assert_eq!(
            (status, &*code, &headers["retry-after"]),
            (503, "keys-unread", &"5".parse().unwrap())
        );
    };
    gate.ask_for(Some("ebb-api-keys"));
    refused().await;
    gate.change(None);
    refused().await;
    gate.change(Some(&secret("")));
    assert_eq!(world.send(with_key(to("smol"), ANN)).await.status(), 200);
    gate.change(Some(&Secret::default()));
    assert_eq!(told(&world, with_key(to("smol"), ANN)).await.0, 401, "it has no keys");
    gate.change(None);
    refused().await;
    gate.ask_for(Some("another"));
    refused().await;
    assert_eq!(pod.served.load(Ordering::SeqCst), 2);
    gate.ask_for(None);
    assert_eq!(world.send(to("smol")).await.status(), 200);
    // The models' own hosts know nothing of keys.
    gate.ask_for(Some("ebb-api-keys"));
    assert_eq!(world.get().await.status(), 200);
}

/// The right that the chart grants is for one Secret: it is enough for lists of that name alone.
#[tokio::test(start_paused = true)]
async fn the_one_secret_is_listed_by_its_name_and_only_while_it_is_named() {
    let world = World::new(json!({}));
    declare(&world, "smol");
    world.start(1, echo("{}"));
    let asked: Arc<parking_lot::Mutex<Vec<String>>> = Arc::default();
    let paths = Arc::clone(&asked);
    let api = tower::service_fn(move |request: Request<kube::client::Body>| {
        let path = request.uri().to_string();
        let is_watch = path.contains("watch=true");
        paths.lock().push(path);
        async move {
            if is_watch {
                return std::future::pending().await;
            }
            let mut secret = secret("");
            secret.metadata.name = Some("ebb-api-keys".to_owned());
            let list = json!({
                "kind": "SecretList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"},
                "items": [secret],
            });
            Ok::<_, std::io::Error>(Response::new(kube::client::Body::from(
                list.to_string().into_bytes(),
            )))
        }
    });
    let client = kube::Client::new(api, "default");
    let (settings, config) = tokio::sync::watch::channel(Arc::new(Config::default()));
    let named = |name: Option<&str>| {
        let mut config = Config::default();
        config.models.api_keys_secret = name.map(str::to_owned);
        settings.send_replace(Arc::new(config));
    };
    let directory = world.activator.directory();
    let following = crate::watch::run_keys(client, "ebb", directory, config);
    let checks = async {
        settle().await;
        assert_eq!(world.send(to("smol")).await.status(), 200);
        assert!(asked.lock().is_empty(), "nobody has asked for keys");
        named(Some("ebb-api-keys"));
        settle().await;
        assert_eq!(world.send(to("smol")).await.status(), 401);
        assert_eq!(world.send(with_key(to("smol"), ANN)).await.status(), 200);
        for path in &*asked.lock() {
            let (secrets, query) = path.split_once('?').unwrap();
            assert_eq!(secrets, "/api/v1/namespaces/ebb/secrets");
            assert!(query.contains("fieldSelector=metadata.name%3Debb-api-keys"), "{query}");
        }
        named(None);
        settle().await;
        assert_eq!(world.send(to("smol")).await.status(), 200);
    };
    tokio::select! {
        () = following => panic!("the watch has ended"),
        () = checks => {}
    }
}
