//! A world of one revision: scripted pods behind addresses, clients over pipes, reports collected.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use ebb_api::config::Config;
use ebb_api::report::{Report, RevisionKey, Scope};
use ebb_api::serving::{Revision, Route};
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::io::DuplexStream;
use tokio::sync::watch;

use crate::route::Door;
use crate::{
    Activator, ActivatorOptions, BoxedIo, Connect, Event, Limits, Observer, PeerOptions,
    ReportSink, WatchChange,
};

pub(super) const HOST: &str = "digits.default.example.com";
pub(super) type Answer = Response<BoxBody<Bytes, io::Error>>;
pub(super) type Handler =
    Arc<dyn Fn(Request<Incoming>) -> BoxFuture<'static, Answer> + Send + Sync>;

/// The network: what listens where.
#[derive(Default)]
pub(super) struct Network {
    pods: Mutex<HashMap<SocketAddr, Arc<FakePod>>>,
    /// Where activators listen to each other.
    pub(super) activators: Mutex<HashMap<SocketAddr, Activator>>,
    pub(super) dials: AtomicU32,
    /// How long a connection takes.
    pub(super) pause: Mutex<Duration>,
    /// Connections that are being made.
    pub(super) dialling: AtomicU32,
    /// Whether every second connection is refused: a probe gets a connection, the request after it
    /// none.
    pub(super) refuses_requests: AtomicBool,
    /// The error of the operating system that every attempt to connect ends with.
    pub(super) fault: Mutex<Option<i32>>,
}

/// A pod that answers by a handler and counts what is in it at once.
pub(super) struct FakePod {
    handler: Handler,
    pub(super) inside: AtomicU32,
    pub(super) most: AtomicU32,
    pub(super) served: AtomicU32,
}

/// Keeps the reports and events that it gets.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) reports: Mutex<Vec<Report>>,
    pub(super) events: Mutex<Vec<Event>>,
    /// Called once, when a report of an interval is made and not yet handed over.
    pub(super) meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

pub(super) struct World {
    pub(super) activator: Activator,
    pub(super) network: Arc<Network>,
    pub(super) notes: Arc<Notes>,
    pub(super) registry: Registry,
    /// Kept open: a closed channel means the end of the process.
    _config: watch::Sender<Arc<Config>>,
}

impl Connect for Arc<Network> {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<BoxedIo>> {
        let dials = self.dials.fetch_add(1, Ordering::SeqCst);
        if let Some(code) = *self.fault.lock() {
            return Box::pin(async move { Err(io::Error::from_raw_os_error(code)) });
        }
        let refused = self.refuses_requests.load(Ordering::SeqCst) && dials % 2 == 1;
        let pod = self.pods.lock().get(&address).filter(|_| !refused).cloned();
        let activator = self.activators.lock().get(&address).cloned();
        let (network, pause) = (Self::clone(self), *self.pause.lock());
        Box::pin(async move {
            network.dialling.fetch_add(1, Ordering::SeqCst);
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            network.dialling.fetch_sub(1, Ordering::SeqCst);
            let (here, there) = tokio::io::duplex(16 * 1024);
            if let Some(activator) = activator {
                let from = ([10, 0, 1, 0], 5555).into();
                tokio::spawn(async move { activator.serve_peer_connection(there, from).await });
            } else {
                tokio::spawn(pod.ok_or(io::ErrorKind::ConnectionRefused)?.serve(there));
            }
            Ok(Box::new(here) as BoxedIo)
        })
    }
}

impl FakePod {
    async fn serve(self: Arc<Self>, io: DuplexStream) {
        let service = service_fn(move |request| {
            let pod = Arc::clone(&self);
            async move {
                let inside = pod.inside.fetch_add(1, Ordering::SeqCst) + 1;
                pod.most.fetch_max(inside, Ordering::SeqCst);
                pod.served.fetch_add(1, Ordering::SeqCst);
                let answer = (pod.handler)(request).await;
                pod.inside.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, Infallible>(answer)
            }
        });
        let server = auto::Builder::new(TokioExecutor::new());
        // How a client leaves does not matter here.
        let _ended = server.serve_connection_with_upgrades(TokioIo::new(io), service).await;
    }
}

