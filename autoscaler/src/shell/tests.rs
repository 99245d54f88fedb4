//! The running autoscaler against an API server in memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

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
    /// Whether it refuses to write.
    is_ill: Arc<AtomicBool>,
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
            if self.is_ill.load(Ordering::SeqCst) {
                let mut answer = Response::new(Body::from(b"ill".to_vec()));
                *answer.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
                return answer;
            }
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

/// An autoscaler that runs.
struct Running {
    intake: Intake,
    orders: Arc<Orders>,
    sizes: SizeReader,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    /// Keeps the channel of the settings open; nothing here depends on it.
    _settings: watch::Sender<Arc<Config>>,
}

fn run(api: &Api, leads: watch::Receiver<Option<Epoch>>) -> Running {
    let (settings, config) = watch::channel(Arc::new(Config::default()));
    let orders = Arc::new(Orders::default());
    let options = AutoscalerOptions {
        client: api.client(),
        config,
        activators: Roster::Fixed(vec!["activator-0".to_owned()]),
        drains: orders.clone(),
        unheard_notice: Duration::from_mins(10),
        leads,
    };
    let (mut autoscaler, intake) = Autoscaler::new(options, &mut Registry::default());
    let sizes = autoscaler.size_reader();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(autoscaler.run(shutdown.clone()));
    Running { intake, orders, sizes, shutdown, task, _settings: settings }
}

fn first_request() -> Report {
    Report {
        activator: "activator-0".to_owned(),
        scope: Scope::Moment,
        revisions: vec![RevisionReport {
            revision: RevisionKey::new("models", "digits-00001"),
            queued: 1,
            ..RevisionReport::default()
        }],
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_request_reaches_the_api_server_as_one_patch_and_no_time_passes() {
    let api = Api::default();
    let running = run(&api, watch::channel(Some(1)).1);
    let start = Instant::now();
    running.intake.record(first_request());
    let woken = api.patch().await;
    assert_eq!((&woken[0]["op"], &woken[0]["value"]), (&json!("test"), &json!("uid-1")));
    assert_eq!((&woken[1]["op"], &woken[1]["value"]), (&json!("test"), &json!(0)));
    assert_eq!((&woken[2]["op"], &woken[2]["value"]), (&json!("replace"), &json!(1)));
    assert_eq!(start.elapsed(), Duration::ZERO);

    running.shutdown.cancel();
    running.task.await.unwrap();
    assert!(running.orders.0.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn it_says_how_much_it_keeps_while_it_runs() {
    let api = Api::default();
    let running = run(&api, watch::channel(Some(1)).1);
    running.intake.record(first_request());
    api.patch().await;
    let sizes = running.sizes.read().await.unwrap();
    let expected = FleetSizes { revisions: 1, names: 1, reporters: 1, reports: 1, ..sizes };
    assert_eq!(sizes, expected);
    running.shutdown.cancel();
    running.task.await.unwrap();
    assert_eq!(running.sizes.read().await, None);
}

/// A report that came before it knew that it was deposed is for the new leader to decide about.
#[tokio::test(start_paused = true)]
async fn a_deposed_leader_does_not_work_off_its_backlog() {
    let api = Api::default();
    let (lead, leads) = watch::channel(Some(1));
    let running = run(&api, leads);
    tokio::time::sleep(Duration::from_secs(1)).await;
    running.intake.record(first_request());
    lead.send_replace(None);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(api.patches.lock().is_empty());
    // It kept the report, and decides once it leads again.
    lead.send_replace(Some(3));
    assert_eq!(api.patch().await[2]["value"], 1);
    running.shutdown.cancel();
}

/// Found by the simulation: a leader stood still while it ended, and worked its writes off after
/// another had begun to lead.
#[tokio::test(start_paused = true)]
async fn a_leader_that_ends_writes_only_as_long_as_it_leads() {
    for is_deposed in [true, false] {
        let api = Api::default();
        api.is_ill.store(true, Ordering::SeqCst);
        let (lead, leads) = watch::channel(Some(1));
        let running = run(&api, leads);
        running.intake.record(first_request());
        api.patch().await;
        running.shutdown.cancel();
        tokio::task::yield_now().await;
        if is_deposed {
            lead.send_replace(None);
        }
        api.is_ill.store(false, Ordering::SeqCst);
        running.task.await.unwrap();
        assert_eq!(api.patches.lock().is_empty(), is_deposed);
    }
}
