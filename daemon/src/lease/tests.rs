//! Campaigns against an API server that is slow or away, on a paused clock.

use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tower::service_fn;

use super::*;

/// An API server with one lease.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    lease: Option<Value>,
    version: u64,
    /// How long each request takes to be worked on.
    latency: Duration,
}

struct Replica {
    leads: watch::Receiver<Option<Epoch>>,
    end: CancellationToken,
    task: JoinHandle<()>,
}

// === impl Server ===

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let latency = server.0.lock().latency;
                sleep(latency).await;
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let (code, value) = server.answer(&head.method, serde_json::from_slice(&body).ok());
                let response = Response::builder()
                    .status(code)
                    .body(Body::from(value.to_string().into_bytes()));
                Ok::<_, tower::BoxError>(response?)
            }
        });
        Client::new(service, "default")
    }

    fn answer(&self, method: &Method, body: Option<Value>) -> (StatusCode, Value) {
        let refusal = |code: StatusCode| {
            let reason = code.canonical_reason().unwrap_or_default().replace(' ', "");
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(),
                "message": reason, "reason": reason,
            });
            (code, status)
        };
        let mut state = self.0.lock();
        let stored = state.lease.clone();
        match (method, stored, body) {
            (&Method::GET, Some(lease), _) => (StatusCode::OK, lease),
            (&Method::GET | &Method::PUT, None, _) => refusal(StatusCode::NOT_FOUND),
            (&Method::POST, Some(_), _) => refusal(StatusCode::CONFLICT),
            (&Method::PUT, Some(lease), Some(new))
                if lease["metadata"]["resourceVersion"] != new["metadata"]["resourceVersion"] =>
            {
                refusal(StatusCode::CONFLICT)
            }
            (_, _, Some(mut new)) => {
                state.version += 1;
                new["metadata"]["resourceVersion"] = state.version.to_string().into();
                state.lease = Some(new.clone());
                (StatusCode::OK, new)
            }
            (_, _, None) => refusal(StatusCode::BAD_REQUEST),
        }
    }

    fn replica(&self, identity: &str, terms: Terms) -> Replica {
        let (publish, leads) = watch::channel(None);
        let end = CancellationToken::new();
        let options = LeaseOptions {
            namespace: "default".to_owned(),
            name: "component".to_owned(),
            identity: identity.to_owned(),
            terms,
        };
        let task = tokio::spawn(campaign(self.client(), options, publish, end.clone()));
        Replica { leads, end, task }
    }

    fn set_latency(&self, latency: Duration) {
        self.0.lock().latency = latency;
    }
}

impl Replica {
    fn leads(&self) -> bool {
        self.leads.borrow().is_some()
    }

    async fn end(self) {
        self.end.cancel();
        self.task.await.unwrap();
    }
}

/// Looks every 50 ms for `time`. Returns how long the first led, the second, and both at once.
async fn look(pair: [&Replica; 2], time: Duration) -> [Duration; 3] {
    let step = Duration::from_millis(50);
    let mut led = [Duration::ZERO; 3];
    let end = Instant::now() + time;
    while Instant::now() < end {
        sleep(step).await;
        let [first, second] = pair.map(Replica::leads);
        for (led, leads) in led.iter_mut().zip([first, second, first && second]) {
            *led += if leads { step } else { Duration::ZERO };
        }
    }
    led
}

/// Two replicas, of which the first leads.
async fn pair(server: &Server, terms: Terms) -> [Replica; 2] {
    let mut first = server.replica("first", terms);
    first.leads.wait_for(Option::is_some).await.unwrap();
    [first, server.replica("second", terms)]
}

/// A renewal that takes five seconds is not given up: the first replica leads throughout.
#[tokio::test(start_paused = true)]
async fn answers_that_each_take_five_seconds_do_not_change_the_lead() {
    for seconds in [12, 15] {
        let server = Server::default();
        let [first, second] = pair(&server, Terms::of(seconds)).await;
        look([&first, &second], Duration::from_secs(20)).await;
        server.set_latency(Duration::from_secs(5));
        let time = Duration::from_mins(2);
        let led = look([&first, &second], time).await;
        assert_eq!(led, [time, Duration::ZERO, Duration::ZERO], "a lease of {seconds} s");
        // The same for an API server that is away for as long just once.
        server.set_latency(Duration::ZERO);
        look([&first, &second], Duration::from_secs(3)).await;
        server.set_latency(Duration::from_secs(5));
        look([&first, &second], Duration::from_secs(5)).await;
        server.set_latency(Duration::ZERO);
        assert_eq!(look([&first, &second], time).await[0], time);
        first.end().await;
        second.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_for_long_leaves_nobody_leading_and_then_one() {
    let server = Server::default();
    let [first, second] = pair(&server, Terms::of(12)).await;
    server.set_latency(Duration::from_hours(1));
    look([&first, &second], Duration::from_secs(12)).await;
    assert_eq!([first.leads(), second.leads()], [false, false]);
    server.set_latency(Duration::from_millis(20));
    let led = look([&first, &second], Duration::from_mins(1)).await;
    assert_eq!(led[2], Duration::ZERO, "both led");
    assert!(led[0] + led[1] > Duration::from_secs(30), "{led:?}");
}

#[tokio::test(start_paused = true)]
async fn another_begins_when_the_leader_ends_and_after_its_time_when_it_is_gone() {
    let server = Server::default();
    let [first, mut second] = pair(&server, Terms::of(12)).await;
    look([&first, &second], Duration::from_secs(5)).await;
    first.task.abort();
    let asked = Instant::now();
    second.leads.wait_for(Option::is_some).await.unwrap();
    let waited = asked.elapsed();
    assert!(Duration::from_secs(10) < waited && waited < Duration::from_secs(14), "{waited:?}");
    let mut third = server.replica("third", Terms::of(12));
    look([&second, &third], Duration::from_secs(3)).await;
    let asked = Instant::now();
    second.end().await;
    third.leads.wait_for(Option::is_some).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}

/// Kubernetes restarts a container under the same name.
#[tokio::test(start_paused = true)]
async fn a_replica_that_was_restarted_leads_again_at_once() {
    let server = Server::default();
    let [first, second] = pair(&server, Terms::of(15)).await;
    look([&first, &second], Duration::from_secs(5)).await;
    first.task.abort();
    let mut again = server.replica("first", Terms::of(15));
    let asked = Instant::now();
    again.leads.wait_for(Option::is_some).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert!(!second.leads());
}