impl ReportSink for Notes {
    fn report(&self, report: Report) {
        let meanwhile = self.meanwhile.lock().take_if(|_| report.scope == Scope::Full);
        if let Some(happens) = meanwhile {
            happens();
        }
        self.reports.lock().push(report);
    }
}

impl Observer for Notes {
    fn event(&self, event: Event) {
        self.events.lock().push(event);
    }
}

impl World {
    pub(super) fn new(spec: Value) -> Self {
        Self::with_limits(spec, Limits::default())
    }

    /// A route to one revision of `spec`, and no pod.
    pub(super) fn with_limits(spec: Value, limits: Limits) -> Self {
        Self::on(Arc::default(), spec, limits, "a", None)
    }

    /// The same, of the activator `id` on a network that others may be on.
    pub(super) fn on(
        network: Arc<Network>,
        spec: Value,
        limits: Limits,
        id: &str,
        peers: Option<PeerOptions>,
    ) -> Self {
        let notes = Arc::new(Notes::default());
        let (sender, config) = watch::channel(Arc::new(Config::default()));
        let mut registry = Registry::default();
        let unused = tower::service_fn(|_: Request<kube::client::Body>| async {
            Err::<Response<kube::client::Body>, _>(io::Error::other("no API server here"))
        });
        let options = ActivatorOptions {
            client: kube::Client::new(unused, "default"),
            config,
            reports: Arc::clone(&notes) as Arc<dyn ReportSink>,
            observer: Arc::clone(&notes) as Arc<dyn Observer>,
            id: id.to_owned(),
            connect: Arc::new(Arc::clone(&network)),
            limits,
            peers,
        };
        let activator = Activator::new(options, &mut registry);
        let world = Self { activator, network, notes, registry, _config: sender };
        world.activator.change_routes([WatchChange::Applied(route())]);
        world.activator.change_revisions(WatchChange::Applied(revision(spec)));
        world
    }

    /// Something listens at the address of pod `number`.
    pub(super) fn listen(&self, number: u8, handler: Handler) -> Arc<FakePod> {
        let pod = Arc::new(FakePod {
            handler,
            inside: AtomicU32::new(0),
            most: AtomicU32::new(0),
            served: AtomicU32::new(0),
        });
        self.network.pods.lock().insert(address(number), Arc::clone(&pod));
        pod
    }

    /// Nothing listens there any more. Connections that exist stay.
    pub(super) fn hang_up(&self, number: u8) {
        self.network.pods.lock().remove(&address(number));
    }

    /// The watch tells of pod `number`, with `status` over the usual one.
    pub(super) fn tell(&self, number: u8, status: Value) {
        self.activator.change_pods(WatchChange::Applied(pod(number, status)));
    }

    pub(super) fn untell(&self, number: u8) {
        self.activator.change_pods(WatchChange::Deleted(pod(number, json!({}))));
    }

    /// A pod that listens and that the watch knows.
    pub(super) fn start(&self, number: u8, handler: Handler) -> Arc<FakePod> {
        let pod = self.listen(number, handler);
        self.tell(number, json!({}));
        pod
    }

    /// A new connection of a client outside.
    pub(super) fn dial(&self) -> DuplexStream {
        self.dial_at(Door::Outer)
    }

    /// A new connection of a client at a door.
    pub(super) fn dial_at(&self, door: Door) -> DuplexStream {
        let (here, there) = tokio::io::duplex(16 * 1024);
        let activator = self.activator.clone();
        tokio::spawn(async move {
            activator.serve_connection(there, door, ([192, 0, 2, 7], 5555).into()).await;
        });
        here
    }

