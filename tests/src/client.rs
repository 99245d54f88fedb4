//! A plain HTTP client that names the host it wants, whatever address it dials.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};

/// Longest time for one request: above any cold start that a test makes.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);

/// A client of one gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    gateway: SocketAddr,
    pool: Pool<HttpConnector, Full<Bytes>>,
    /// The API key that it shows.
    key: Option<String>,
    tag: Option<String>,
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
}

impl Client {
    /// A client that dials `gateway` and speaks HTTP/1.1.
    pub fn new(gateway: SocketAddr) -> Self {
        let pool = Pool::builder(TokioExecutor::new()).build(HttpConnector::new());
        Self { gateway, pool, key: None, tag: None }
    }

    /// The same client, which shows this API key.
    #[must_use]
    pub fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    /// The same client, whose requests name a tag.
    #[must_use]
    pub fn with_tag(&self, tag: &str) -> Self {
        Self { tag: Some(tag.to_owned()), ..self.clone() }
    }

    /// `GET path` at `host`.
    pub async fn get(&self, host: &str, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, host, path, Bytes::new()).await
    }

    /// `POST path` at `host` with a JSON body.
    pub async fn post(&self, host: &str, path: &str, body: Bytes) -> anyhow::Result<Answer> {
        self.send(Method::POST, host, path, body).await
    }

    /// `GET path` at `host` over HTTP/2 with prior knowledge, on a connection of its own: there
    /// the host stands in `:authority`, so that the pool cannot be asked for another.
    pub async fn get_h2c(&self, host: &str, path: &str) -> anyhow::Result<Answer> {
        let stream = tokio::net::TcpStream::connect(self.gateway).await?;
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await?;
        let connection = tokio::spawn(connection);
        let request = Request::get(format!("http://{host}{path}")).body(Full::new(Bytes::new()))?;
        let answer = Answer::of(sender.send_request(request).await?).await;
        connection.abort();
        answer
    }

    async fn send(
        &self,
        method: Method,
        host: &str,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.gateway))
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        if let Some(key) = &self.key {
            let value = format!("Bearer {key}").parse()?;
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }
        if let Some(tag) = &self.tag {
            request.headers_mut().insert("knative-serving-tag", tag.parse()?);
        }
        let whole = async {
            let response = self.pool.request(request).await.context("no response")?;
            Answer::of(response).await
        };
        tokio::time::timeout(REQUEST_TIMEOUT, whole)
            .await
            .with_context(|| format!("no answer from {host}{path} within {REQUEST_TIMEOUT:?}"))?
    }
}

impl Answer {
    async fn of(response: http::Response<hyper::body::Incoming>) -> anyhow::Result<Self> {
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.context("the body broke off")?.to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Self { status: parts.status, headers: parts.headers, text })
    }

    /// The body as JSON.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_str(&self.text).with_context(|| format!("not JSON: {}", self.text))
    }

    /// A field of a JSON body, as text; empty when it is not there.
    pub fn field(&self, name: &str) -> String {
        let value = self.json().ok().and_then(|json| json.get(name).cloned()).unwrap_or_default();
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    }
}
