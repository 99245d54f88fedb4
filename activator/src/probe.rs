//! The activator's own readiness probe: the Revision's, run as soon as a pod has an address.
//!
//! Kubernetes probes once a second at best, so its verdict comes half a second late on average;
//! probed every few milliseconds, a pod serves as soon as it can.
//!
//! The runner, which stands in for kubelet, reads the same probes in code of its own: it must know
//! nothing of Ebb, it tells a person why a probe failed, and it asks the port that the probe names.
//! Here every failure only means "not yet", the port may differ from pod to pod, and connections
//! come from the activator's [`Connect`]. The two share only twenty bytes of gRPC.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ebb_api::serving::RevisionSpec;
use futures::FutureExt as _;
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::{GRPCAction, HTTPGetAction, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::time::{Instant, sleep, timeout};

use crate::connect::Connect;
use crate::upstream::dial;

/// The first pause between two attempts; doubles up to [`INTERVAL_MAX`].
const INTERVAL_MIN: Duration = Duration::from_millis(2);
/// The usual pause between two attempts.
const INTERVAL_MAX: Duration = Duration::from_millis(25);
/// The longest pause, for a pod that takes long anyway: its pause is one part in [`LATE_SHARE`] of
/// the time so far.
const INTERVAL_LATE_MAX: Duration = Duration::from_millis(250);
/// One part in so many of the start time may be lost to the pause between two attempts.
const LATE_SHARE: u32 = 400;
/// Longest attempt when the probe names no timeout; Kubernetes' default.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest answer that is read of a gRPC health check.
const ANSWER_BYTES_MAX: usize = 4096;

/// How to find out whether a pod of a revision is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbePlan {
    check: Check,
    attempt_timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Check {
    Tcp {
        port: Option<u16>,
    },
    Http {
        port: Option<u16>,
        path: String,
        headers: Vec<(HeaderName, HeaderValue)>,
    },
    Grpc {
        port: Option<u16>,
        service: String,
    },
    /// Only Kubernetes can tell: exec, a startup probe, or TLS without a trusted name.
    Kubernetes,
}

// === impl ProbePlan ===

impl ProbePlan {
    /// The plan for the pods of a Revision.
    pub fn of(spec: &RevisionSpec) -> Self {
        let container = spec.serving_container();
        let probe = container.and_then(|container| container.readiness_probe.as_ref());
        let serving = spec.port();
        let startup = container.is_some_and(|container| container.startup_probe.is_some());
        let check = match probe {
            Some(Probe { exec: Some(_), .. }) => Check::Kubernetes,
            Some(Probe { http_get: Some(get), .. }) => http_check(get, serving),
            Some(Probe { grpc: Some(GRPCAction { port, service }), .. }) => Check::Grpc {
                port: own_port(&IntOrString::Int(*port), serving),
                service: service.clone().unwrap_or_default(),
            },
            Some(Probe { tcp_socket: Some(TCPSocketAction { port, .. }), .. }) => {
                Check::Tcp { port: own_port(port, serving) }
            }
            // As Knative defaults it.
            None | Some(_) => Check::Tcp { port: None },
        };
        let seconds = probe.and_then(|probe| probe.timeout_seconds).filter(|s| *s > 0);
        Self {
            // Before a startup probe has passed, a readiness probe means nothing.
            check: if startup { Check::Kubernetes } else { check },
            attempt_timeout: seconds
                .and_then(|s| u64::try_from(s).ok())
                .map_or(ATTEMPT_TIMEOUT, Duration::from_secs),
        }
    }

    /// Whether the activator can run the probe itself.
    pub const fn is_own(&self) -> bool {
        !matches!(self.check, Check::Kubernetes)
    }
}

/// Returns when the pod at `address` is ready; tries for ever, so the caller must drop it when the
/// pod goes away.
pub(crate) async fn until_ready(plan: &ProbePlan, address: SocketAddr, connect: &Arc<dyn Connect>) {
    let begun = Instant::now();
    let mut interval = INTERVAL_MIN;
    loop {
        let attempt = attempt(&plan.check, address, connect.as_ref());
        let attempt = timeout(plan.attempt_timeout, attempt);
        // A panic means "not yet" as well: a probe that ended by one would leave its pod without
        // requests until the pod's next event.
        if matches!(AssertUnwindSafe(attempt).catch_unwind().await, Ok(Ok(Some(())))) {
            return;
        }
        sleep(interval).await;
        let late = (begun.elapsed() / LATE_SHARE).clamp(INTERVAL_MAX, INTERVAL_LATE_MAX);
        interval = (interval * 2).min(late);
    }
}

/// One attempt; `None` when the pod is not ready, whatever the reason.
async fn attempt(check: &Check, address: SocketAddr, connect: &dyn Connect) -> Option<()> {
    let at = |port: &Option<u16>| SocketAddr::new(address.ip(), port.unwrap_or(address.port()));
    match check {
        // A suspect pod whose probe only Kubernetes can run: here only a connection can be tried.
        Check::Kubernetes => dial(connect, address).await.ok().map(drop),
        Check::Tcp { port } => dial(connect, at(port)).await.ok().map(drop),
        Check::Http { port, path, headers } => get(connect, at(port), path, headers).await,
        Check::Grpc { port, service } => health(connect, at(port), service).await,
    }
}

async fn get(
    connect: &dyn Connect,
    address: SocketAddr,
    path: &str,
    headers: &[(HeaderName, HeaderValue)],
) -> Option<()> {
    let io = dial(connect, address).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.ok()?;
    let mut request = Request::get(path)
        .header(header::USER_AGENT, "kube-probe/ebb")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .ok()?;
    if !headers.iter().any(|(name, _)| name == header::HOST) {
        let host = HeaderValue::try_from(address.to_string()).ok()?;
        request.headers_mut().insert(header::HOST, host);
    }
    for (name, value) in headers {
        request.headers_mut().append(name, value.clone());
    }
    // Both in this task: the connection ends with the attempt, whatever happens.
    let answer = async {
        let status = sender.send_request(request).await.ok()?.status();
        (status.is_success() || status.is_redirection()).then_some(())
    };
    drive(connection, answer).await
}

/// gRPC health checking protocol v1 (`grpc.health.v1.Health/Check`), small enough to write by hand.
async fn health(connect: &dyn Connect, address: SocketAddr, service: &str) -> Option<()> {
    let io = dial(connect, address).await.ok()?;
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.ok()?;
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(Full::new(health_question(service)?))
        .ok()?;
    let answer = async {
        let response = sender.send_request(request).await.ok()?;
        if response.status() != StatusCode::OK {
            return None;
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.ok()?;
        is_serving(&body.to_bytes()).then_some(())
    };
    drive(connection, answer).await
}

/// A length-prefixed `HealthCheckRequest { string service = 1 }`.
fn health_question(service: &str) -> Option<Bytes> {
    let mut message = Vec::new();
    if !service.is_empty() {
        // One length byte: a service name above 127 bytes is not worth a varint.
        let length = u8::try_from(service.len()).ok().filter(|length| *length < 0x80)?;
        message.extend([0x0a, length]);
        message.extend(service.as_bytes());
    }
    let length = u32::try_from(message.len()).ok()?;
    let mut frame = vec![0];
    frame.extend(length.to_be_bytes());
    frame.extend(message);
    Some(frame.into())
}

/// Whether the frame is `HealthCheckResponse { status = SERVING }`.
fn is_serving(frame: &[u8]) -> bool {
    matches!(frame.get(..5), Some([0, ..])) && frame.get(5..7) == Some(&[0x08, 0x01])
}

/// Runs `answer` with the connection that it needs, without a task of its own.
async fn drive<C, A, T>(connection: C, answer: A) -> Option<T>
where
    C: Future<Output = hyper::Result<()>>,
    A: Future<Output = Option<T>>,
{
    let (connection, answer) = (std::pin::pin!(connection), std::pin::pin!(answer));
    match futures::future::select(answer, connection).await {
        futures::future::Either::Left((answer, _)) => answer,
        // The connection may end in the same poll that completes the answer.
        futures::future::Either::Right((_, answer)) => answer.await,
    }
}

fn http_check(get: &HTTPGetAction, serving: i32) -> Check {
    if get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) {
        return Check::Kubernetes;
    }
    let mut headers = Vec::new();
    for wanted in get.http_headers.iter().flatten() {
        let (name, value) = (wanted.name.parse(), wanted.value.parse());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.push((name, value));
        }
    }
    let path = get.path.as_deref().unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Check::Http { port: own_port(&get.port, serving), path, headers }
}

