//! The server in a pod. A request says in its head how it is to be served.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use ebb_activator::Accept as _;

use super::Health;
use crate::identity::Identity;
use crate::judge::Judge;
use crate::network::Listener;

/// Knative's default port of a container.
pub(super) const PORT: u16 = 8080;
/// Head field: number of the request.
pub(crate) const NUMBER: &str = "x-number";
/// Head field: milliseconds from the request's end to the answer's.
pub(crate) const WORK_MS: &str = "x-work-ms";
/// Head field: parts of the answer.
pub(crate) const PARTS: &str = "x-parts";
/// Head field of the answer: who serves.
pub(crate) const POD: &str = "x-pod";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Serves until it is aborted.
pub(super) async fn serve(
    mut listener: Listener,
    identity: Identity,
    health: watch::Receiver<Health>,
    judge: Judge,
) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((pipe, _)) = listener.accept().await else { continue };
        let (identity, health, judge) = (identity.clone(), health.clone(), judge.clone());
        connections.spawn(async move {
            let answer = service_fn(move |request| {
                answer(request, identity.clone(), *health.borrow(), judge.clone())
            });
            let server = auto::Builder::new(TokioExecutor::new());
            // The other side closes when it is done.
            drop(server.serve_connection(TokioIo::new(pipe), answer).await);
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    identity: Identity,
    health: Health,
    judge: Judge,
) -> io::Result<Response<Body>> {
    let Some(number) = number(request.headers(), NUMBER) else {
        return Ok(probed(health != Health::Unready));
    };
    let visit = judge.arrives(number, &identity);
    if health == Health::Sick {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    let work = Duration::from_millis(self::number(request.headers(), WORK_MS).unwrap_or(0));
    let parts = self::number(request.headers(), PARTS).unwrap_or(1).max(1);
    let received = match request.into_body().collect().await {
        Ok(body) => body.to_bytes().len(),
        // The caller left: nobody hears the answer.
        Err(_) => 0,
    };
    let step = work / u32::try_from(parts).unwrap_or(1);
    sleep(step).await;
    let head = format!("{} {received}\n", identity.revision_uid);
    let name = identity.name.to_string();
    let body = stream::unfold((0, visit, head), move |(part, visit, head)| async move {
        (part < parts).then_some(())?;
        if part > 0 {
            sleep(step).await;
        }
        let text = if part == 0 { head.clone() } else { format!("{part}\n") };
        let frame = Frame::data(Bytes::from(text));
        Some((Ok::<_, Infallible>(frame), (part + 1, visit, head)))
    });
    let response = Response::builder().header(POD, name);
    Ok(response.body(StreamBody::new(body).boxed_unsync()).expect("a literal"))
}

fn probed(is_well: bool) -> Response<Body> {
    let empty = http_body_util::Empty::new().boxed_unsync();
    let mut response = Response::new(empty);
    if !is_well {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}
