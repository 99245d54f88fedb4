//! Uploads that go through two activators.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{sleep, timeout};

use super::fixture::*;
use super::peers::{Pair, h2c_one_at_a_time, metric, one_at_a_time};
use crate::WatchChange;

#[tokio::test(start_paused = true)]
async fn an_upload_that_waits_at_the_owner_stays_in_its_socket() {
    for spec in [one_at_a_time(), h2c_one_at_a_time()] {
        let pair = Pair::new(&spec);
        let mut connection = pair.other.dial();
        let head = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 9000000\r\n\r\n");
        connection.write_all(head.as_bytes()).await.unwrap();
        let part = [b'x'; 1000];
        let mut taken = 0;
        let second = Duration::from_secs(1);
        while let Ok(written) = timeout(second, connection.write(&part)).await {
            taken += written.unwrap();
        }
        assert_eq!(pair.owner.queued(), 1);
        // Buffers of 64 KiB at both ends of each hop, and the pipes themselves.
        assert!(taken < 300_000, "{taken} bytes were taken");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_waits_at_the_owner_learns_that_its_revision_is_deleted() {
    let pair = Pair::new(&one_at_a_time());
    let upload = Request::post("/").header("host", HOST).body(Full::new("x".into())).unwrap();
    let (response, ()) = futures::join!(pair.other.send(upload), async {
        sleep(Duration::from_secs(1)).await;
        pair.owner.activator.change_revisions(WatchChange::Deleted(revision(one_at_a_time())));
    });
    assert_eq!(
        (response.status().as_u16(), response.headers()["ebb-error"].to_str().unwrap()),
        (404, "revision-gone")
    );
}

/// Answers with the length of the body.
fn measure() -> Handler {
    Arc::new(|request: Request<Incoming>| {
        Box::pin(async move {
            let bytes = request.into_body().collect().await.unwrap().to_bytes();
            reply(bytes.len().to_string())
        })
    })
}

#[tokio::test(start_paused = true)]
async fn uploads_that_wait_do_not_keep_out_the_one_that_they_wait_for() {
    for spec in [one_at_a_time(), h2c_one_at_a_time()] {
        let pair = Pair::new(&spec);
        pair.start(1, measure()).await;
        let uploads = (0..40).map(|_| {
            let body = Full::new(Bytes::from(vec![b'x'; 300_000]));
            pair.other.send(Request::post("/").header("host", HOST).body(body).unwrap())
        });
        let responses = timeout(Duration::from_secs(10), join_all(uploads)).await;
        for response in responses.expect("nobody waits for ever") {
            assert_eq!(text(response).await, "300000");
        }
        assert_eq!(metric(&pair.other, "forwarded_total"), 40);
    }
}

/// It stood still while the revision was deleted and made anew: what it knows is about to be gone.
#[tokio::test(start_paused = true)]
async fn an_upload_is_served_although_the_owner_knows_the_earlier_revision_of_the_name() {
    let pair = Pair::new(&one_at_a_time());
    pair.start(1, measure()).await;
    let earlier = revision_with_uid("earlier", one_at_a_time());
    pair.owner.activator.change_revisions(WatchChange::Applied(earlier.clone()));
    let body = Full::new(Bytes::from(vec![b'x'; 1000]));
    let upload = Request::post("/").header("host", HOST).body(body).unwrap();
    let (response, ()) = futures::join!(pair.other.send(upload), async {
        sleep(Duration::from_millis(300)).await;
        pair.owner.activator.change_revisions(WatchChange::Deleted(earlier));
    });
    assert_eq!((response.status().as_u16(), text(response).await), (200, "1000".to_owned()));
}

/// It has lost its watch, and others see the revision.
#[tokio::test(start_paused = true)]
async fn an_upload_is_served_although_the_owner_does_not_know_the_revision() {
    for spec in [one_at_a_time(), h2c_one_at_a_time()] {
        let pair = Pair::new(&spec);
        pair.start(1, measure()).await;
        pair.owner.activator.change_revisions(WatchChange::Deleted(revision(spec)));
        for length in [1, 100_000] {
            let body = Full::new(Bytes::from(vec![b'x'; length]));
            let request = Request::post("/").header("host", HOST).body(body).unwrap();
            let response = pair.other.send(request).await;
            assert_eq!(
                (response.status().as_u16(), text(response).await),
                (200, length.to_string())
            );
        }
        assert_eq!(metric(&pair.other, "forwarded_total"), 0);
    }
}
