//! The writer against an API server that answers as it is told.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use parking_lot::Mutex;

use super::*;

/// Requests as `path body`, and the status codes still to answer with (then 200).
#[derive(Clone, Default)]
struct Api {
    requests: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<VecDeque<u16>>>,
}

impl Api {
    fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, std::convert::Infallible>(api.answer(request).await) }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let line = format!("{path} {}", String::from_utf8_lossy(&body));
        self.requests.lock().push(line);
        let code = self.answers.lock().pop_front().unwrap_or(200);
        let answer = if code == 200 {
            json!({"metadata": {"name": "x"}, "spec": {"containers": []}})
        } else {
            json!({"kind": "Status", "status": "Failure", "message": "no", "code": code})
        };
        Response::builder()
            .status(StatusCode::from_u16(code).unwrap())
            .body(Body::from(answer.to_string().into_bytes()))
            .unwrap()
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock())
    }
}

fn write(desired: u32, marks: &[(&str, Option<i32>)], is_lowering: bool) -> Write {
    Write {
        key: RevisionKey::new("models", "digits-00001"),
        uid: "uid-1".to_owned(),
        is_lowering,
        marks: marks.iter().map(|(name, cost)| ((*name).to_owned(), *cost)).collect(),
        desired: Some(desired),
    }
}

/// Lets everything under way end; returns how often all was written.
async fn finish(writer: &mut Writer) -> usize {
    let mut written = 0;
    while let Some(attempt) = writer.next().await {
        written += usize::from(matches!(writer.settle(attempt), Outcome::Written(_)));
    }
    written
}

#[tokio::test(start_paused = true)]
async fn pods_are_marked_before_the_scale_is_lowered() {
    let api = Api::default();
    let mut writer = Writer::new(api.client());
    writer.submit(write(1, &[("pod-a", Some(-1000))], true));
    assert_eq!(finish(&mut writer).await, 1);
    let requests = api.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[0].starts_with("/api/v1/namespaces/models/pods/pod-a "));
    assert!(requests[0].contains(r#""controller.kubernetes.io/pod-deletion-cost":"-1000""#));
    assert!(requests[1].contains("/revisions/digits-00001/status "));
    assert!(requests[1].contains(r#""desiredReplicas":1"#));
}

#[tokio::test(start_paused = true)]
async fn a_raise_is_one_request_and_waits_for_no_marks() {
    let api = Api::default();
    let mut writer = Writer::new(api.client());
    writer.submit(write(2, &[("pod-a", None)], false));
    finish(&mut writer).await;
    let requests = api.requests();
    assert!(requests[0].contains(r#""desiredReplicas":2"#), "{requests:?}");
    assert!(requests[1].contains(r#""controller.kubernetes.io/pod-deletion-cost":null"#));
}

#[tokio::test(start_paused = true)]
async fn demand_that_returns_during_the_marking_replaces_the_lower_scale() {
    let api = Api::default();
    let mut writer = Writer::new(api.client());
    writer.submit(write(1, &[("pod-a", Some(-1000))], true));
    writer.submit(write(2, &[], false));
    assert_eq!(finish(&mut writer).await, 1);
    let requests = api.requests().join("\n");
    assert!(requests.contains(r#""desiredReplicas":2"#), "{requests}");
    assert!(!requests.contains(r#""desiredReplicas":1"#), "{requests}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_tried_again_with_the_newest_scale() {
    let api = Api::default();
    api.answers.lock().extend([500, 409, 503]);
    let mut writer = Writer::new(api.client());
    writer.submit(write(1, &[], false));
    writer.submit(write(5, &[], false));
    let start = tokio::time::Instant::now();
    assert_eq!(finish(&mut writer).await, 1);
    assert!(start.elapsed() < BACKOFF_MAX * 3);
    let requests = api.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests[0].contains(r#""desiredReplicas":1"#));
    assert!(requests[1..].iter().all(|line| line.contains(r#""desiredReplicas":5"#)));
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_is_gone_is_not_written_to_again() {
    let api = Api::default();
    api.answers.lock().extend([404]);
    let mut writer = Writer::new(api.client());
    writer.submit(write(1, &[], false));
    assert_eq!(finish(&mut writer).await, 1);
    assert_eq!(api.requests().len(), 1);
    api.answers.lock().extend([500]);
    writer.submit(write(2, &[], false));
    let failed = writer.next().await.unwrap();
    writer.forget(&RevisionKey::new("models", "digits-00001"));
    writer.settle(failed);
    assert_eq!(finish(&mut writer).await, 0);
    assert_eq!(api.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn many_revisions_are_written_at_once_but_not_without_bound() {
    let api = Api::default();
    let mut writer = Writer::new(api.client());
    for number in 0..REQUESTS_MAX + 50 {
        let mut write = write(1, &[], false);
        write.key.name = number.to_string();
        writer.submit(write);
    }
    assert_eq!(writer.tasks.len(), REQUESTS_MAX);
    assert_eq!(finish(&mut writer).await, REQUESTS_MAX + 50);
}

#[test]
fn the_pause_grows_and_is_bounded() {
    assert_eq!(backoff(0), Duration::ZERO);
    for failures in 1..100 {
        let pause = backoff(failures);
        assert!(pause >= BACKOFF_FIRST / 2 && pause <= BACKOFF_MAX, "{failures}: {pause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_no_longer_leads_writes_nothing_more() {
    let api = Api::default();
    api.answers.lock().push_back(500);
    let mut writer = Writer::new(api.client());
    writer.submit(write(3, &[], false));
    let attempt = writer.next().await.unwrap();
    assert_eq!(writer.settle(attempt), Outcome::Failed);
    assert_eq!(api.requests().len(), 1);
    // The next try waits for its pause, and a newer decision waits behind it.
    writer.submit(write(4, &[], false));
    writer.drop_all();
    tokio::time::sleep(2 * BACKOFF_MAX).await;
    assert!(writer.next().await.is_none());
    assert_eq!(api.requests(), Vec::<String>::new());
    // Elected again, it begins anew.
    writer.submit(write(5, &[], false));
    let attempt = writer.next().await.unwrap();
    assert!(matches!(writer.settle(attempt), Outcome::Written(_)));
}
