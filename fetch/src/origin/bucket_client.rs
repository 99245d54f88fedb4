//! The client of this crate, as object_store takes one.

use std::error::Error;

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use reqwest::{Request, Response, Url};

use crate::error::FetchTrouble;
use crate::net;
use crate::net::CheckedClient;

/// Largest body of an error that is read.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// Makes every client of a store, those for its credentials too, of the one that checks addresses.
#[derive(Debug)]
pub(super) struct CheckedConnector {
    service: BucketService,
}

#[derive(Clone, Debug)]
struct BucketService {
    client: CheckedClient,
    bucket: String,
    /// Whether there are credentials.
    is_signed: bool,
}

/// A trouble on its way through object_store's errors.
#[derive(Debug, thiserror::Error)]
#[error("a request failed")]
struct Carried(FetchTrouble);

// === impl CheckedConnector ===

impl CheckedConnector {
    pub(super) fn new(client: CheckedClient, bucket: &str, is_signed: bool) -> Self {
        Self { service: BucketService { client, bucket: bucket.to_owned(), is_signed } }
    }
}

impl HttpConnector for CheckedConnector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.service.clone()))
    }
}

// === impl BucketService ===

impl BucketService {
    /// What an answer means that is no success. Its body is read here for its code alone: the rest
    /// names keys and what was signed, and object_store would make it part of its errors.
    async fn refusal(&self, answer: Response) -> FetchTrouble {
        let (host, status) = (net::host(answer.url()), answer.status());
        if !net::lasting_status(status) {
            let after = net::retry_after(answer.headers(), jiff::Timestamp::now());
            return FetchTrouble::Passing(format!("{host} answered with status {status}"), after);
        }
        let body = net::read_small(answer, ERROR_BYTES_MAX).await.unwrap_or_default();
        let code = code(&String::from_utf8_lossy(&body)).map(|code| format!(", {code}"));
        let code = code.unwrap_or_default();
        let bucket = &self.bucket;
        FetchTrouble::lasting(match status.as_u16() {
            // The object is not the one that was listed, or shorter.
            412 | 416 => return FetchTrouble::Changed,
            401 | 403 if self.is_signed => format!(
                "the bucket {bucket} does not let these credentials read it (status {status}{code}): \
                 let them read and list its objects, or set AWS_ACCESS_KEY_ID and \
                 AWS_SECRET_ACCESS_KEY anew"
            ),
            401 | 403 => format!(
                "the bucket {bucket} lets nobody read it without credentials (status {status}{code}): \
                 give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in a Secret on Kubernetes"
            ),
            404 => format!(
                "the bucket {bucket} is not there or has no such object (status {status}{code}): check \
                 the name"
            ),
            _ => format!(
                "the bucket {bucket} cannot be read (status {status}{code}): check its name, \
                 AWS_REGION and AWS_ENDPOINT_URL"
            ),
        })
    }
}

#[async_trait]
impl HttpService for BucketService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let url: Url =
            parts.uri.to_string().parse().map_err(|_| {
                carry(FetchTrouble::lasting("AWS_ENDPOINT_URL makes no URL: check it"))
            })?;
        let body = body.collect().await?.to_bytes();
        let mut sent = Request::new(parts.method, url);
        *sent.headers_mut() = parts.headers;
        *sent.body_mut() = (!body.is_empty()).then(|| body.into());
        // To this host alone: the signature is for it, and a session's token would leave it.
        let answer = self.client.send_here(sent).await.map_err(carry)?;
        if !answer.status().is_success() {
            return Err(carry(self.refusal(answer).await));
        }
        let host = net::host(answer.url());
        Ok(to_store(answer, host))
    }
}

fn to_store(answer: Response, host: String) -> HttpResponse {
    let (parts, body) = http::Response::<reqwest::Body>::from(answer).into_parts();
    let body = body.map_err(move |error| carry(net::trouble(&host, error)));
    HttpResponse::from_parts(parts, HttpResponseBody::new(body))
}

/// Not of a kind that object_store tries again by itself.
fn carry(trouble: FetchTrouble) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, Carried(trouble))
}

/// The trouble that an error of the store carries.
pub(super) fn carried(error: &object_store::Error) -> Option<FetchTrouble> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(Carried(trouble)) = cause.downcast_ref() {
            return Some(trouble.clone());
        }
        next = cause.source();
    }
    None
}

fn code(text: &str) -> Option<&str> {
    let (_, code) = text.split_once("<Code>")?;
    let (code, _) = code.split_once("</Code>")?;
    let is_code = code.len() < 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_code.then_some(code)
}
