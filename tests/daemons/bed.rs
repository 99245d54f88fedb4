//! The daemons' environment: the embedded API, with stand-ins for the Deployment controller and
//! kubelet.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::Context as _;
use ebb_api::config::Config;
use ebb_apiserver::authentication::{ADMIN, Identity, Tokens};
use ebb_apiserver::certificate::Certificate;
use ebb_apiserver::{ApiOptions, ApiServer};
use ebb_daemon::identity;
use ebb_local::deployments::{self, DeploymentOptions};
use ebb_local::kubeconfig;
use ebb_local::platform::api_options;
use ebb_local::token;
use ebb_runner::guardian::Guardian;
use ebb_runner::{Ports, RunnerOptions};
use ebb_tests::binaries::binary;
use ebb_tests::client::Client;
use ebb_tests::kubectl::Kubectl;
use ebb_tests::manifest::{QUICK, service};
use ebb_tests::ports::free_address;
use ebb_tests::{PATIENCE, eventually, processes};
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Seconds of a lease: a test that kills the leader waits for the end of its lease, and this API
/// server is never slow.
const LEASE: &str = "3";

/// The key under which the API server names the pod that a token is bound to.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
/// The activators that have a token, each with its token.
const TOKENS: [(&str, &str); 2] =
    [("activator-0", "token-of-activator-0"), ("activator-1", "token-of-activator-1")];

/// An API server with nothing on it.
pub(crate) struct Bed {
    folder: TempDir,
    /// Ends the replicas should this process be killed.
    _guardian: Guardian,
    stop: CancellationToken,
}

/// A daemon that runs; dropping it kills it.
pub(crate) struct Daemon {
    child: Child,
    admin: SocketAddr,
    /// Where it listens for requests from inside the cluster, or for reports.
    pub(crate) address: SocketAddr,
}

// === impl Bed ===

