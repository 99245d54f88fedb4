//! A client that reaches the webhook cannot keep the API server from it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use ebb_tests::ebb::Ebb;
use ebb_tests::eventually;
use ebb_tests::kubectl::Kubectl;
use ebb_tests::manifest::backend;
use futures::future::join_all;
use k8s_openapi::ByteString;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

/// Connections to each replica of the webhook.
const CONNECTIONS: usize = 64;
/// Longest delay that these connections may cause for `kubectl apply`.
const DELAY_MAX: Duration = Duration::from_secs(3);
/// The name that the API server asks for.
const NAME: &str = "ebb-webhook.knative-serving.svc";
/// A head, and one byte of the body that it promises.
const HALF: &str = "POST /resource-validation HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{";

/// Forwards a local port to the webhook of one replica, until the returned process ends.
async fn forward(kubectl: &Kubectl, pod: &str) -> anyhow::Result<(Child, SocketAddr)> {
    let arguments = ["-n", "knative-serving", "port-forward", pod, ":8443"];
    let mut child = kubectl.spawn(&arguments)?;
    let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    let line = lines.next_line().await?.context("kubectl port-forward said nothing")?;
    let address = line.split_whitespace().find_map(|word| word.parse().ok());
    let address = address.with_context(|| format!("no address in {line:?}"))?;
    // kubectl writes a line for each connection, and must not wait for a reader.
    let mut errors = BufReader::new(child.stderr.take().context("its errors")?).lines();
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    tokio::spawn(async move { while let Ok(Some(_)) = errors.next_line().await {} });
    Ok((child, address))
}

/// A client that trusts what the API server trusts.
async fn connector(kubectl: &Kubectl) -> anyhow::Result<TlsConnector> {
    let path = "jsonpath={.webhooks[0].clientConfig.caBundle}";
    let object = "mutatingwebhookconfiguration/webhook.serving.knative.dev";
    let bundle = kubectl.ok(&["get", object, "-o", path]).await?;
    let ByteString(bundle) = serde_json::from_value(bundle.trim().into())?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bundle) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(client)))
}

/// Sends half a review and waits for the end of the connection, again and again; counts the half
/// reviews in `sent`.
async fn linger(connector: TlsConnector, address: SocketAddr, sent: Arc<AtomicUsize>) {
    loop {
        let once = async {
            let stream = TcpStream::connect(address).await?;
            let mut stream = connector.connect(ServerName::try_from(NAME)?, stream).await?;
            stream.write_all(HALF.as_bytes()).await?;
            stream.flush().await?;
            sent.fetch_add(1, Ordering::Relaxed);
            stream.read_to_end(&mut Vec::new()).await?;
            anyhow::Ok(())
        };
        if once.await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// How long the slowest of a few calls of `kubectl apply` took.
async fn slowest(kubectl: &Kubectl, round: &str) -> anyhow::Result<Duration> {
    let mut slowest = Duration::ZERO;
    for number in 0..4 {
        let start = Instant::now();
        kubectl.apply(&backend(&format!("{round}-{number}"), &[])).await?;
        slowest = slowest.max(start.elapsed());
    }
    Ok(slowest)
}

/// Eight connections that sent a head and one byte once stopped every `kubectl apply`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_reviews_on_many_connections_do_not_delay_kubectl_apply() -> anyhow::Result<()> {
    let ebb = Ebb::start().await?;
    let kubectl = &ebb.kubectl();
    let before = slowest(kubectl, "before").await?;
    let connector = connector(kubectl).await?;
    let label = "app.kubernetes.io/component=controller";
    let pods = ["-n", "knative-serving", "get", "pods", "-l", label, "-o", "name"];
    let pods = kubectl.ok(&pods).await?;
    let mut ways = Vec::new();
    for pod in pods.lines() {
        ways.push(forward(kubectl, pod).await?);
    }
    anyhow::ensure!(!ways.is_empty(), "no pod has the label {label}");
    let sent = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = ways
        .iter()
        .flat_map(|(_, address)| std::iter::repeat_n(*address, CONNECTIONS))
        .map(|address| tokio::spawn(linger(connector.clone(), address, Arc::clone(&sent))))
        .collect();
    // The clients connect again when the webhook closes their connections.
    eventually("half reviews wait on all connections", || async {
        (sent.load(Ordering::Relaxed) >= clients.len()).then_some(())
    })
    .await;
    let during = slowest(kubectl, "during").await?;
    clients.iter().for_each(tokio::task::JoinHandle::abort);
    join_all(clients).await;
    assert!(during <= before + DELAY_MAX, "{during:?}, and {before:?} without them");
    Ok(())
}
