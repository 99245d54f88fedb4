//! The calls to pods whose models sleep instead of being stopped, and the marks of those pods.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use ebb_api::standby::ASLEEP;
use http::Request;
use http::header::{CONTENT_LENGTH, HOST};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::standby::{StandbyAnswer, StandbyCall, StandbyOrder, StandbyOutcome};
use crate::writer::{ATTEMPT_TIMEOUT, FIELD_MANAGER};

/// Longest time for a model to fall asleep or to wake: its weights move between a GPU and memory, at some
/// gigabytes a second. A new start is quicker than what takes longer.
pub const CALL_TIMEOUT: Duration = Duration::from_mins(2);
/// Longest time for a connection: as an activator's to a pod, a node that is gone must not cost the whole
/// of [`CALL_TIMEOUT`].
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Most models that are told to sleep at the same time: nobody waits for those. One that has yet to be
/// told is left alone if somebody does.
const SLEEPS_AT_ONCE: usize = 16;
/// Most marks that are removed at the same time.
const UNMARKS_AT_ONCE: usize = 16;
/// Most models that are woken at the same time; requests wait for each.
const WAKES_AT_ONCE: usize = 256;
/// Longest reason of a failure that is told.
const REASON_CHARS_MAX: usize = 200;

/// The calls under way. There is one for each revision at the most, which is the core's to see to, and
/// one for its mark.
pub struct StandbyCalls {
    client: Client,
    sleeps: Arc<Semaphore>,
    unmarks: Arc<Semaphore>,
    wakes: Arc<Semaphore>,
    tasks: JoinSet<StandbyAnswer>,
    /// Take back the calls that let pods sleep and have not begun; by the pods' UIDs.
    recalls: HashMap<Arc<str>, CancellationToken>,
}

// === impl StandbyCalls ===

impl StandbyCalls {
    /// No calls yet.
    pub fn new(client: Client) -> Self {
        let turns = |permits| Arc::new(Semaphore::new(permits));
        Self {
            client,
            sleeps: turns(SLEEPS_AT_ONCE),
            unmarks: turns(UNMARKS_AT_ONCE),
            wakes: turns(WAKES_AT_ONCE),
            tasks: JoinSet::new(),
            recalls: HashMap::new(),
        }
    }

    /// Begins a call. Must be called within a Tokio runtime.
    pub fn begin(&mut self, call: StandbyCall) {
        let turns = match call.order {
            StandbyOrder::Stay => {
                if let Some(recall) = self.recalls.get(&call.uid) {
                    recall.cancel();
                }
                return;
            }
            StandbyOrder::Wake => Arc::clone(&self.wakes),
            StandbyOrder::Sleep | StandbyOrder::SleepAgain => Arc::clone(&self.sleeps),
            StandbyOrder::Unmark => Arc::clone(&self.unmarks),
        };
        let recall = CancellationToken::new();
        if call.order.is_to_sleep() {
            self.recalls.insert(Arc::clone(&call.uid), recall.clone());
        }
        let client = self.client.clone();
        self.tasks.spawn(async move {
            let outcome = carry_out(client, &call, &turns, &recall).await;
            let StandbyCall { key, uid, order, name, .. } = call;
            tracing::debug!(revision.name = %key, pod.name = %name, ?order, ?outcome, "Called");
            StandbyAnswer { key, uid, order, outcome }
        });
    }

    /// The next call that ends; `None` while none is under way. Loses none when cancelled.
    pub async fn next(&mut self) -> Option<StandbyAnswer> {
        loop {
            match self.tasks.join_next().await? {
                Ok(answer) => {
                    if answer.order.is_to_sleep() {
                        self.recalls.remove(&answer.uid);
                    }
                    return Some(answer);
                }
                // Otherwise its revision would wait for an answer for ever. A restart is better.
                Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
                Err(error) => tracing::error!(%error, "A call ended unexpectedly"),
            }
        }
    }

    /// Gives up what is under way: another replica decides now, and goes by the marks.
    pub fn drop_all(&mut self) {
        self.tasks = JoinSet::new();
        self.recalls.clear();
    }
}

