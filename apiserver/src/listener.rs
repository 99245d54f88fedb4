//! The server on a loopback socket, for `kubectl` and other programs of this machine.
//!
//! It speaks TLS, so that no token is shown to another process that took the port while Ebb did not
//! run; and because no client of Kubernetes sends a bearer token without TLS.
//!
//! Every user of this machine reaches loopback, and so does every process that shares its network
//! namespace: a request has to carry a token. Only health needs none, as in Kubernetes: its answer
//! reveals nothing.
//!
//! A web page in a browser of this machine reaches loopback too. Two more rules keep it out should
//! it ever learn a token: the `Host` must be a loopback name or address (else a page whose own DNS
//! name points to 127.0.0.1 could read everything), and a request with an `Origin` is refused (else
//! any page could send writes blindly). No command-line client sends an `Origin`.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use crate::certificate::Certificate;
use crate::failure::RequestFailure;
use crate::reply;
use crate::server::{ApiServer, ApiService};

/// Most connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// Longest TLS handshake: two round trips within this machine.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection lasts whose requests show no token: for a few health requests. Every user of
/// this machine can take a place.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for the head of the next request of HTTP/1. Go's clients send requests on connections
/// that were idle for up to 90 s and cannot send a write again where the server closes at that
/// moment: the client has to be the side that closes.
const IDLE_TIMEOUT: Duration = Duration::from_mins(2);
/// Pause after an accept that failed: out of file descriptors, most often.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(100);

/// User name of a health request, which needs no token: Kubernetes' name for an unknown user.
const ANONYMOUS: &str = "system:anonymous";

// === impl ApiServer ===

impl ApiServer {
    /// Serves HTTP/1 and HTTP/2 over TLS until `shutdown`. Open watches end then.
    ///
    /// Apart from health, only requests with one of the server's tokens are answered, and those of
    /// web pages not even then: see this module. The holder of a token can run commands as this
    /// user, so `listener` must be bound to loopback.
    pub async fn serve(
        &self,
        listener: TcpListener,
        certificate: &Certificate,
        shutdown: CancellationToken,
    ) {
        serve(self.clone(), listener, certificate.server(), shutdown).await;
    }
}

/// Serves until `shutdown`; connections are cut then, for watches have no end to wait for.
async fn serve(
    server: ApiServer,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    shutdown: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &permits) => accepted,
            () = shutdown.cancelled() => return,
        };
        match accepted {
            Ok((stream, permit)) => {
                let (server, shutdown) = (server.clone(), shutdown.clone());
                let greeting = acceptor.accept(stream);
                tokio::spawn(async move {
                    tokio::select! {
                        () = connection(greeting, server) => {}
                        () = shutdown.cancelled() => {}
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "Cannot accept a connection to the API");
                tokio::time::sleep(ACCEPT_RETRY_AFTER).await;
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Watch events are small and must not wait for each other.
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

async fn connection(greeting: tokio_rustls::Accept<TcpStream>, server: ApiServer) {
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, greeting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "The TLS handshake of a connection to the API failed");
            return;
        }
        Err(_) => return,
    };
    serve_connection(stream, server).await;
}

async fn serve_connection<S>(stream: S, server: ApiServer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT);
    builder.http2().timer(TokioTimer::new());
    let is_admitted = Arc::new(AtomicBool::new(false));
    let is_late = late(is_admitted.clone());
    let handler = hyper::service::service_fn(move |request: Request<Incoming>| {
        let admitted = admit(&server, &request);
        if admitted.is_ok() && !is_health(request.uri().path()) {
            is_admitted.store(true, Ordering::Relaxed);
        }
        async move {
            match admitted {
                Ok(mut service) => service.call(request).await,
                Err(failure) => Ok(reply::failure(&failure)),
            }
        }
    });
    tokio::select! {
        ended = builder.serve_connection(TokioIo::new(stream), handler) => {
            if let Err(error) = ended {
                tracing::debug!(error, "A connection to the API ended early");
            }
        }
        () = is_late => tracing::debug!("A connection to the API has shown no token"),
    }
}

/// Ends when no request of a connection has shown a token within [`TOKEN_TIMEOUT`].
async fn late(is_admitted: Arc<AtomicBool>) {
    tokio::time::sleep(TOKEN_TIMEOUT).await;
    if is_admitted.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

/// The server on behalf of the sender of `request`; or the refusal.
fn admit<B>(server: &ApiServer, request: &Request<B>) -> Result<ApiService, RequestFailure> {
    if let Some(refusal) = refusal(request) {
        return Err(refusal);
    }
    if is_health(request.uri().path()) {
        return Ok(server.service(ANONYMOUS));
    }
    let identity = server.tokens().authenticate(request.headers())?;
    Ok(server.service(&identity.name))
}

/// Whether this is the path of a health request, which needs no token.
fn is_health(path: &str) -> bool {
    matches!(path, "/healthz" | "/livez" | "/readyz")
}

fn refusal<B>(request: &Request<B>) -> Option<RequestFailure> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let detail = if !authority.or(host).is_some_and(is_loopback) {
        "the Host is not a loopback name or address"
    } else if request.headers().contains_key(header::ORIGIN) {
        "requests of web pages are not served"
    } else {
        return None;
    };
    Some(RequestFailure::new(403, "Forbidden", detail))
}

