//! Simulated machines: pods that take a while to start, serve over pipes, and die without mercy.
//!
//! A process here behaves as badly as is allowed: it drops all its work the moment it gets SIGTERM.
//! Only the preStop sleep stands between the deletion of a pod and that moment.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ebb_activator::{BoxedIo, Connect};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use http::Response;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinSet;

use crate::seed::Chance;

/// The machines that all pods run on, found by their port. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Machines {
    chance: Chance,
    /// Port of a pod → its process, for as long as that lives.
    processes: Arc<Mutex<HashMap<u16, Process>>>,
}

struct Process {
    revision: String,
    /// Whether it listens yet.
    listens: bool,
    /// Its connections: they end with the process, whatever they carry.
    connections: JoinSet<()>,
}

impl Machines {
    pub(crate) fn new(chance: &Chance) -> Self {
        Self { chance: chance.clone(), processes: Arc::default() }
    }

    /// Whether any process of the revision lives.
    pub(crate) fn run(&self, revision: &str) -> bool {
        self.processes.lock().values().any(|process| process.revision == revision)
    }

    /// Does for every pod what a kubelet does, for ever.
    pub(crate) async fn keep(self, client: Client) {
        let pods: Api<Pod> = Api::all(client.clone());
        let mut events =
            watcher(pods, watcher::Config::default()).default_backoff().applied_objects().boxed();
        let (mut started, mut ending) = (HashMap::new(), HashMap::new());
        while let Some(event) = events.next().await {
            let Ok(pod) = event else { continue };
            let uid = pod.uid().unwrap_or_default();
            let work = (self.clone(), client.clone());
            if pod.metadata.deletion_timestamp.is_some() {
                ending.entry(uid).or_insert_with(|| {
                    tokio::spawn(async move { work.0.end(&work.1, &pod).await })
                });
            } else {
                started.entry(uid).or_insert_with(|| {
                    tokio::spawn(async move { work.0.start(&work.1, &pod).await })
                });
            }
        }
    }

    async fn start(&self, client: &Client, pod: &Pod) {
        let port = port(pod);
        tokio::time::sleep(self.chance.between(5, 300)).await;
        let revision = pod.labels()["serving.knative.dev/revision"].clone();
        let process = Process { revision, listens: false, connections: JoinSet::new() };
        self.processes.lock().insert(port, process);
        self.write_status(client, pod, false).await;
        tokio::time::sleep(self.chance.between(0, 200)).await;
        if let Some(process) = self.processes.lock().get_mut(&port) {
            process.listens = true;
        }
        tokio::time::sleep(self.chance.between(0, 50)).await;
        self.write_status(client, pod, true).await;
    }

    async fn end(&self, client: &Client, pod: &Pod) {
        let sleep = pod.spec.as_ref().and_then(|spec| {
            let hook = spec.containers.first()?.lifecycle.as_ref()?.pre_stop.as_ref()?;
            hook.sleep.as_ref().map(|sleep| sleep.seconds)
        });
        let sleep = sleep.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(sleep)).await;
        self.processes.lock().remove(&port(pod));
        tokio::time::sleep(self.chance.between(0, 50)).await;
        let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
        // The pod may have been removed with its Deployment meanwhile.
        drop(pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await);
    }

    async fn write_status(&self, client: &Client, pod: &Pod, ready: bool) {
        let word = if ready { "True" } else { "False" };
        let status = json!({"status": {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "podIPs": [{"ip": "127.0.0.1"}],
            "conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": word},
            ],
            "containerStatuses": [{
                "name": "user-container", "image": "simulated", "imageID": "", "ready": ready,
                "restartCount": 0, "state": {"running": {}},
            }],
        }});
        let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
        // A pod that is gone needs no status.
        drop(
            pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status))
                .await,
        );
    }
}

impl Connect for Machines {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<BoxedIo>> {
        let machines = self.clone();
        Box::pin(async move {
            tokio::time::sleep(machines.chance.between(0, 1)).await;
            let mut processes = machines.processes.lock();
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            let process = processes.get_mut(&address.port()).ok_or_else(refused)?;
            if !process.listens {
                return Err(refused());
            }
            let (near, far) = tokio::io::duplex(64 << 10);
            let (chance, revision) = (machines.chance.clone(), process.revision.clone());
            let answer = service_fn(move |_| {
                let (wait, revision) = (chance.between(0, 20), revision.clone());
                async move {
                    tokio::time::sleep(wait).await;
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(revision))))
                }
            });
            process.connections.spawn(async move {
                let server = hyper::server::conn::http1::Builder::new();
                // The other side closes when it is done.
                drop(server.serve_connection(TokioIo::new(far), answer).await);
            });
            Ok(Box::new(near) as BoxedIo)
        })
    }
}

fn port(pod: &Pod) -> u16 {
    let ports =
        pod.spec.iter().flat_map(|spec| &spec.containers).flat_map(|c| c.ports.iter().flatten());
    let mut user = ports.filter(|port| port.name.as_deref() == Some("user-port"));
    user.next().and_then(|port| u16::try_from(port.container_port).ok()).expect("a pod has a port")
}
