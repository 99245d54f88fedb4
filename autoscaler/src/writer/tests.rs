//! The writer against an API server that answers as it is told.

use std::collections::VecDeque;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::timeout;

use super::budget::UNDER_WAY_MAX;
use super::*;

mod lowering;

/// Requests as `path body`, and the status codes of the next answers (200 after them).
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
            json!({
                "metadata": {"name": "x", "resourceVersion": "41"},
                "spec": {"containers": []},
                "status": {"desiredReplicas": 3},
            })
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
        urgency: if is_lowering { Urgency::Lower } else { Urgency::Raise },
        is_lowering,
        marks: marks.iter().map(|(name, cost)| ((*name).to_owned(), *cost)).collect(),
        known: Some(9),
        version: 7,
        desired: Some(desired),
    }
}

/// A write of a revision of that name.
fn write_of(name: &str, urgency: Urgency) -> Write {
    let mut write = write(1, &[], false);
    (write.key.name, write.urgency) = (name.to_owned(), urgency);
    write
}

/// The names of the revisions that were written to, in order.
fn names(requests: &[String]) -> Vec<&str> {
    requests.iter().filter_map(|line| line.split("/revisions/").nth(1)?.split('/').next()).collect()
}

/// The part of a patch that sets the scale.
fn shown(desired: u32) -> String {
    let path = "/status/desiredReplicas";
    json!({"op": "replace", "path": path, "value": desired}).to_string()
}

