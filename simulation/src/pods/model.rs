//! The server in a pod. A request says in its head how it is to be served.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header};
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
use crate::content;
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
/// Head field: there if the answer's length is to be said.
pub(crate) const SIZED: &str = "x-sized";
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
        return Ok(probed(health.is_ready()));
    };
    let visit = judge.arrives(number, &identity);
    if health.is_sick() {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    let work = Duration::from_millis(self::number(request.headers(), WORK_MS).unwrap_or(0));
    let parts = self::number(request.headers(), PARTS).unwrap_or(1).max(1);
    let is_sized = request.headers().contains_key(SIZED);
    let has_trailers = request.headers().contains_key(header::TE);
    let Ok(body) = request.into_body().collect().await else {
        // The caller left: nobody hears the answer.
        return Err(io::ErrorKind::ConnectionAborted.into());
    };
    let trailer = body.trailers().and_then(|trailers| trailers.get(content::LAST)?.to_str().ok());
    let trailer = trailer.unwrap_or("-").to_owned();
    let echo = body.to_bytes();
    let step = work / u32::try_from(parts).unwrap_or(1);
    sleep(step).await;
    let first = content::head(&identity.revision_uid, echo.len(), &trailer);
    let mut pieces = vec![Frame::data(Bytes::from(first))];
    pieces.extend((1..parts).map(|part| Frame::data(content::part(part).into())));
    // Frames without bytes are rare, and h2 allows some hundred of them in the life of a connection.
    let mut rest: Vec<_> = (!echo.is_empty()).then(|| Frame::data(echo)).into_iter().collect();
    let mut response = Response::builder().header(POD, &*identity.name);
    if is_sized {
        let frames = pieces.iter().chain(&rest).filter_map(Frame::data_ref);
        response = response.header(header::CONTENT_LENGTH, frames.map(Bytes::len).sum::<usize>());
    } else if has_trailers {
        let sum = HeaderMap::from_iter([(HeaderName::from_static(content::SUM), number.into())]);
        rest.push(Frame::trailers(sum));
        response = response.header(header::TRAILER, content::SUM);
    }
    let timed =
        stream::iter(pieces.into_iter().enumerate()).then(move |(index, piece)| async move {
            if index > 0 {
                sleep(step).await;
            }
            piece
        });
    // The visit lasts as long as the answer.
    let frames = timed.chain(stream::iter(rest)).map(move |frame| {
        let _visit = &visit;
        Ok::<_, Infallible>(frame)
    });
    Ok(response.body(StreamBody::new(frames.boxed()).boxed_unsync()).expect("they are literals"))
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
