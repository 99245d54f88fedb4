//! What a connection is given before, and without, a stream.

use axum::body::{Body, Bytes};
use ebb_api::report::wire::Encoder;
use ebb_api::report::{Report, STREAM_PATH, Scope};
use ebb_daemon::identity::Doorkeeper;
use futures::channel::mpsc;
use http::Request;

use super::*;
use crate::intake::intake;
use crate::streams::{Streams, router};

fn streams() -> Router {
    router(intake(Counter::default()).0, Streams::default(), Doorkeeper::open())
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_reports_is_closed() {
    let start = tokio::time::Instant::now();
    let (_silent, io) = tokio::io::duplex(1024);
    let place = Places::default().take().unwrap();
    assert!(connection(io, streams(), &place).await.is_none());
    assert_eq!(start.elapsed(), STREAMLESS_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_connection_stays_for_as_long_as_its_stream_does() {
    let (client, io) = tokio::io::duplex(64 * 1024);
    let mut places = Places::default();
    let place = places.take().unwrap();
    let serving = tokio::spawn(async move { connection(io, streams(), &place).await });
    let (mut sender, http) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client))
            .await
            .unwrap();
    let client = tokio::spawn(http);
    let (lines, body) = mpsc::unbounded::<Result<Bytes, std::convert::Infallible>>();
    let request = Request::post(format!("http://autoscaler{STREAM_PATH}"));
    let request = request.body(Body::from_stream(body)).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let mut encoder = Encoder::new("one");
    for _ in 0..60 {
        let report =
            Report { activator: "one".to_owned(), scope: Scope::Full, revisions: Vec::new() };
        lines.unbounded_send(Ok(Bytes::from(encoder.encode(&report)))).unwrap();
        sleep(Duration::from_secs(1)).await;
    }
    assert!(!serving.is_finished());
    drop((lines, response));
    assert!(serving.await.unwrap().is_none(), "without its stream it goes, too");
    client.abort();
}

#[test]
fn a_connection_with_a_stream_keeps_its_place() {
    let mut places = Places::default();
    let busy: Vec<_> = (0..ACTIVATORS_MAX).map(|_| places.take().unwrap()).collect();
    let mut held: Vec<_> = busy.iter().map(|place| Arc::clone(&place.held)).collect();
    let idle: Vec<_> = (0..ACTIVATORS_MAX).map(|_| places.take().unwrap()).collect();
    let next = places.take().unwrap();
    assert!(idle[0].close.is_cancelled() && !idle[1].close.is_cancelled());
    assert!(busy.iter().all(|place| !place.close.is_cancelled()));
    // Its stream ended.
    held.swap_remove(7);
    places.take().unwrap();
    assert!(busy[7].close.is_cancelled());
    places.leave(&next);
    places.take().unwrap();
    assert!(!idle[1].close.is_cancelled() && places.taken.len() == CONNECTIONS_MAX);
    // Two more for each place: now every connection counts as one with a stream.
    for _ in 0..2 {
        held.extend(places.taken.values().map(|place| Arc::clone(&place.held)));
    }
    assert!(places.take().is_none());
}