/// Lets everything under way end; returns how often a revision was wholly written.
async fn finish(writer: &mut DecisionWriter) -> usize {
    let mut written = 0;
    while let Some(attempt) = writer.next().await {
        written += usize::from(matches!(writer.settle(attempt), Outcome::Written(..)));
    }
    written
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_tried_again_with_the_newest_scale() {
    let api = Api::default();
    api.answers.lock().extend([500, 502, 503]);
    let mut writer = DecisionWriter::new(api.client());
    writer.submit(write(1, &[], false));
    writer.submit(write(5, &[], false));
    let start = tokio::time::Instant::now();
    assert_eq!(finish(&mut writer).await, 1);
    assert!(start.elapsed() < BACKOFF_MAX * 3);
    let requests = api.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests[0].contains(&shown(1)));
    assert!(requests[1..].iter().all(|line| line.contains(&shown(5))));
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_is_gone_is_not_written_to_again() {
    let api = Api::default();
    api.answers.lock().extend([404]);
    let mut writer = DecisionWriter::new(api.client());
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
    let mut writer = DecisionWriter::new(api.client());
    for number in 0..UNDER_WAY_MAX + 50 {
        writer.submit(write_of(&number.to_string(), Urgency::Wake));
    }
    assert_eq!(writer.tasks.len(), UNDER_WAY_MAX);
    assert_eq!(finish(&mut writer).await, UNDER_WAY_MAX + 50);
}

/// Without the pause 128 failing revisions would hold every place, and every wake behind them.
#[tokio::test(start_paused = true)]
async fn a_wake_waits_for_nobody_that_rests_after_a_failure() {
    let api = Api::default();
    api.answers.lock().extend([500; UNDER_WAY_MAX]);
    let mut writer = DecisionWriter::new(api.client());
    for number in 0..UNDER_WAY_MAX {
        writer.submit(write_of(&number.to_string(), Urgency::Wake));
    }
    for _ in 0..UNDER_WAY_MAX {
        let attempt = writer.next().await.unwrap();
        assert_eq!(writer.settle(attempt), Outcome::Failed);
    }
    assert_eq!((writer.tasks.len(), writer.waiting()), (0, (0, UNDER_WAY_MAX)));
    api.requests();
    writer.submit(write_of("woken", Urgency::Wake));
    let attempt = writer.next().await.unwrap();
    assert!(matches!(writer.settle(attempt), Outcome::Written(..)));
    assert_eq!(names(&api.requests()), ["woken"]);
}

/// One failure puts no wake behind all later ones, even if more come than can be written.
#[tokio::test(start_paused = true)]
async fn a_wake_that_failed_once_is_written_however_many_come() {
    let api = Api::default();
    api.answers.lock().extend([500]);
    let mut writer = DecisionWriter::new(api.client());
    writer.submit(write_of("failed", Urgency::Wake));
    let (failed, mut attempts) = (writer.next().await.unwrap(), 0);
    assert_eq!(writer.settle(failed), Outcome::Failed);
    for number in 0..6_000 {
        let many = if number == 0 { 400 } else { 2 };
        (0..many).for_each(|n| writer.submit(write_of(&format!("{number}-{n}"), Urgency::Wake)));
        while let Ok(Some(attempt)) = timeout(Duration::from_millis(5), writer.next()).await {
            writer.settle(attempt);
        }
        attempts += names(&api.requests()).iter().filter(|name| **name == "failed").count();
    }
    assert_eq!(attempts, 2);
}

/// Writes that fail again and again use up the budget, and yet a new wake is not behind them.
#[tokio::test(start_paused = true)]
async fn a_wake_goes_before_those_that_failed() {
    let api = Api::default();
    api.answers.lock().extend([500; 6000]);
    let mut writer = DecisionWriter::new(api.client());
    for number in 0..2000 {
        writer.submit(write_of(&number.to_string(), Urgency::Wake));
    }
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(30) {
        let attempt = writer.next().await.unwrap();
        assert_eq!(writer.settle(attempt), Outcome::Failed);
    }
    let (ready, _) = writer.waiting();
    assert!(ready > 100, "{ready} wait for the budget");
    api.answers.lock().clear();
    api.requests();
    writer.submit(write_of("woken", Urgency::Wake));
    let attempt = writer.next().await.unwrap();
    writer.settle(attempt);
    let attempt = writer.next().await.unwrap();
    writer.settle(attempt);
    let requests = api.requests();
    assert!(names(&requests)[..2].contains(&"woken"), "{requests:?}");
}

/// Wakes go first, and marks go last.
#[tokio::test(start_paused = true)]
async fn the_urgent_goes_first() {
    let api = Api::default();
    let mut writer = DecisionWriter::new(api.client());
    // These take all places that are not kept for more urgent writes.
    for number in 0..UNDER_WAY_MAX {
        writer.submit(write_of(&format!("first-{number}"), Urgency::Lower));
    }
    assert_eq!(writer.tasks.len(), UNDER_WAY_MAX / 2);
    writer.submit(Write { marks: [("pod".to_owned(), None)].into(), ..write(1, &[], true) });
    writer.submit(write_of("raised", Urgency::Raise));
    writer.submit(write_of("woken", Urgency::Wake));
    let written = finish(&mut writer).await;
    assert_eq!(written, UNDER_WAY_MAX + 3);
    let requests = api.requests();
    let written = names(&requests);
    let place = |name: &str| written.iter().position(|written| *written == name).unwrap();
    let last = format!("first-{}", UNDER_WAY_MAX - 1);
    assert!(place("woken") < UNDER_WAY_MAX && place("raised") < UNDER_WAY_MAX, "{written:?}");
    assert!(place("woken").max(place("raised")) < place(&last), "{written:?}");
    let marked = requests.iter().position(|line| line.contains("/pods/")).unwrap();
    assert_eq!(marked, requests.len() - 2, "only the scale that it was for comes after it");
}

/// Ten thousand decisions at once do not reach the API server at once.
#[tokio::test(start_paused = true)]
async fn writes_are_bounded_in_a_second_and_wakes_have_a_part_to_themselves() {
    let api = Api::default();
    let mut writer = DecisionWriter::new(api.client());
    let start = Instant::now();
    for number in 0..1000 {
        writer.submit(write_of(&number.to_string(), Urgency::Lower));
    }
    let mut at_once = 0;
    loop {
        let attempt = writer.next().await.unwrap();
        writer.settle(attempt);
        if start.elapsed() > Duration::ZERO {
            break;
        }
        at_once += 1;
    }
    assert!((100..=102).contains(&at_once), "{at_once}");
    // The rest of the budget is kept for writes like these.
    for number in 0..90 {
        writer.submit(write_of(&format!("woken-{number}"), Urgency::Wake));
    }
    assert!(writer.tasks.len() >= 90);
    finish(&mut writer).await;
    let all = start.elapsed().as_secs();
    assert!((9..=11).contains(&all), "{all} s for 1,090 writes");
}

/// A write that was decided by an outdated scale changes nothing, and the scale is decided anew.
#[tokio::test(start_paused = true)]
async fn a_write_by_an_old_scale_is_refused_and_not_repeated() {
    let api = Api::default();
    api.answers.lock().extend([422]);
    let mut writer = DecisionWriter::new(api.client());
    writer.submit(write(3, &[], true));
    // Decided by the same number, so it is dropped with the first.
    writer.submit(write(2, &[], true));
    let attempt = writer.next().await.unwrap();
    let key = RevisionKey::new("models", "digits-00001");
    assert_eq!(writer.settle(attempt), Outcome::Refused(key));
    let requests = api.requests();
    assert!(requests[0].contains(r#""op":"test","path":"/status/desiredReplicas","value":9"#));
    // The next decision waits for the pause: the watch may be as old as before.
    writer.submit(write(4, &[], false));
    let start = Instant::now();
    assert_eq!(finish(&mut writer).await, 1);
    assert!(start.elapsed() >= BACKOFF_FIRST / 2);
    assert!(api.requests()[0].contains(&shown(4)));
}

/// Each of the writes that wait was decided by that scale, the one behind the waiting one too.
#[tokio::test(start_paused = true)]
async fn a_refusal_drops_all_that_was_decided_by_the_old_scale() {
    let api = Api::default();
    api.answers.lock().extend([422]);
    let mut writer = DecisionWriter::new(api.client());
    writer.submit(write(3, &[], true));
    writer.submit(write(2, &[], true));
    writer.submit(write(1, &[("pod-a", Some(-1000))], true));
    let attempt = writer.next().await.unwrap();
    assert!(matches!(writer.settle(attempt), Outcome::Refused(_)));
    api.requests();
    writer.submit(Write { known: Some(7), ..write(4, &[], false) });
    assert_eq!(finish(&mut writer).await, 1);
    let requests = api.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0].contains(r#""path":"/status/desiredReplicas","value":7"#), "{requests:?}");
    assert!(requests[0].contains(&shown(4)), "{requests:?}");
}

/// Where there is no number to start from, the version of the whole object is the condition: a late
/// request of a leader that was deposed changes nothing.
#[tokio::test(start_paused = true)]
async fn a_first_scale_is_written_on_condition_too() {
    let api = Api::default();
    let mut writer = DecisionWriter::new(api.client());
    writer.submit(Write { known: None, ..write(3, &[], false) });
    assert_eq!(finish(&mut writer).await, 1);
    let requests = api.requests();
    let (_, body) = requests[0].split_once(' ').unwrap();
    let expected = json!({
        "metadata": {"uid": "uid-1", "resourceVersion": "7"}, "status": {"desiredReplicas": 3},
    });
    assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap(), expected);
}

/// The answer to a write is newer than the watch.
#[tokio::test(start_paused = true)]
async fn the_answer_to_a_scale_is_handed_on() {
    let api = Api::default();
    let mut writer = DecisionWriter::new(api.client());
    writer.submit(write(3, &[("pod-a", None)], false));
    let shown = writer.next().await.unwrap();
    assert_eq!(writer.settle(shown), Outcome::Pending);
    let marked = writer.next().await.unwrap();
    let key = RevisionKey::new("models", "digits-00001");
    let seen = Seen { version: 41, replicas: Some(3) };
    assert_eq!(writer.settle(marked), Outcome::Written(key, seen));
}

#[test]
fn the_pause_grows_and_is_bounded() {
    for failures in 1..100 {
        let pause = backoff(failures);
        assert!(pause >= BACKOFF_FIRST / 2 && pause <= BACKOFF_MAX, "{failures}: {pause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deposed_leader_writes_nothing_more() {
    let api = Api::default();
    api.answers.lock().push_back(500);
    let mut writer = DecisionWriter::new(api.client());
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
    assert!(matches!(writer.settle(attempt), Outcome::Written(..)));
}