impl std::fmt::Debug for StandbyCalls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StandbyCalls").field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}

async fn carry_out(
    client: Client,
    call: &StandbyCall,
    turns: &Semaphore,
    recall: &CancellationToken,
) -> StandbyOutcome {
    let beginning = async {
        // The semaphore is never closed.
        let turn = turns.acquire().await;
        match call.order {
            StandbyOrder::Sleep => mark(client, call, Timestamp::now().to_string().into()).await?,
            StandbyOrder::Unmark => mark(client, call, Value::Null).await?,
            StandbyOrder::SleepAgain | StandbyOrder::Stay | StandbyOrder::Wake => {}
        }
        Ok::<_, String>(turn)
    };
    let begun = tokio::select! {
        biased;
        () = recall.cancelled() => return StandbyOutcome::NotTold,
        begun = beginning => begun,
    };
    let _turn = match begun {
        Ok(turn) => turn,
        Err(why) => {
            warn(call, &why, "The mark of a pod with standby was not written");
            return StandbyOutcome::NotTold;
        }
    };
    if call.path.is_empty() {
        return StandbyOutcome::Done;
    }
    match post(call.address, &call.path).await {
        Ok(()) => StandbyOutcome::Done,
        Err(why) => {
            let why = warn(call, &why, "A call to a pod with standby failed");
            StandbyOutcome::Failed(why)
        }
    }
}

/// Tells a failure, and returns as much of its reason as may be told.
fn warn(call: &StandbyCall, why: &str, what: &'static str) -> Box<str> {
    let why: Box<str> = why.chars().take(REASON_CHARS_MAX).collect::<String>().into();
    let StandbyCall { key, name, order, .. } = call;
    tracing::warn!(revision.name = %key, pod.name = %name, ?order, error = %why, "{what}");
    why
}

async fn mark(client: Client, call: &StandbyCall, value: Value) -> Result<(), String> {
    let pods: Api<Pod> = Api::namespaced(client, &call.key.namespace);
    let patch = json!({"metadata": {"uid": &*call.uid, "annotations": {ASLEEP.name(): value}}});
    let params =
        PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
    let patch = Patch::Merge(patch);
    match timeout(ATTEMPT_TIMEOUT, pods.patch_metadata(&call.name, &params, &patch)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs())),
    }
}

