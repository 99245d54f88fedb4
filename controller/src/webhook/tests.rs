//! The webhook's server on a real socket, over TLS.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate::Certificate;
use super::eviction::CONNECTIONS_MAX;
use super::*;

const NAME: &str = "ebb-webhook.knative-serving.svc";

/// A running server.
struct Running {
    address: SocketAddr,
    connector: TlsConnector,
    evicted: Counter,
    reviews: Reviews,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        let certificate = Certificate::issue(NAME, Timestamp::now()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_, config) = watch::channel(Arc::new(Config::default()));
        let (reviews, evicted) = (Reviews::new(config), Counter::default());
        let server = Server {
            listener,
            tls: Arc::new(ArcSwap::new(tls::server(&certificate).unwrap())),
            answers: reviews.clone(),
            evicted: evicted.clone(),
        };
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(server.run(shutdown.clone()));
        let mut roots = RootCertStore::empty();
        let trusted = CertificateDer::from_pem_slice(certificate.authority.as_bytes()).unwrap();
        roots.add(trusted).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(client));
        Self { address, connector, evicted, reviews, shutdown, serving }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        self.connector.connect(ServerName::try_from(NAME).unwrap(), stream).await.unwrap()
    }

    /// A connection on which `bytes` were sent.
    async fn send(&self, bytes: &[u8]) -> TlsStream<TcpStream> {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        stream
    }

    /// The answer to a whole review, from the status line on.
    async fn review(&self) -> String {
        let body = review().to_string();
        let head = head(body.len());
        let mut stream = self.send(format!("{head}{body}").as_bytes()).await;
        let mut said = String::new();
        // Without a close_notify of TLS this is an error after everything was read.
        drop(stream.read_to_string(&mut said).await);
        said
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.unwrap();
    }

    fn count(&self, outcome: &'static str) -> u64 {
        let webhook = admission::VALIDATING_WEBHOOK;
        self.reviews.answered.get_or_create(&ReviewLabels { webhook, outcome }).get()
    }
}

fn head(length: usize) -> String {
    format!(
        "POST /resource-validation HTTP/1.1\r\nhost: {NAME}\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n"
    )
}

fn review() -> Value {
    json!({"request": {
        "uid": "7",
        "kind": {"group": "serving.knative.dev", "version": "v1", "kind": "Service"},
        "operation": "DELETE",
    }})
}

/// Eight such connections once kept all other reviews from being answered.
#[tokio::test]
async fn connections_that_send_a_head_and_one_byte_keep_no_review_from_being_answered() {
    let running = Running::start().await;
    let mut slow = Vec::new();
    for _ in 0..64 {
        slow.push(running.send(format!("{}{{", head(1000)).as_bytes()).await);
    }
    let said = timeout(Duration::from_secs(3), running.review()).await.expect("an answer");
    assert!(said.starts_with("HTTP/1.1 200") && said.contains(r#""allowed":true"#), "{said}");
    // The slow connections get an answer and are closed.
    let mut end = String::new();
    drop(slow[0].read_to_string(&mut end).await);
    assert!(end.starts_with("HTTP/1.1 408"), "{end}");
    drop(slow);
    assert_eq!((running.count("allowed"), running.evicted.get()), (1, 0));
    running.stop().await;
}

/// An API server sends its next review on a connection that was idle for up to 90 s. Closed after
/// two, it cost writes of users, whose review was lost with it.
#[tokio::test]
async fn a_connection_that_was_answered_stays_open_for_the_next_review() {
    let running = Running::start().await;
    let body = review().to_string();
    let head = head(body.len()).replace("connection: close\r\n", "");
    let whole = format!("{head}{body}");
    let mut stream = running.connect().await;
    for _ in 0..2 {
        stream.write_all(whole.as_bytes()).await.unwrap();
        let mut said = [0; 12];
        stream.read_exact(&mut said).await.expect("an answer");
        assert_eq!(&said, b"HTTP/1.1 200");
        // The rest of the answer is read, and then there is nothing to read.
        let mut rest = [0; 1024];
        let waited = async { while stream.read(&mut rest).await.unwrap() > 0 {} };
        timeout(Duration::from_secs(4), waited).await.expect_err("the connection was closed");
    }
    assert_eq!(running.count("allowed"), 2);
    // At a shutdown, too, the API server may be about to send: it gets an answer, which is the last.
    running.shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    stream.write_all(whole.as_bytes()).await.unwrap();
    let mut said = String::new();
    drop(stream.read_to_string(&mut said).await);
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("connection: close\r\n"), "{said}");
    assert_eq!(running.count("allowed"), 3);
    running.stop().await;
}

/// A connection that asks nothing is not kept.
#[tokio::test]
async fn a_connection_without_a_first_request_is_closed() {
    let running = Running::start().await;
    let mut silent = running.send(b"POST /resource-validation HTTP/1.1\r\nhost").await;
    let mut said = String::new();
    let closed = silent.read_to_string(&mut said);
    drop(timeout(Duration::from_secs(8), closed).await.expect("an end"));
    running.stop().await;
}

/// Any number of connections that send no review at all.
#[tokio::test]
async fn connections_beyond_the_bound_make_room_and_reviews_are_answered() {
    let running = Running::start().await;
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        idle.push(TcpStream::connect(running.address).await.unwrap());
    }
    for _ in 0..3 {
        idle.push(running.connect().await.into_inner().0);
        let said = running.review().await;
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    }
    assert!(running.evicted.get() >= 3, "{}", running.evicted.get());
    running.stop().await;
}

#[tokio::test]
async fn what_is_no_review_is_answered_with_what_is_wrong() {
    let running = Running::start().await;
    for (sent, status) in [
        ("GET /defaulting HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_owned(), "405"),
        ("POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n".to_owned(), "404"),
        (format!("{}{{", head(1)), "400"),
        (head(8 * 1024 * 1024), "413"),
    ] {
        let mut stream = running.send(sent.as_bytes()).await;
        let mut said = String::new();
        drop(stream.read_to_string(&mut said).await);
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{sent}: {said}");
    }
    assert_eq!((running.count("unreadable"), running.count("too-long")), (1, 1));
    running.stop().await;
}
