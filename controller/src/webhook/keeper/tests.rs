//! The keeper beside an API server with scripted answers.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::channel::mpsc;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use jiff::SignedDuration;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::*;

/// The objects of an API server by path, and the watch of the first webhook configuration.
struct Server {
    objects: Mutex<BTreeMap<String, Value>>,
    watch: Mutex<Option<mpsc::UnboundedReceiver<Value>>>,
}

/// A body that may be a stream without an end.
type Answer = UnsyncBoxBody<Bytes, std::io::Error>;

const CONFIGURATION: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/webhook.serving.knative.dev";
const SECRET_PATH: &str = "/api/v1/namespaces/knative-serving/secrets/ebb-webhook-certs";

impl Server {
    fn new(secret: Option<&Certificate>) -> (Arc<Self>, mpsc::UnboundedSender<Value>) {
        let mut objects = BTreeMap::new();
        objects.insert(CONFIGURATION.to_owned(), configuration());
        // The chart makes the Secret without data.
        let secret = json!({
            "metadata": {"name": SECRET, "resourceVersion": "1"},
            "data": secret.map(Certificate::data),
        });
        objects.insert(SECRET_PATH.to_owned(), secret);
        let (tell, watch) = mpsc::unbounded();
        let watch = Mutex::new(Some(watch));
        (Arc::new(Self { objects: Mutex::new(objects), watch }), tell)
    }

    fn client(self: &Arc<Self>) -> Client {
        let server = self.clone();
        let serve = move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, std::convert::Infallible>(server.answer(request).await) }
        };
        Client::new(tower::service_fn(serve), "default")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Answer> {
        let (head, body) = request.into_parts();
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        let sent = body.collect().await.unwrap().to_bytes();
        if query.contains("watch=true") {
            let watch = if path.contains("mutating") { self.watch.lock().take() } else { None };
            let told = watch.map(futures::StreamExt::boxed);
            let told = told.unwrap_or_else(|| futures::stream::pending().boxed());
            let lines = told.map(|event| {
                let line = Bytes::from(format!("{event}\n"));
                Ok::<_, std::io::Error>(http_body::Frame::data(line))
            });
            return Response::new(StreamBody::new(lines).boxed_unsync());
        }
        if query.contains("fieldSelector") {
            let list = json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"resourceVersion": "1"}, "items": [],
            });
            return json_response(200, &list);
        }
        let mut objects = self.objects.lock();
        match head.method {
            Method::PATCH => {
                let change: Value = serde_json::from_slice(&sent).unwrap();
                let object = objects.get_mut(path).unwrap();
                object["webhooks"] = change["webhooks"].clone();
                json_response(200, object)
            }
            Method::PUT => {
                let object: Value = serde_json::from_slice(&sent).unwrap();
                objects.insert(SECRET_PATH.to_owned(), object.clone());
                json_response(200, &object)
            }
            _ => objects.get(path).map_or_else(
                || {
                    let status = json!({
                        "kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404,
                        "message": "not found",
                    });
                    json_response(404, &status)
                },
                |object| json_response(200, object),
            ),
        }
    }

    fn trusted(&self) -> Option<ByteString> {
        let objects = self.objects.lock();
        let bundle = objects[CONFIGURATION]["webhooks"][0]["clientConfig"]["caBundle"].clone();
        serde_json::from_value(bundle).unwrap()
    }
}

fn configuration() -> Value {
    json!({
        "metadata": {"name": MUTATING_WEBHOOK},
        "webhooks": [{
            "name": MUTATING_WEBHOOK, "clientConfig": {}, "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }],
    })
}

fn json_response(status: u16, body: &Value) -> Response<Answer> {
    let body =
        Full::new(Bytes::from(body.to_string())).map_err(std::io::Error::other).boxed_unsync();
    Response::builder().status(status).body(body).unwrap()
}

fn name() -> String {
    "ebb-webhook.knative-serving.svc".to_owned()
}

/// The authority of an expired certificate was once dropped at once, while other replicas still
/// served that certificate.
#[tokio::test]
async fn the_successor_of_a_certificate_that_is_over_is_trusted_along_with_it() {
    let made = Timestamp::now() - SignedDuration::from_hours(100 * 24);
    let over = Certificate::issue(&name(), made).unwrap();
    let (server, _tell) = Server::new(Some(&over));
    let keeper = Keeper::new(server.client(), "ebb-webhook", "knative-serving");
    let look = keeper.look().await.unwrap();
    assert_ne!(look.certificate.chain, over.chain);
    let trusted = server.trusted().unwrap().0;
    let trusted = pem::parse_many(&trusted).unwrap();
    assert_eq!(trusted.len(), 2);
    assert_eq!(trusted[1], pem::parse(&over.authority).unwrap());
}

/// A tool that took the caBundle out once made an outage until the next look.
#[tokio::test(start_paused = true)]
async fn a_bundle_that_was_taken_out_is_put_back_at_once() {
    let (server, tell) = Server::new(None);
    let keeper = Keeper::new(server.client(), "ebb-webhook", "knative-serving");
    // The other configurations exist as well, so that looks are rare.
    for name in [VALIDATING_WEBHOOK, CONFIG_WEBHOOK] {
        let path =
            format!("/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{name}");
        let mut other = configuration();
        other["metadata"]["name"] = json!(name);
        other["webhooks"] = json!([]);
        server.objects.lock().insert(path, other);
    }
    let shutdown = CancellationToken::new();
    let first = keeper.first(&shutdown).await.unwrap();
    let tls = Arc::new(ArcSwap::new(tls::server(&first).unwrap()));
    let keeping = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { keeper.run(tls, shutdown).await }
    });
    sleep(PERIOD_AT_START * 4).await;
    assert!(server.trusted().is_some());
    server.objects.lock().insert(CONFIGURATION.to_owned(), configuration());
    let taken_out = Instant::now();
    let object = json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": {"name": MUTATING_WEBHOOK, "resourceVersion": "2"},
    });
    tell.unbounded_send(json!({"type": "MODIFIED", "object": object})).unwrap();
    let repaired = async {
        while server.trusted().is_none() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PERIOD, repaired).await.unwrap();
    assert!(taken_out.elapsed() <= PAUSE, "{:?}", taken_out.elapsed());
    shutdown.cancel();
    keeping.await.unwrap();
}
