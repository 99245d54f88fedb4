//! When an activator wakes a revision itself, and what it writes.

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;

fn key(number: usize) -> RevisionKey {
    RevisionKey::new("models", format!("digits-{number:05}"))
}

fn plan(now: Instant) -> Plan {
    Plan::new(now, Duration::ZERO)
}

#[test]
fn nobody_is_woken_while_an_autoscaler_answers() {
    let mut plan = Plan::new(Instant::now(), Duration::from_millis(300));
    assert!(!plan.is_alone(Duration::ZERO));
    assert!(!plan.is_alone(SILENCE + Duration::from_millis(299)));
    assert!(plan.is_alone(SILENCE + Duration::from_millis(300)));
}

#[test]
fn a_revision_is_woken_once_and_tried_again_after_a_failure_only() {
    let now = Instant::now();
    let mut plan = plan(now);
    let one = key(1);
    assert_eq!(plan.choose([&one].into_iter(), now).len(), 1);
    plan.tried(one.clone(), WakeOutcome::Failed, REST, now);
    assert!(plan.choose([&one].into_iter(), now + RETRY_MIN / 2).is_empty());
    assert_eq!(plan.choose([&one].into_iter(), now + RETRY_MIN).len(), 1);
    plan.tried(one.clone(), WakeOutcome::Woken, REST, now + RETRY_MIN);
    assert!(plan.choose([&one].into_iter(), now + REST).is_empty());
    // An autoscaler answered in between: earlier attempts no longer count.
    assert!(!plan.is_alone(Duration::ZERO));
    assert_eq!(plan.choose([&one].into_iter(), now + REST).len(), 1);
}

#[test]
fn wakes_are_bounded_in_number_and_rate() {
    let now = Instant::now();
    let mut plan = plan(now);
    let called: Vec<_> = (0..1000).map(key).collect();
    let mut woken = 0;
    for tenth in 0..=100 {
        let at = now + Duration::from_millis(100) * tenth;
        let chosen = plan.choose(called.iter(), at);
        woken += chosen.len();
        for key in chosen {
            plan.tried(key, WakeOutcome::Woken, REST, at);
        }
        if tenth == 0 {
            assert_eq!(woken, 20);
        }
    }
    assert!((119..=120).contains(&woken), "{woken} in ten seconds");
}

/// Method and path of each request, and its body.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// An API server that answers with one status, and what it was asked.
fn server(code: u16) -> (Client, Asked) {
    let asked = Asked::default();
    let notes = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<Body>| {
        let notes = Arc::clone(&notes);
        async move {
            let line = format!("{} {}", request.method(), request.uri());
            let body = request.into_body().collect().await.unwrap().to_bytes();
            notes.lock().push((line, serde_json::from_slice(&body).unwrap()));
            let status =
                json!({"kind": "Status", "status": "Failure", "message": "", "code": code});
            let response = Response::builder().status(StatusCode::from_u16(code).unwrap());
            let body = Body::from(status.to_string().into_bytes());
            Ok::<_, std::convert::Infallible>(response.body(body).unwrap())
        }
    });
    (Client::new(service, "default"), asked)
}

#[tokio::test(start_paused = true)]
async fn the_only_write_is_a_scale_from_zero_to_the_first_one() {
    for (code, expected) in [
        (200, WakeOutcome::Woken),
        (422, WakeOutcome::NotNeeded),
        (404, WakeOutcome::NotNeeded),
        (403, WakeOutcome::Failed),
        (500, WakeOutcome::Failed),
    ] {
        let (client, asked) = server(code);
        let config = watch::channel(Arc::new(Config::default())).1;
        let mut registry = Registry::default();
        let waker = Waker::new(client, config, &mut registry);
        let revision: ebb_api::serving::Revision = serde_json::from_value(json!({
            "metadata": {
                "name": "digits-00001", "namespace": "models", "uid": "u",
                "annotations": {
                    "autoscaling.knative.dev/initial-scale": "3",
                    "autoscaling.knative.dev/max-scale": "2",
                },
            },
            "spec": {"containers": [{"image": "digits"}]},
        }))
        .unwrap();
        let settings =
            crate::settings::Settings::of(&revision, &ebb_api::config::Config::default());
        let meters = crate::meters::Meters::new(&mut registry).revision(&key(1));
        let live = Live { settings, meters };
        assert_eq!(waker.wake(&key(1), &live, SILENCE).await, expected, "{code}");
        let asked = asked.lock();
        let status = "/apis/serving.knative.dev/v1/namespaces/models/revisions/digits-00001/status";
        assert_eq!(asked[0].0, format!("PATCH {status}?fieldManager=ebb-activator"));
        let patch = json!([
            {"op": "test", "path": "/metadata/uid", "value": "u"},
            {"op": "test", "path": "/status/desiredReplicas", "value": 0},
            {"op": "replace", "path": "/status/desiredReplicas", "value": 2},
        ]);
        assert_eq!((asked.len(), &asked[0].1), (1, &patch));
    }
}
