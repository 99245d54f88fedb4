//! Pods that an autoscaler drained before it fell silent, and whether they still stand.

use std::sync::Arc;
use std::time::Duration;

use ebb_api::config::Config;
use ebb_api::report::{DrainOrder, OrderId};
use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::fixture::*;
use crate::wake::{WakeOutcome, Waker};

/// An API server that has these pods, and lets every scale be written; and the methods that it was
/// asked with.
fn server(pods: Option<Value>) -> (Client, Arc<Mutex<Vec<Method>>>) {
    let asked = Arc::<Mutex<Vec<_>>>::default();
    let notes = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<Body>| {
        notes.lock().push(request.method().clone());
        let answer = match (request.method(), &pods) {
            (&Method::GET, Some(pods)) => {
                let query = request.uri().query().unwrap_or_default();
                assert!(query.contains("labelSelector=serving.knative.dev%2FrevisionUID"));
                assert!(!query.contains("resourceVersion"), "a cache may be old: {query}");
                (200, json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods}))
            }
            (&Method::GET, None) => (503, json!({"kind": "Status", "code": 503, "message": ""})),
            _ => (200, json!({})),
        };
        let response = Response::builder().status(answer.0);
        let body = Body::from(answer.1.to_string().into_bytes());
        std::future::ready(Ok::<_, std::convert::Infallible>(response.body(body).unwrap()))
    });
    (Client::new(service, "default"), asked)
}

#[tokio::test(start_paused = true)]
async fn only_pods_that_the_api_server_has_are_taken_back() {
    let deleted = json!({"deleted": "2026-11-25T19:00:00Z"});
    let moved = json!({"podIP": "10.9.9.9"});
    let evicted = json!({"phase": "Failed", "reason": "Evicted"});
    for (what, pods, expected) in [
        ("it stands", Some(json!([pod(1, json!({}))])), WakeOutcome::TakenBack),
        ("it is gone", Some(json!([pod(2, json!({}))])), WakeOutcome::Woken),
        ("it is deleted", Some(json!([pod(1, deleted)])), WakeOutcome::Woken),
        ("it has ended", Some(json!([pod(1, evicted)])), WakeOutcome::Woken),
        ("it is elsewhere", Some(json!([pod(1, moved)])), WakeOutcome::Woken),
        ("nobody knows", None, WakeOutcome::Failed),
    ] {
        let world = World::new(json!({}));
        let fake = world.start(1, echo("hello"));
        settle().await;
        let revision = world.activator.revisions().remove(0);
        let id = OrderId { epoch: 1, number: 1 };
        world.activator.drain(&DrainOrder {
            revision: key(),
            id,
            pods: vec![uid(1)],
            called: None,
        });
        let config = watch::channel(Arc::new(Config::default())).1;
        let (client, asked) = server(pods);
        let waker = Waker::new(client, config, &mut Registry::default());
        let served = tokio::time::timeout(Duration::from_secs(3), world.get());
        let (response, outcome) = futures::join!(served, async {
            settle().await;
            let live = revision.held_back().expect("a request waits");
            waker.serve(&revision, &live, Duration::from_secs(3)).await
        });
        assert_eq!(outcome, expected, "{what}");
        // A scale of zero that is in force could take the pods away.
        assert_eq!(asked.lock()[..2], [Method::PATCH, Method::GET], "{what}");
        assert_eq!(response.is_ok(), expected == WakeOutcome::TakenBack, "{what}");
        let served = fake.served.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(served > 0, expected == WakeOutcome::TakenBack, "{what}");
    }
}
