//! The calls to pods whose models sleep instead of being stopped, and the marks of those pods.

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

use crate::standby::{StandbyAnswer, StandbyCall, StandbyOrder};
use crate::writer::{ATTEMPT_TIMEOUT, FIELD_MANAGER};

/// Longest time for a model to fall asleep or to wake: its weights move between a GPU and memory, at some
/// gigabytes a second. A new start is quicker than what takes longer.
pub const CALL_TIMEOUT: Duration = Duration::from_mins(2);
/// Longest time for a connection: as an activator's to a pod, a node that is gone must not cost the whole
/// of [`CALL_TIMEOUT`].
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Most models that are told to sleep, and most marks that are removed, at the same time: nobody waits
/// for those.
const SLEEPS_AT_ONCE: usize = 16;
/// Most models that are woken at the same time; requests wait for each.
const WAKES_AT_ONCE: usize = 256;
/// Longest reason of a failure that is told.
const REASON_CHARS_MAX: usize = 200;

/// The calls under way. There is one for each revision at the most, which is the core's to see to, and
/// one for its mark.
pub struct StandbyCalls {
    client: Client,
    sleeps: Arc<Semaphore>,
    wakes: Arc<Semaphore>,
    tasks: JoinSet<StandbyAnswer>,
}

// === impl StandbyCalls ===

impl StandbyCalls {
    /// No calls yet.
    pub fn new(client: Client) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        let (sleeps, wakes) = (semaphore(SLEEPS_AT_ONCE), semaphore(WAKES_AT_ONCE));
        Self { client, sleeps, wakes, tasks: JoinSet::new() }
    }

    /// Begins a call. Must be called within a Tokio runtime.
    pub fn begin(&mut self, call: StandbyCall) {
        let turn = match call.order {
            StandbyOrder::Wake => Arc::clone(&self.wakes),
            StandbyOrder::Sleep | StandbyOrder::Unmark => Arc::clone(&self.sleeps),
        };
        let client = self.client.clone();
        self.tasks.spawn(async move {
            // The semaphore is never closed.
            let _turn = turn.acquire().await;
            let failure = carry_out(client, &call).await.err();
            let failure =
                failure.map(|why| why.chars().take(REASON_CHARS_MAX).collect::<String>().into());
            let StandbyCall { key, uid, order, name, .. } = call;
            match &failure {
                None => tracing::debug!(revision.name = %key, pod.name = %name, ?order, "Called"),
                Some(why) => tracing::warn!(
                    revision.name = %key,
                    pod.name = %name,
                    ?order,
                    error = %why,
                    "A call to a pod with standby failed"
                ),
            }
            StandbyAnswer { key, uid, order, failure }
        });
    }

    /// The next call that ends; `None` while none is under way. Loses none when cancelled.
    pub async fn next(&mut self) -> Option<StandbyAnswer> {
        loop {
            match self.tasks.join_next().await? {
                Ok(answer) => return Some(answer),
                // Otherwise its revision would wait for an answer for ever. A restart is better.
                Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
                Err(error) => tracing::error!(%error, "A call ended unexpectedly"),
            }
        }
    }

    /// Gives up what is under way: another replica decides now, and goes by the marks.
    pub fn drop_all(&mut self) {
        self.tasks = JoinSet::new();
    }
}

impl std::fmt::Debug for StandbyCalls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StandbyCalls").field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}

async fn carry_out(client: Client, call: &StandbyCall) -> Result<(), String> {
    match call.order {
        StandbyOrder::Sleep => {
            mark(client, call, Timestamp::now().to_string().into()).await?;
            post(call.address, &call.path).await
        }
        StandbyOrder::Wake => post(call.address, &call.path).await,
        StandbyOrder::Unmark => mark(client, call, Value::Null).await,
    }
}

async fn mark(client: Client, call: &StandbyCall, value: Value) -> Result<(), String> {
    let pods: Api<Pod> = Api::namespaced(client, &call.key.namespace);
    let patch = json!({"metadata": {"uid": &*call.uid, "annotations": {ASLEEP.name(): value}}});
    let params =
        PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
    let patch = Patch::Merge(patch);
    match timeout(ATTEMPT_TIMEOUT, pods.patch_metadata(&call.name, &params, &patch)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("its mark was not written: {error}")),
        Err(_) => Err("its mark was not written in time".to_owned()),
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

    #[tokio::test]
    async fn a_call_that_nobody_takes_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert!(post(address, "/wake_up").await.is_err());
    }
}