/// Sends an empty request, which succeeds with any status from 200 to 299.
async fn post(address: SocketAddr, path: &str) -> Result<(), String> {
    let exchange = async {
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
            .await
            .map_err(|_| format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))?
            .map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let request = Request::post(path)
            .header(HOST, address.to_string())
            .header(CONTENT_LENGTH, "0")
            .body(Body::empty())
            .map_err(|error| error.to_string())?;
        // The connection ends with this future; what is left to read of the response is not wanted.
        let drive = async {
            connection.await.ok();
            std::future::pending::<Infallible>().await
        };
        tokio::select! {
            response = sender.send_request(request) => match response {
                Ok(response) if response.status().is_success() => Ok(()),
                Ok(response) => Err(format!("status {}", response.status().as_u16())),
                Err(error) => Err(error.to_string()),
            },
            never = drive => match never {},
        }
    };
    let late = |_| Err(format!("no answer within {} s", CALL_TIMEOUT.as_secs()));
    timeout(CALL_TIMEOUT, exchange).await.unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use ebb_api::report::RevisionKey;
    use ebb_api::standby::{STANDBY, STANDBY_SLEEP, Standby};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers one request with this status, and tells the request.
    async fn answer(status: &'static str, path: &str) -> (Result<(), String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut heard, mut part) = (Vec::new(), [0; 1024]);
            while !heard.ends_with(b"\r\n\r\n") {
                let bytes = stream.read(&mut part).await.unwrap();
                heard.extend_from_slice(&part[..bytes]);
            }
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(heard).unwrap()
        };
        tokio::join!(post(address, path), server)
    }

    #[tokio::test]
    async fn a_call_is_an_empty_post_that_succeeds_with_a_status_of_success() {
        let (done, heard) = answer("200 OK", "/sleep?level=1").await;
        assert_eq!(done, Ok(()));
        assert!(heard.starts_with("POST /sleep?level=1 HTTP/1.1\r\n"), "{heard}");
        assert!(heard.contains("content-length: 0\r\n") && heard.contains("host: 127.0.0.1:"));
        let (done, _) = answer("404 Not Found", "/wake_up").await;
        assert_eq!(done, Err("status 404".to_owned()));
    }

    /// An API server that answers nothing, and how many requests it has got.
    fn silent() -> (Client, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let service = tower::service_fn(move |_: Request<kube::client::Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<Result<http::Response<Body>, Infallible>>()
        });
        (Client::new(service, "default"), asked)
    }

    fn call(uid: &str, order: StandbyOrder) -> StandbyCall {
        StandbyCall {
            key: RevisionKey::new("models", "m").into(),
            uid: uid.into(),
            name: uid.into(),
            address: ([127, 0, 0, 1], 1).into(),
            order,
            path: "/sleep".into(),
        }
    }

    /// Requests wait for its pod, which serves as well as before.
    #[tokio::test(start_paused = true)]
    async fn a_call_that_waits_for_its_turn_or_its_mark_can_be_taken_back() {
        let (client, asked) = silent();
        let mut calls = StandbyCalls::new(client);
        for index in 0..=SLEEPS_AT_ONCE {
            calls.begin(call(&index.to_string(), StandbyOrder::Sleep));
        }
        tokio::task::yield_now().await;
        assert!(timeout(Duration::from_secs(1), calls.next()).await.is_err());
        assert_eq!(asked.load(Ordering::Relaxed), SLEEPS_AT_ONCE);
        for index in [SLEEPS_AT_ONCE, 0] {
            let uid = index.to_string();
            calls.begin(call(&uid, StandbyOrder::Stay));
            let answer = timeout(Duration::from_secs(1), calls.next()).await.unwrap().unwrap();
            let told = (&*answer.uid, answer.order, answer.outcome);
            assert_eq!(told, (&*uid, StandbyOrder::Sleep, StandbyOutcome::NotTold));
        }
        assert_eq!(asked.load(Ordering::Relaxed), SLEEPS_AT_ONCE);
        // Marks are removed however many are to sleep.
        calls.begin(call("woken", StandbyOrder::Unmark));
        assert!(timeout(Duration::from_secs(1), calls.next()).await.is_err());
        assert_eq!(asked.load(Ordering::Relaxed), SLEEPS_AT_ONCE + 1);
        // The API server is at fault, and not the model.
        let answer = calls.next().await.unwrap();
        assert_eq!(answer.outcome, StandbyOutcome::NotTold);
        calls.drop_all();
        assert!(calls.recalls.is_empty() && calls.next().await.is_none());
    }

    #[tokio::test]
    async fn a_server_that_refuses_is_at_fault_itself() {
        let mut calls = StandbyCalls::new(silent().0);
        calls.begin(call("a", StandbyOrder::SleepAgain));
        let answer = calls.next().await.unwrap();
        assert!(matches!(answer.outcome, StandbyOutcome::Failed(_)), "{answer:?}");
        assert!(calls.recalls.is_empty());
    }

    /// A path that is taken on a template is one that a request can be made of.
    #[test]
    fn every_path_that_is_valid_can_be_called() {
        for byte in b'!'..=b'~' {
            for path in [format!("/a{}", char::from(byte)), format!("/a?b{}", char::from(byte))] {
                let notes = [(STANDBY.name(), "process"), (STANDBY_SLEEP.name(), &path)];
                let notes = notes.map(|(key, text)| (key.to_owned(), text.to_owned()));
                if let Ok(Some(standby)) = Standby::of(Some(&notes.into())) {
                    assert!(Request::post(&*standby.sleep).body(()).is_ok(), "{path}");
                }
            }
        }
    }

    #[tokio::test]
    async fn a_call_that_nobody_takes_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert!(post(address, "/wake_up").await.is_err());
    }
}
