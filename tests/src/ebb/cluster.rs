//! A namespace of its own on a cluster that Ebb is installed on.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::kubectl::Kubectl;

/// The variable that names the kubeconfig of the cluster under test; without it the tests run local
/// mode.
const KUBECONFIG: &str = "EBB_E2E_KUBECONFIG";
/// The port of the gateway's Service.
const PORT: u16 = 80;

/// A namespace; dropping it deletes it with everything inside.
#[derive(Debug)]
pub(super) struct Cluster {
    /// Where the gateway's Service is reached.
    pub(super) gateway: SocketAddr,
    namespace: String,
    domain: String,
    folder: TempDir,
}

impl Cluster {
    /// Whether the tests are to run on a cluster.
    pub(super) fn is_wanted() -> bool {
        std::env::var_os(KUBECONFIG).is_some()
    }

    /// Makes a namespace.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let given = std::env::var(KUBECONFIG).context(KUBECONFIG)?;
        let folder = TempDir::with_prefix("ebb-test-")?;
        let namespace = format!("e2e-{:016x}", rand::random::<u64>());
        let own = kubeconfig(folder.path());
        std::fs::copy(&given, &own).with_context(|| format!("cannot read {given}"))?;
        let kubectl = Kubectl::new(&own);
        let system = ["-n", "knative-serving", "get", "-o"];
        let address = "jsonpath={.status.loadBalancer.ingress[0].ip}";
        let address = [&system[..], &[address, "service", "ebb-activator"]].concat();
        let address: IpAddr = kubectl
            .ok(&address)
            .await?
            .parse()
            .context("the Service ebb-activator has no address: see kubectl describe")?;
        let domain = "go-template={{range $domain, $_ := .data}}{{$domain}}{{end}}";
        let domain = [&system[..], &[domain, "configmap", "config-domain"]].concat();
        let domain = kubectl.ok(&domain).await?;
        kubectl.ok(&["create", "namespace", &namespace]).await?;
        kubectl.ok(&["config", "set-context", "--current", "--namespace", &namespace]).await?;
        Ok(Self { gateway: SocketAddr::new(address, PORT), namespace, domain, folder })
    }

    /// A kubeconfig whose default is this namespace.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        kubeconfig(self.folder.path())
    }

    /// The models host, which all namespaces share.
    pub(super) fn models_host(&self) -> String {
        format!("models.{}", self.domain)
    }

    /// The external host of a service here.
    pub(super) fn host(&self, service: &str) -> String {
        format!("{service}.{}.{}", self.namespace, self.domain)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut delete = std::process::Command::new("kubectl");
        delete.arg("--kubeconfig").arg(self.kubeconfig());
        delete.args(["delete", "namespace", "--wait=false", &self.namespace]);
        // A namespace that stays is in nobody's way: the next test has another.
        drop(delete.stdin(Stdio::null()).stdout(Stdio::null()).status());
    }
}

fn kubeconfig(folder: &Path) -> PathBuf {
    folder.join("kubeconfig")
}
