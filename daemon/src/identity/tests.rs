use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::{BoxFuture, join_all};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{advance, sleep};

use super::*;

const ACCOUNT: &str = "system:serviceaccount:ebb:ebb-activator";

/// An API server that knows the token `good` and can be made to fail.
#[derive(Default)]
struct Server {
    questions: AtomicUsize,
    /// Most questions at once.
    most: AtomicUsize,
    inside: AtomicUsize,
    is_down: std::sync::atomic::AtomicBool,
    is_silent: std::sync::atomic::AtomicBool,
}

impl Server {
    async fn answer(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, String> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        if self.is_silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        sleep(Duration::from_millis(5)).await;
        self.inside.fetch_sub(1, Ordering::SeqCst);
        if self.is_down.load(Ordering::SeqCst) {
            return Err("connection refused".to_owned());
        }
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let question: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(question["spec"]["audiences"], json!([AUDIENCE]));
        let status = match question["spec"]["token"].as_str().unwrap() {
            "good" => status(ACCOUNT, "activator-0"),
            _ => json!({"authenticated": false}),
        };
        let answer = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "metadata": {}, "spec": {}, "status": status,
        });
        Ok(Response::new(Body::from(answer.to_string().into_bytes())))
    }
}

fn status(user: &str, pod: &str) -> Value {
    json!({
        "authenticated": true, "audiences": [AUDIENCE],
        "user": {"username": user, "extra": {POD_NAME: [pod]}},
    })
}

fn doorkeeper() -> (Doorkeeper, Arc<Server>, Registry) {
    let server = Arc::new(Server::default());
    let answering = Arc::clone(&server);
    let service = tower::service_fn(move |request| -> BoxFuture<'static, _> {
        Box::pin(Arc::clone(&answering).answer(request))
    });
    let mut registry = Registry::default();
    let client = Client::new(service, "default");
    (Doorkeeper::new(client, "ebb", &mut registry), server, registry)
}

/// Another account, another audience, no pod: none of them is an activator.
#[test]
fn only_an_activators_token_for_us_that_is_bound_to_one_pod_counts() {
    let pod = |status: &Value| {
        pod_of(&serde_json::from_value(status.clone()).unwrap(), ACCOUNT)
            .as_deref()
            .map(str::to_owned)
    };
    let good = status(ACCOUNT, "activator-0");
    assert_eq!(pod(&good).as_deref(), Some("activator-0"));
    let changed = |pointer: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed
    };
    for bad in [
        changed("/authenticated", json!(false)),
        changed("/audiences", json!(["https://kubernetes.default.svc"])),
        changed("/audiences", json!([])),
        changed("/user/username", json!("system:serviceaccount:default:ebb-activator")),
        changed("/user/username", json!("system:serviceaccount:ebb:default")),
        changed("/user/extra", json!({})),
        changed("/user/extra", json!({POD_NAME: []})),
        changed("/user/extra", json!({POD_NAME: ["activator-0", "activator-1"]})),
        json!({"authenticated": true, "audiences": [AUDIENCE]}),
    ] {
        assert_eq!(pod(&bad), None, "{bad}");
    }
}

/// A client without an activator's token stays outside, and no activator can speak for another.
#[tokio::test(start_paused = true)]
async fn an_activator_comes_in_under_its_own_name_and_strangers_do_not() {
    let (doorkeeper, server, _) = doorkeeper();
    let activator = doorkeeper.admit(Some("good")).await.unwrap();
    assert!(activator.is("activator-0") && !activator.is("activator-1"));
    for stranger in [None, Some(""), Some("no token"), Some("other")] {
        assert_eq!(
            doorkeeper.admit(stranger).await,
            Err(IdentityRefusal::Stranger),
            "{stranger:?}"
        );
    }
    assert_eq!(server.questions.load(Ordering::SeqCst), 2, "what is no token is not asked about");
    let anybody = Doorkeeper::open().admit(None).await.unwrap();
    assert!(anybody.is("activator-0") && anybody.is("activator-1"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_and_a_burst_asks_once() {
    let (doorkeeper, server, registry) = doorkeeper();
    for token in ["good", "other"] {
        let before = server.questions.load(Ordering::SeqCst);
        let answers = join_all((0..100).map(|_| doorkeeper.admit(Some(token)))).await;
        assert!(answers.iter().all(|answer| answer.is_ok() == (token == "good")));
        assert!(server.questions.load(Ordering::SeqCst) - before <= REVIEWS_MAX);
    }
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("ebb_introductions_total{outcome=\"accepted\"} 100"), "{text}");
    assert!(text.contains("ebb_introductions_total{outcome=\"refused\"} 100"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn no_more_than_so_many_are_asked_about_at_once() {
    let (doorkeeper, server, _) = doorkeeper();
    let tokens: Vec<_> = (0..100).map(|number| format!("guess-{number}")).collect();
    let answers = join_all(tokens.iter().map(|token| doorkeeper.admit(Some(token)))).await;
    assert!(answers.iter().all(|answer| *answer == Err(IdentityRefusal::Stranger)));
    assert_eq!(server.most.load(Ordering::SeqCst), REVIEWS_MAX);
}

#[tokio::test(start_paused = true)]
async fn without_an_api_server_an_admitted_activator_stays_admitted_and_nobody_else_is_let_in() {
    for is_silent in [false, true] {
        let (doorkeeper, server, _) = doorkeeper();
        assert!(doorkeeper.admit(Some("good")).await.is_ok());
        if is_silent { &server.is_silent } else { &server.is_down }.store(true, Ordering::SeqCst);
        advance(Duration::from_mins(2)).await;
        let begun = Instant::now();
        assert!(doorkeeper.admit(Some("good")).await.is_ok());
        assert!(begun.elapsed() <= REVIEW_TIMEOUT);
        let begun = Instant::now();
        assert!(doorkeeper.admit(Some("good")).await.is_ok());
        assert_eq!(begun.elapsed(), Duration::ZERO, "it has just been asked");
        assert_eq!(doorkeeper.admit(Some("other")).await, Err(IdentityRefusal::Unheard));
        advance(Duration::from_mins(10)).await;
        assert_eq!(doorkeeper.admit(Some("good")).await, Err(IdentityRefusal::Unheard));
    }
}

#[test]
fn a_token_is_read_from_one_header_and_never_printed() {
    let with = |values: &[&str]| -> HeaderMap {
        values.iter().map(|value| (header::AUTHORIZATION, value.parse().unwrap())).collect()
    };
    let mut shown = HeaderMap::new();
    shown.insert(header::AUTHORIZATION, authorization("some.token").unwrap());
    assert_eq!(bearer(&shown), Some("some.token"));
    assert!(!format!("{shown:?}").contains("some.token"));
    for bad in [&[][..], &["some.token"], &["Basic a"], &["Bearer a", "Bearer a"]] {
        assert_eq!(bearer(&with(bad)), None, "{bad:?}");
    }
}
