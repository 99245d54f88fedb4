//! The two servers, asked in the same way.

use std::time::Duration;

use http::Request;
use kube::client::Body;
use serde_json::{Value, json};

use crate::memory::SideMemory;
use crate::operation::Operation;

/// Longest time for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// One server, with what it told in one namespace.
pub(crate) struct ServerSide {
    client: kube::Client,
    pub(crate) namespace: String,
    pub(crate) memory: SideMemory,
}

// === impl ServerSide ===

impl ServerSide {
    pub(crate) fn new(client: &kube::Client, namespace: &str) -> Self {
        let memory = SideMemory::new(namespace);
        Self { client: client.clone(), namespace: namespace.to_owned(), memory }
    }

    /// Sends a request, and returns its answer as it came.
    pub(crate) async fn ask(&mut self, operation: &Operation) -> Value {
        let Operation { kind, name, .. } = operation;
        let fill = |text: &str| self.memory.fill(kind.plural, name, text);
        let target = operation.target(&self.namespace, fill);
        let mut request = Request::builder().method(operation.method.clone()).uri(target);
        if let Some(accept) = operation.accept {
            request = request.header("accept", accept);
        }
        let body = operation.body.clone().map_or_else(Vec::new, |mut body| {
            self.memory.fill_body(kind.plural, name, &mut body);
            serde_json::to_vec(&body).unwrap()
        });
        if !body.is_empty() {
            request = request.header("content-type", operation.content_type);
        }
        let answer = send(&self.client, request.body(Body::from(body)).unwrap());
        let answer = tokio::time::timeout(ANSWER_WITHIN, answer).await;
        let answer = answer.unwrap_or_else(|_| panic!("no answer in time to {operation}"));
        if operation.is_dry_run() {
            self.memory.pass_over(&answer["body"]);
        } else {
            self.memory.learn(kind.plural, &answer["body"]);
        }
        answer
    }

    /// Sends a request, and returns its answer in the words of both servers.
    pub(crate) async fn ask_normal(&mut self, operation: &Operation) -> Value {
        let mut answer = self.ask(operation).await;
        self.memory.normal(&mut answer);
        answer
    }

    /// Opens a stream of events, and reads it to the event of which `ends` is true.
    pub(crate) async fn events(
        &mut self,
        operation: &Operation,
        ends: impl Fn(&Value) -> bool,
    ) -> Value {
        use http_body_util::BodyExt as _;
        let fill = |text: &str| self.memory.fill(operation.kind.plural, "", text);
        let target = operation.target(&self.namespace, fill);
        let mut request = Request::get(target);
        if let Some(accept) = operation.accept {
            request = request.header("accept", accept);
        }
        let request = request.body(Body::from(Vec::new())).unwrap();
        let response = self.client.send(request).await.unwrap();
        let code = response.status().as_u16();
        let (mut body, mut text, mut events) = (response.into_body(), Vec::new(), Vec::new());
        let deadline = tokio::time::sleep(ANSWER_WITHIN);
        tokio::pin!(deadline);
        'reading: loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = &mut deadline => { events.push(json!("no end in time")); break }
            };
            let Some(frame) = frame else { break };
            text.extend_from_slice(&frame.unwrap().into_data().unwrap_or_default());
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line).unwrap();
                self.memory.learn(operation.kind.plural, &event["object"]);
                let is_last = ends(&event);
                events.push(event);
                if is_last {
                    break 'reading;
                }
            }
        }
        let mut answer = json!({ "code": code, "events": events });
        self.memory.normal(&mut answer);
        answer
    }
}

/// The answer to one request: code, warnings, form and body.
pub(crate) async fn send(client: &kube::Client, request: Request<Body>) -> Value {
    let response = client.send(request).await.unwrap();
    let (head, body) = response.into_parts();
    let text = |value: &http::HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let warnings: Vec<String> = head.headers.get_all("warning").iter().map(text).collect();
    let form = head.headers.get("content-type").map(text);
    let bytes = body.collect_bytes().await.unwrap();
    let body = serde_json::from_slice::<Value>(&bytes)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes).into_owned()));
    json!({ "code": head.status.as_u16(), "warnings": warnings, "form": form, "body": body })
}
