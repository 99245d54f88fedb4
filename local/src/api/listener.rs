//! The server on a loopback socket, for `kubectl` and other programs of this machine.
//!
//! A web page in a browser of this machine can reach loopback too. Two rules keep it out, for
//! there is no authentication: the `Host` must be a loopback name or address (else a page whose
//! own DNS name points to 127.0.0.1 could read everything), and a request with an `Origin` is
//! refused (else any page could send writes blindly). No command-line client sends an `Origin`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::failure::Failure;
use super::reply::{self, ReplyBody};
use super::server::{ApiServer, ApiService};

/// Most connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// Longest time for the head of a request to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after an accept that failed: out of file descriptors, most often.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(100);
/// Who calls through the socket, as admission sees it: the one person of this machine.
const USER: &str = "kubernetes-admin";

/// Serves until `shutdown`; connections are cut then, for watches have no end to wait for.
pub(super) async fn serve(server: ApiServer, listener: TcpListener, shutdown: CancellationToken) {
    let service = server.service(USER);
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &permits) => accepted,
            () = shutdown.cancelled() => return,
        };
        match accepted {
            Ok((stream, permit)) => {
                let (service, shutdown) = (service.clone(), shutdown.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = connection(stream, service) => {}
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

async fn connection(stream: TcpStream, service: ApiService) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new());
    let handler = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut service = service.clone();
        async move {
            match refusal(&request) {
                Some(refusal) => Ok(refusal),
                None => service.call(request).await,
            }
        }
    });
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), handler).await {
        tracing::debug!(error, "A connection to the API ended early");
    }
}

fn refusal<B>(request: &Request<B>) -> Option<Response<ReplyBody>> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let detail = if !authority.or(host).is_some_and(is_loopback) {
        "the Host is not a loopback name or address"
    } else if request.headers().contains_key(header::ORIGIN) {
        "requests of web pages are not served"
    } else {
        return None;
    };
    Some(reply::failure(&Failure::new(403, "Forbidden", detail)))
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
    use super::*;

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
        assert_eq!(refusal(&request).unwrap().status(), 403);
    }
}
