//! A server of files on loopback that counts what it sends, and does what a test wants of it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::StreamExt as _;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// Bytes that are sent at a time.
const CHUNK: usize = 64 << 10;

/// A server; it ends when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<Mutex<Site>>,
    task: AbortHandle,
}

/// What it has, and what it saw.
#[derive(Default)]
pub(crate) struct Site {
    pub(crate) files: BTreeMap<String, Served>,
    /// Statuses and headers that are answered before anything else, in order.
    pub(crate) fails: VecDeque<(u16, Vec<(&'static str, String)>)>,
    /// Between two chunks.
    pub(crate) pace: Duration,
    /// After how many bytes of a body the connection breaks.
    pub(crate) breaks_after: Option<usize>,
    pub(crate) seen: Vec<Seen>,
    /// Bytes of bodies of files.
    pub(crate) served: u64,
}

/// One answer, by path and query.
#[derive(Clone, Default)]
pub(crate) struct Served {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

// === impl Server ===

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self::of(listener, address)
    }

    pub(crate) fn of<L>(listener: L, address: SocketAddr) -> Self
    where
        L: axum::serve::Listener,
        L::Addr: std::fmt::Debug,
    {
        let state = Arc::new(Mutex::new(Site::default()));
        let router = Router::new().fallback(answer).with_state(state.clone());
        let serve = async move { axum::serve(listener, router).await.unwrap() };
        let task = tokio::spawn(serve).abort_handle();
        Self { address, state, task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Puts a file there, with a strong tag.
    pub(crate) fn put(&self, path: &str, body: impl Into<Bytes>) {
        let body = body.into();
        let tag = format!("\"{}\"", &sha256(&body)[..16]);
        self.put_as(path, 200, &[("etag", tag)], body);
    }

    pub(crate) fn put_as(
        &self,
        path: &str,
        status: u16,
        headers: &[(&'static str, String)],
        body: impl Into<Bytes>,
    ) {
        let served = Served { status, headers: headers.to_vec(), body: body.into() };
        self.state.lock().files.insert(path.to_owned(), served);
    }

    pub(crate) fn redirect(&self, path: &str, to: &str) {
        self.put_as(path, 302, &[("location", to.to_owned())], "");
    }

    pub(crate) fn fail(&self, status: u16, headers: &[(&'static str, String)]) {
        self.state.lock().fails.push_back((status, headers.to_vec()));
    }

    pub(crate) fn pace(&self, pace: Duration) {
        self.state.lock().pace = pace;
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.lock().seen.clone()
    }

    /// How often a path was asked for.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path == path).count()
    }

    pub(crate) fn served(&self) -> u64 {
        self.state.lock().served
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(state): State<Arc<Mutex<Site>>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let (found, fails, pace, breaks_after) = {
        let mut site = state.lock();
        let (method, headers) = (parts.method.clone(), parts.headers.clone());
        site.seen.push(Seen { method, path: path.clone(), headers });
        let fails = site.fails.pop_front();
        (site.files.get(&path).cloned(), fails, site.pace, site.breaks_after)
    };
    if let Some((status, headers)) = fails {
        return with(status, &headers).body(Body::empty()).unwrap();
    }
    let Some(served) = found else {
        return (StatusCode::NOT_FOUND, "no such file").into_response();
    };
    if served.status != 200 {
        return with(served.status, &served.headers).body(Body::from(served.body)).unwrap();
    }
    if let Some(wanted) = parts.headers.get(header::IF_MATCH)
        && value(&served, "etag").is_none_or(|tag| tag != wanted.to_str().unwrap())
    {
        return with(412, &[]).body(Body::empty()).unwrap();
    }
    let total = served.body.len();
    let start = start(&parts.headers, &served);
    if start.is_some_and(|start| start >= total) {
        return with(416, &[("content-range", format!("bytes */{total}"))])
            .body(Body::empty())
            .unwrap();
    }
    let body = served.body.slice(start.unwrap_or(0)..);
    let mut response = with(if start.is_some() { 206 } else { 200 }, &served.headers);
    if let Some(start) = start {
        let range = format!("bytes {start}-{}/{total}", total - 1);
        response = response.header(header::CONTENT_RANGE, range);
    }
    if value(&served, "x-without-length").is_none() {
        response = response.header(header::CONTENT_LENGTH, body.len());
    }
    if parts.method == Method::HEAD {
        return response.body(Body::empty()).unwrap();
    }
    response.body(stream(state, &body, pace, breaks_after)).unwrap()
}

fn stream(
    state: Arc<Mutex<Site>>,
    body: &Bytes,
    pace: Duration,
    breaks_after: Option<usize>,
) -> Body {
    let chunks: Vec<_> = (0..body.len())
        .step_by(CHUNK)
        .map(|at| (at, body.slice(at..body.len().min(at + CHUNK))))
        .collect();
    let send = move |(at, chunk): (usize, Bytes)| {
        let state = state.clone();
        async move {
            tokio::time::sleep(pace).await;
            if breaks_after.is_some_and(|after| at >= after) {
                // What was sent reaches the client before the connection ends.
                tokio::time::sleep(Duration::from_millis(100)).await;
                return Err(std::io::Error::other("broken by the test"));
            }
            state.lock().served += chunk.len() as u64;
            Ok(chunk)
        }
    };
    Body::from_stream(futures::stream::iter(chunks).then(send))
}

fn with(status: u16, headers: &[(&'static str, String)]) -> axum::http::response::Builder {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response
}

fn value<'a>(served: &'a Served, name: &str) -> Option<&'a str> {
    served.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

/// Where the asked part begins; `None`: all of it is sent.
fn start(headers: &HeaderMap, served: &Served) -> Option<usize> {
    if value(served, "accept-ranges") == Some("none") {
        return None;
    }
    let range = headers.get(header::RANGE)?.to_str().unwrap();
    if let Some(state) = headers.get(header::IF_RANGE) {
        let state = state.to_str().unwrap();
        if value(served, "etag") != Some(state) && value(served, "last-modified") != Some(state) {
            return None;
        }
    }
    range.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

/// As `git hash-object`.
pub(crate) fn git_blob(bytes: &[u8]) -> String {
    let text = [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat();
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &text).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from_digit(u32::from(digit), 16).unwrap())
        .collect()
}

/// Bytes that no packing shortens and no shift leaves the same.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(next());
    }
    bytes.truncate(length);
    bytes
}
