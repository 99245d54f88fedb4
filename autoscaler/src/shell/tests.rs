//! The running autoscaler against an API server in memory.

use std::collections::VecDeque;

use ebb_api::report::{Report, RevisionKey, RevisionReport, Scope};
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::*;

/// One Revision at zero; its watches stay open and say nothing.
#[derive(Clone, Default)]
struct Api {
    patches: Arc<Mutex<VecDeque<Value>>>,
    patched: Arc<Notify>,
}

impl Api {
    fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, std::convert::Infallible>(api.answer(request).await) }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let path = request.uri().path().to_owned();
        if is_watch {
            std::future::pending::<()>().await;
        }
        if request.method() == Method::PATCH {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            self.patches.lock().push_back(serde_json::from_slice(&body).unwrap());
            self.patched.notify_one();
            return Response::new(Body::from(sleeping().to_string().into_bytes()));
        }
        let items = if path.contains("revisions") { vec![sleeping()] } else { Vec::new() };
        let list = json!({"metadata": {"resourceVersion": "1"}, "items": items});
        Response::new(Body::from(list.to_string().into_bytes()))
    }

    async fn patch(&self) -> Value {
        loop {
            if let Some(patch) = self.patches.lock().pop_front() {
                return patch;
            }
            self.patched.notified().await;
        }
    }
}

fn sleeping() -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Revision",
        "metadata": {"namespace": "models", "name": "digits-00001", "uid": "uid-1", "generation": 1},
        "spec": {"containers": []},
        "status": {
            "desiredReplicas": 0,
            "conditions": [
                {"type": "Active", "status": "False", "reason": "NoTraffic"},
                {"type": "ResourcesAvailable", "status": "True"},
            ],
        },
    })
}

#[derive(Default)]
struct Orders(Mutex<Vec<DrainOrder>>);

impl DrainControl for Orders {
    fn drain(&self, order: DrainOrder) {
        self.0.lock().push(order);
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_request_reaches_the_api_server_as_one_patch_and_no_time_passes() {
    let api = Api::default();
    let (_settings, config) = watch::channel(Arc::new(Config::default()));
    let orders = Arc::new(Orders::default());
    let leads = watch::channel(Some(1)).1;
    let options = AutoscalerOptions {
        client: api.client(),
        config,
        activators: Roster::Fixed(vec!["activator-0".to_owned()]),
        drains: orders.clone(),
        unheard_notice: Duration::from_mins(10),
        leads,
    };
    let (autoscaler, intake) = Autoscaler::new(options, &mut Registry::default());
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(autoscaler.run(shutdown.clone()));
    let start = Instant::now();
    intake.record(Report {
        activator: "activator-0".to_owned(),
        scope: Scope::Moment,
        revisions: vec![RevisionReport {
            revision: RevisionKey::new("models", "digits-00001"),
            queued: 1,
            ..RevisionReport::default()
        }],
    });
    let woken = api.patch().await;
    assert_eq!(woken["status"]["desiredReplicas"], 1);
    assert_eq!(woken["metadata"]["uid"], "uid-1");
    assert_eq!(start.elapsed(), Duration::ZERO);

    shutdown.cancel();
    running.await.unwrap();
    assert!(orders.0.lock().is_empty());
}