/// The port of the probe; `None` where it is the serving port, which may differ from pod to pod. A
/// name can only mean the one port that a Revision may name; 0 means that port too.
fn own_port(port: &IntOrString, serving: i32) -> Option<u16> {
    match port {
        IntOrString::Int(port) if *port != serving && *port != 0 => u16::try_from(*port).ok(),
        IntOrString::Int(_) | IntOrString::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::future::BoxFuture;

    use super::*;
    use crate::connect::BoxedIo;

    /// Panics at the first connection and makes all others.
    #[derive(Default)]
    struct Broken(AtomicU32);

    impl Connect for Broken {
        fn connect(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<BoxedIo>> {
            assert!(self.0.fetch_add(1, Ordering::Relaxed) > 0, "the test's panic");
            Box::pin(async { Ok(Box::new(tokio::io::empty()) as BoxedIo) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_panics_is_tried_again() {
        let plan =
            ProbePlan { check: Check::Tcp { port: None }, attempt_timeout: Duration::from_secs(1) };
        let broken = Arc::new(Broken::default());
        let connect: Arc<dyn Connect> = Arc::clone(&broken) as _;
        until_ready(&plan, ([127, 0, 0, 1], 1).into(), &connect).await;
        assert_eq!(broken.0.load(Ordering::Relaxed), 2);
    }
}
