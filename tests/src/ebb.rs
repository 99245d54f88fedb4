//! One Ebb for one test: a process of its own, or a namespace of a cluster that Ebb is installed
//! on. The tests cannot tell the difference, unless they are about it.

mod cluster;
mod local;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use kube::config::{KubeConfigOptions, Kubeconfig};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use self::cluster::Cluster;
use self::local::Local;
pub use self::local::command;
use crate::client::Client;
use crate::kubectl::Kubectl;
use crate::manifest::QUICK;

const ABOUT_A_PROCESS: &str = "this test is about a process: it has no place on a cluster";

/// A running Ebb; dropping it ends everything that was deployed on it.
#[derive(Debug)]
pub struct Ebb {
    /// Where requests go.
    pub gateway: SocketAddr,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Local(Local),
    Cluster(Cluster),
}

impl Ebb {
    /// An Ebb with nothing deployed.
    pub async fn start() -> anyhow::Result<Self> {
        if Cluster::is_wanted() {
            let cluster = Cluster::start().await?;
            return Ok(Self { gateway: cluster.gateway, place: Place::Cluster(cluster) });
        }
        Self::start_in(Arc::new(TempDir::with_prefix("ebb-test-")?), &[]).await
    }

    /// Whether the tests run on a cluster.
    pub fn is_on_cluster() -> bool {
        Cluster::is_wanted()
    }

    /// An Ebb whose autoscaler uses a window of 6 s; on a cluster Ebb is installed that way.
    pub async fn start_quick() -> anyhow::Result<Self> {
        let ebb = Self::start().await?;
        if matches!(ebb.place, Place::Local(_)) {
            ebb.kubectl().apply(QUICK).await?;
        }
        Ok(ebb)
    }

    /// A process on a state folder, with more arguments.
    pub async fn start_in(folder: Arc<TempDir>, arguments: &[&str]) -> anyhow::Result<Self> {
        let local = Local::start(folder, arguments).await?;
        Ok(Self { gateway: local.gateway, place: Place::Local(local) })
    }

    /// The same with the command changed before it is run: another environment, say.
    pub async fn start_wrapped(
        folder: Arc<TempDir>,
        arguments: &[&str],
        wrap: impl FnOnce(&Command) -> Command,
    ) -> anyhow::Result<Self> {
        let local = Local::start_wrapped(folder, arguments, wrap).await?;
        Ok(Self { gateway: local.gateway, place: Place::Local(local) })
    }

    /// `kubectl`, in a namespace where nothing else is deployed.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.kubeconfig())
    }

    /// The kubeconfig of this Ebb, whose default is that namespace.
    pub fn kubeconfig(&self) -> PathBuf {
        match &self.place {
            Place::Local(_) => self.data().join("kubeconfig"),
            Place::Cluster(cluster) => cluster.kubeconfig(),
        }
    }

    /// That kubeconfig as kube reads it, for a client of the API.
    pub async fn api(&self) -> anyhow::Result<kube::Config> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        let options = KubeConfigOptions::default();
        Ok(kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?)
    }

    /// A client of the gateway.
    pub fn client(&self) -> Client {
        Client::new(self.gateway)
    }

    /// A client of the door for cluster-local hosts, which on a cluster only pods can reach.
    pub fn inner_client(&self) -> Client {
        Client::new(self.local().inner)
    }

    /// The external host of a service, with the port if it is not that of HTTP.
    pub fn host(&self, service: &str) -> String {
        match &self.place {
            Place::Local(_) => format!("{service}.default.localhost:{}", self.gateway.port()),
            Place::Cluster(cluster) => cluster.host(service),
        }
    }

    /// The models host.
    pub fn models_host(&self) -> String {
        match &self.place {
            Place::Local(_) => format!("models.localhost:{}", self.gateway.port()),
            Place::Cluster(cluster) => cluster.models_host(),
        }
    }

    /// How often a revision in the namespace was woken; `None` on a cluster, which does not tell.
    pub fn wakes(&self, revision: &str) -> Option<usize> {
        let Place::Local(local) = &self.place else { return None };
        let name = format!("default/{revision}");
        let named = |event: &Value| event["event"] == "waking" && event["revision"] == *name;
        Some(local.events().iter().filter(|event| named(event)).count())
    }

    /// The fields of all revisions of which `ebb local` has said that they have no effect.
    pub fn left_out(&self) -> Vec<String> {
        let events = self.local().events();
        let fields = events.iter().filter(|event| event["event"] == "left-out");
        let fields = fields.filter_map(|event| event["fields"].as_array().cloned()).flatten();
        fields.filter_map(|field| field.as_str().map(str::to_owned)).collect()
    }

    /// How often `ebb local` reported a service as deployed; one that changes is reported again.
    pub fn deployed(&self) -> usize {
        self.local().count("deployed")
    }

    /// The folder that holds state and kubeconfig; it outlives the process.
    pub fn folder(&self) -> Arc<TempDir> {
        self.local().folder()
    }

    /// The state folder.
    pub fn data(&self) -> PathBuf {
        self.local().folder().path().join("data")
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.local().pid()
    }

    /// Ends the process at once, as a crash or the kernel would.
    pub async fn kill(mut self) -> anyhow::Result<Arc<TempDir>> {
        self.local_mut().end(Signal::SIGKILL).await?;
        Ok(self.folder())
    }

    /// Ends the process as Ctrl-C does. Returns its exit status and its folder.
    pub async fn stop(mut self) -> anyhow::Result<(Option<i32>, Arc<TempDir>)> {
        let status = self.local_mut().end(Signal::SIGINT).await?;
        Ok((status, self.folder()))
    }

    fn local(&self) -> &Local {
        match &self.place {
            Place::Local(local) => Some(local),
            Place::Cluster(_) => None,
        }
        .expect(ABOUT_A_PROCESS)
    }

    fn local_mut(&mut self) -> &mut Local {
        match &mut self.place {
            Place::Local(local) => Some(local),
            Place::Cluster(_) => None,
        }
        .expect(ABOUT_A_PROCESS)
    }
}