/// Whether `host`, with or without a port, can only mean this machine.
fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<http::uri::Authority>() else {
        return false;
    };
    let name = authority.host();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;

    use super::*;
    use crate::ApiOptions;
    use crate::authentication::{Identity, Tokens};
    use crate::certificate::Certificate;

    #[test]
    fn only_names_of_this_machine_are_served() {
        for host in ["localhost", "LOCALHOST:8001", "127.0.0.1:80", "127.1.2.3", "[::1]:443"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["", "evil.example", "127.0.0.1.evil.example", "10.0.0.1:80", "a b"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_web_page_is_refused() {
        let request = Request::get("/api")
            .header("host", "127.0.0.1:8001")
            .header("origin", "http://evil.example")
            .body(())
            .unwrap();
        assert_eq!(refusal(&request).unwrap().code, 403);
    }

    fn request(path: &str, token: Option<&str>) -> Request<()> {
        let mut request = Request::get(path).header("host", "localhost:8090");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.body(()).unwrap()
    }

    /// Without a token, every user of the machine could run commands as the user who started Ebb.
    #[tokio::test]
    async fn nothing_but_health_is_served_without_a_token() {
        let tokens = Tokens::default().with("secret", Identity::user("someone"));
        let options = ApiOptions { tokens, ..ApiOptions::memory() };
        let server = ApiServer::open(options).unwrap();
        let code = |path, token| {
            admit(&server, &request(path, token)).map_or_else(|failure| failure.code, |_| 200)
        };
        for path in ["/", "/api", "/version", "/openapi/v3", "/api/v1/pods", "/healthz/../api"] {
            assert_eq!(code(path, None), 401, "{path}");
            assert_eq!(code(path, Some("guess")), 401, "{path}");
            assert_eq!(code(path, Some("secret")), 200, "{path}");
        }
        for path in ["/healthz", "/livez", "/readyz"] {
            assert_eq!(code(path, None), 200, "{path}");
        }
    }

    /// A connection by the address alone, to a server whose certificate is trusted.
    async fn connected(address: SocketAddr, certificate: &Certificate) -> TlsStream<TcpStream> {
        let mut trusted = RootCertStore::empty();
        let pem = certificate.trusted().as_bytes();
        trusted.add(CertificateDer::from_pem_slice(pem).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(trusted)
            .with_no_client_auth();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::IpAddress(address.ip().into());
        TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap()
    }

    /// Over a real connection the refusal is a Status, as clients expect.
    #[tokio::test]
    async fn a_refusal_is_a_status() {
        let certificate = Certificate::fresh("test").unwrap();
        let server = ApiServer::open(ApiOptions::memory()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let end = CancellationToken::new();
        let serving = tokio::spawn(serve(server, listener, certificate.server(), end.clone()));
        let mut stream = connected(address, &certificate).await;
        let request = "GET /api/v1/pods HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        let body: serde_json::Value =
            serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!((&body["kind"], &body["reason"]), (&"Status".into(), &"Unauthorized".into()));
        end.cancel();
        serving.await.unwrap();
    }

    /// Go's clients send requests on connections that were idle for up to 90 s.
    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_stays_for_the_next_request_and_one_without_a_token_does_not() {
        let tokens = Tokens::default().with("secret", Identity::user("someone"));
        let options = ApiOptions { tokens, ..ApiOptions::memory() };
        let server = ApiServer::open(options).unwrap();
        let (mut client, far) = tokio::io::duplex(64 * 1024);
        let serving = tokio::spawn(serve_connection(far, server.clone()));
        let asked = b"GET /api HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer secret\r\n\r\n";
        for _ in 0..2 {
            client.write_all(asked).await.unwrap();
            let mut answer = [0; 4096];
            let length = client.read(&mut answer).await.unwrap();
            assert!(answer[..length].starts_with(b"HTTP/1.1 200 "), "{length}");
            tokio::time::sleep(Duration::from_secs(100)).await;
        }
        drop(client);
        serving.await.unwrap();
        let health = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n".as_slice();
        for sent in [b"".as_slice(), health] {
            let (mut client, far) = tokio::io::duplex(4096);
            client.write_all(sent).await.unwrap();
            let end = serve_connection(far, server.clone());
            tokio::time::timeout(2 * TOKEN_TIMEOUT, end).await.expect("an end");
        }
    }
}
