//! The client of this crate, as object_store takes one.

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService,
};
use parking_lot::Mutex;
use reqwest::{Request, Response, Url};

use crate::error::FetchTrouble;
use crate::net;
use crate::net::CheckedClient;

/// Largest body of an error that is read.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// Bytes of all pages of a list: an object takes some 300.
const LIST_BYTES_MAX: usize = 64 << 20;
/// Pages of a list: S3 puts 1,000 objects on one, and a list ends with more than a model may have;
/// empty pages would not end it.
const PAGES_MAX: usize = 200;

/// What the pages of a list may still be; one for all clients of a store.
#[derive(Clone, Debug, Default)]
pub(super) struct ListLeft(Arc<Mutex<PagesLeft>>);

#[derive(Debug)]
struct PagesLeft {
    pages: usize,
    bytes: usize,
}

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
    left: ListLeft,
}

/// A trouble on its way through object_store's errors.
#[derive(Debug, thiserror::Error)]
#[error("a request failed")]
struct Carried(FetchTrouble);

// === impl PagesLeft ===

impl Default for PagesLeft {
    fn default() -> Self {
        Self { pages: PAGES_MAX, bytes: LIST_BYTES_MAX }
    }
}

// === impl ListLeft ===

impl ListLeft {
    /// For a list from its beginning.
    pub(super) fn renew(&self) {
        *self.0.lock() = PagesLeft::default();
    }

    /// The bytes that one more page may have; `None`: there may be no more.
    fn page(&self) -> Option<usize> {
        let mut left = self.0.lock();
        left.pages = left.pages.checked_sub(1)?;
        Some(left.bytes)
    }

    fn took(&self, bytes: usize) {
        let mut left = self.0.lock();
        left.bytes = left.bytes.saturating_sub(bytes);
    }
}

// === impl CheckedConnector ===

impl CheckedConnector {
    pub(super) fn new(
        client: CheckedClient,
        bucket: &str,
        is_signed: bool,
        left: ListLeft,
    ) -> Self {
        Self { service: BucketService { client, bucket: bucket.to_owned(), is_signed, left } }
    }
}

impl HttpConnector for CheckedConnector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.service.clone()))
    }
}

// === impl BucketService ===

impl BucketService {
    /// A page of a list, which object_store reads into memory as a whole.
    async fn page(&self, answer: Response) -> Result<HttpResponse, FetchTrouble> {
        let most = self.left.page().ok_or_else(|| {
            FetchTrouble::lasting(format!(
                "the bucket {} has more than {PAGES_MAX} pages of objects there: name a folder or an \
                 object of it",
                self.bucket
            ))
        })?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = net::read_small(answer, most).await?;
        self.left.took(body.len());
        let mut page = HttpResponse::new(body.into());
        (*page.status_mut(), *page.headers_mut()) = (status, headers);
        Ok(page)
    }

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
        let is_list = url.query_pairs().any(|(name, _)| name == "list-type");
        let body = body.collect().await?.to_bytes();
        let mut sent = Request::new(parts.method, url);
        *sent.headers_mut() = parts.headers;
        *sent.body_mut() = (!body.is_empty()).then(|| body.into());
        // To this host alone: the signature is for it, and a session's token would leave it.
        let answer = self.client.send_here(sent).await.map_err(carry)?;
        if !answer.status().is_success() {
            return Err(carry(self.refusal(answer).await));
        }
        if is_list {
            return self.page(answer).await.map_err(carry);
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