impl Bed {
    /// Starts an API server, with a scaling window of 6 s.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("ebb-daemons-")?;
        let instance = format!("ebb-daemons-{}", rand::random::<u64>());
        let guardian = Guardian::start(&instance, &binary("ebb"))?;
        let settings = watch::channel(Arc::new(Config::default())).1;
        let mut runner = RunnerOptions::new(folder.path(), instance);
        runner.guardian = Some(guardian.clone());
        let logs = Arc::new(runner.logs.clone());
        let token = token::fresh();
        let own = Tokens::default().with(&*token, Identity::user(ADMIN));
        let tokens = TOKENS.iter().fold(own, |tokens, (pod, token)| tokens.with(*token, of(pod)));
        let options = ApiOptions { logs, tokens, ..api_options(settings) };
        let api = ApiServer::open(options)?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let certificate = Certificate::fresh("test")?;
        let (server, end, own) = (api.clone(), stop.clone(), certificate.clone());
        tokio::spawn(async move { server.serve(listener, &own, end).await });
        let options = DeploymentOptions { ports: Some(Ports::default()), scheduler: None };
        tokio::spawn(deployments::run(api.client(), options, stop.clone()));
        tokio::spawn(ebb_runner::run(api.client(), runner, stop.clone()));
        let bed = Self { folder, _guardian: guardian, stop };
        kubeconfig::write(&bed.kubeconfig(), address, &certificate, &token)?;
        bed.kubectl().apply(QUICK).await?;
        Ok(bed)
    }

    pub(crate) fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.kubeconfig())
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    pub(crate) async fn autoscaler(&self, name: &str) -> anyhow::Result<Daemon> {
        self.autoscaler_at(name, free_address()).await
    }

    /// An autoscaler at an address that activators know.
    pub(crate) async fn autoscaler_at(
        &self,
        name: &str,
        address: SocketAddr,
    ) -> anyhow::Result<Daemon> {
        let listen = address.to_string();
        let arguments = ["--listen", &listen, "--lease", LEASE];
        self.daemon("ebb-autoscaler", name, address, &arguments).await
    }

    pub(crate) async fn controller(&self, name: &str) -> anyhow::Result<Daemon> {
        self.daemon("ebb-controller", name, free_address(), &["--lease", LEASE]).await
    }

    pub(crate) async fn activator(
        &self,
        name: &str,
        autoscalers: &[&Daemon],
    ) -> anyhow::Result<Daemon> {
        self.activator_with(name, autoscalers, self.own(name)?).await
    }

    /// An activator that shows a token which was never issued.
    pub(crate) async fn impostor(
        &self,
        name: &str,
        autoscalers: &[&Daemon],
    ) -> anyhow::Result<Daemon> {
        self.activator_with(name, autoscalers, self.shown(name, "a-guess")?).await
    }

    /// The arguments by which an activator shows its own token.
    fn own(&self, name: &str) -> anyhow::Result<Vec<String>> {
        let (_, token) = TOKENS.iter().find(|(pod, _)| *pod == name).context("it has no token")?;
        self.shown(name, token)
    }

    fn shown(&self, name: &str, token: &str) -> anyhow::Result<Vec<String>> {
        let file = self.folder.path().join(format!("token-{name}"));
        std::fs::write(&file, token)?;
        Ok(vec!["--token".to_owned(), file.display().to_string()])
    }

    /// An activator that serves others, with the Pod by which they find it. The Pod runs only
    /// `sleep`; its name and its port are the activator's.
    pub(crate) async fn activator_among_others(
        &self,
        name: &str,
        autoscalers: &[&Daemon],
    ) -> anyhow::Result<Daemon> {
        let peers = free_address();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": "knative-serving",
                "labels": {
                    "app.kubernetes.io/name": "ebb",
                    "app.kubernetes.io/component": "activator",
                },
            },
            "spec": {"nodeName": "local", "containers": [{
                "name": "activator", "image": "none", "command": ["sleep", "600"],
                "ports": [{"name": "peers", "containerPort": peers.port()}],
            }]},
        });
        let mut arguments = self.own(name)?;
        arguments.extend(["--peers".to_owned(), peers.to_string()]);
        let activator = self.activator_with(name, autoscalers, arguments).await?;
        self.kubectl().apply(&pod.to_string()).await?;
        Ok(activator)
    }

    async fn activator_with(
        &self,
        name: &str,
        autoscalers: &[&Daemon],
        mut arguments: Vec<String>,
    ) -> anyhow::Result<Daemon> {
        let address = free_address();
        arguments.extend(["--inner".to_owned(), address.to_string()]);
        arguments.extend(["--listen".to_owned(), free_address().to_string()]);
        for autoscaler in autoscalers {
            arguments.extend(["--autoscaler".to_owned(), autoscaler.address.to_string()]);
        }
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        self.daemon("ebb-activator", name, address, &arguments).await
    }

    async fn daemon(
        &self,
        program: &str,
        name: &str,
        address: SocketAddr,
        arguments: &[&str],
    ) -> anyhow::Result<Daemon> {
        let admin = free_address();
        let mut child = Command::new(binary(program))
            .args(["--name", name, "--admin", &admin.to_string()])
            .args(["--log-format", "text", "--log", "warn"])
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{program} cannot be started"))?;
        let client = Client::new(admin);
        let what = format!("{program} is ready");
        let ready = eventually(&what, || async {
            client.get("admin", "/readyz").await.ok().filter(|answer| answer.status == 200)
        });
        tokio::select! {
            _ = ready => Ok(Daemon { child, admin, address }),
            status = child.wait() => anyhow::bail!("{program} ended before it was ready: {status:?}"),
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

// === impl Daemon ===

impl Daemon {
    /// Ends it as a crash would.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        self.child.start_kill()?;
        self.child.wait().await?;
        Ok(())
    }

    /// Asks it to end, as Kubernetes does.
    pub(crate) fn terminate(&self) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        processes::signal(pid.expect("it runs"), Signal::SIGTERM);
    }

    /// Waits for its end and returns its exit status.
    pub(crate) async fn ended(mut self) -> anyhow::Result<Option<i32>> {
        Ok(tokio::time::timeout(PATIENCE, self.child.wait()).await??.code())
    }

    /// The value of one of its metrics, by the metric's name or by name and labels; `None` if it
    /// shows no such metric.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let text = Client::new(self.admin).get("admin", "/metrics").await.ok()?.text;
        let is_it =
            |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let line = text.lines().find(is_it)?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

/// The identity behind the token of an activator's pod, as on a cluster.
fn of(pod: &str) -> Identity {
    Identity {
        extra: [(POD_NAME.to_owned(), vec![pod.to_owned()])].into(),
        audiences: vec![identity::AUDIENCE.to_owned()],
        ..Identity::user(format!(
            "system:serviceaccount:knative-serving:{}",
            identity::ACTIVATOR_ACCOUNT
        ))
    }
}

/// A Service of the tests' backend, named by its path: there is no `ebb` process beside which it
/// would be found by its name.
pub(crate) fn backend(name: &str) -> String {
    service(name, &binary("ebb-backend").display().to_string(), &[], "", "")
}

/// The same, with one request at a time in one pod at most.
pub(crate) fn narrow_backend(name: &str) -> String {
    let program = binary("ebb-backend").display().to_string();
    let annotations = "autoscaling.knative.dev/max-scale: \"1\"";
    service(name, &program, &[], annotations, "containerConcurrency: 1")
}

/// The host of a Service in `default`: no domain is set, so it is the Service's name in the
/// cluster.
pub(crate) fn host(name: &str) -> String {
    format!("{name}.default.svc.cluster.local")
}