    /// Sends a request on a connection of its own.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        self.send_at(Door::Outer, request).await
    }

    /// The same, at a door.
    pub(super) async fn send_at(
        &self,
        door: Door,
        request: Request<Full<Bytes>>,
    ) -> Response<Incoming> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(self.dial_at(door))).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.unwrap()
    }

    pub(super) async fn get(&self) -> Response<Incoming> {
        self.send(get()).await
    }

    pub(super) fn queued(&self) -> usize {
        self.activator.snapshot()[0].queued
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.activator.snapshot()[0].in_flight
    }

    /// A counter or gauge of the activator, with its labels.
    pub(super) fn metric(&self, name: &str) -> u64 {
        let (text, name) = (self.metrics(), format!("ebb_activator_{name} "));
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |value| value.parse().unwrap())
    }

    pub(super) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

pub(super) fn get() -> Request<Full<Bytes>> {
    Request::get("/").header("host", HOST).body(Full::default()).unwrap()
}

pub(super) fn key() -> RevisionKey {
    RevisionKey::new("default", "digits-00001")
}

pub(super) fn address(number: u8) -> SocketAddr {
    ([10, 0, 0, number], 8080).into()
}

pub(super) fn uid(number: u8) -> String {
    format!("uid-{number}")
}

/// Answers at once.
pub(super) fn echo(text: &'static str) -> Handler {
    Arc::new(move |_| Box::pin(async move { reply(text) }))
}

/// Answers after `ms`.
pub(super) fn slow(ms: u64) -> Handler {
    Arc::new(move |_| {
        Box::pin(async move {
            tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
            reply("slow")
        })
    })
}

pub(super) fn reply(text: impl Into<Bytes>) -> Answer {
    Response::new(Full::new(text.into()).map_err(|never| match never {}).boxed())
}

pub(super) async fn text(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Lets everything happen that can happen without time passing.
pub(super) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

fn route() -> Route {
    serde_json::from_value(json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Route",
        "metadata": {"name": "digits", "namespace": "default"},
        "spec": {},
        "status": {
            "url": format!("http://{HOST}:8080"),
            "traffic": [{"revisionName": "digits-00001", "percent": 100}],
        },
    }))
    .unwrap()
}

pub(super) fn revision(spec: Value) -> Revision {
    revision_with_uid("r", spec)
}

/// The revision when its name has been used before, or will be again.
pub(super) fn revision_with_uid(uid: &str, spec: Value) -> Revision {
    let mut whole = json!({"containers": [{"name": "user-container", "image": "digits"}]});
    let Value::Object(spec) = spec else { panic!("a spec is an object") };
    whole.as_object_mut().unwrap().extend(spec);
    serde_json::from_value(json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Revision",
        "metadata": {"name": "digits-00001", "namespace": "default", "uid": uid},
        "spec": whole,
    }))
    .unwrap()
}

/// A pod of the revision with the UID `r`. Four fields of `status` go elsewhere in the pod: `deleted`,
/// `revisionUID`, `asleep` and `owner`, the name of its `ReplicaSet`.
pub(super) fn pod(number: u8, status: Value) -> Pod {
    let mut whole = json!({"podIP": format!("10.0.0.{number}"), "phase": "Running"});
    let Value::Object(status) = status else { panic!("a status is an object") };
    whole.as_object_mut().unwrap().extend(status);
    let mut take = |field| whole.as_object_mut().unwrap().remove(field);
    let deleted = take("deleted");
    let asleep = take("asleep").map(|since| json!({"serving.ebb.dev/asleep": since}));
    let revision = take("revisionUID").unwrap_or_else(|| "r".into());
    let owner = take("owner").unwrap_or_else(|| "digits-00001-deployment-5d8f".into());
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("pod-{number}"), "namespace": "default", "uid": uid(number),
            "labels": {
                "serving.knative.dev/revision": "digits-00001",
                "serving.knative.dev/revisionUID": revision,
            },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": "o",
                "controller": true,
            }],
            "deletionTimestamp": deleted,
            "annotations": asleep,
        },
        "spec": {"containers": [{
            "name": "user-container",
            "ports": [{"name": "user-port", "containerPort": 8080}],
        }]},
        "status": whole,
    }))
    .unwrap()
}
