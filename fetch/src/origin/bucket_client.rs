//! The client of this crate, as object_store takes one.

use std::error::Error;

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use object_store::ClientOptions;
use object_store::client::HttpClient;
use object_store::client::HttpConnector;
use object_store::client::HttpError;
use object_store::client::HttpErrorKind;
use object_store::client::HttpRequest;
use object_store::client::HttpResponse;
use object_store::client::HttpResponseBody;
use object_store::client::HttpService;
use reqwest::Request;
use reqwest::Response;
use reqwest::Url;

use crate::error::Trouble;
use crate::net;
use crate::net::CheckedClient;

/// Makes every client of a store, those for its credentials too, of the one that checks addresses.
#[derive(Debug)]
pub(super) struct CheckedConnector {
    client: CheckedClient,
}

#[derive(Debug)]
struct Service {
    client: CheckedClient,
}

/// A trouble on its way through object_store's errors.
#[derive(Debug, thiserror::Error)]
#[error("a request failed")]
struct Carried(Trouble);

// === impl CheckedConnector ===

impl CheckedConnector {
    pub(super) fn new(client: CheckedClient) -> Self {
        Self { client }
    }
}

impl HttpConnector for CheckedConnector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Service { client: self.client.clone() }))
    }
}

// === impl Service ===

#[async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let url: Url = parts
            .uri
            .to_string()
            .parse()
            .map_err(|_| carry(Trouble::lasting("AWS_ENDPOINT_URL makes no URL: check it")))?;
        let body = body.collect().await?.to_bytes();
        let mut sent = Request::new(parts.method, url);
        *sent.headers_mut() = parts.headers;
        *sent.body_mut() = (!body.is_empty()).then(|| body.into());
        // To this host alone: the signature is for it, and a session's token would leave it.
        let answer = self.client.send_here(sent).await.map_err(carry)?;
        let status = answer.status();
        let host = net::host(answer.url());
        if !net::lasting_status(status) {
            let after = net::retry_after(answer.headers(), jiff::Timestamp::now());
            return Err(carry(Trouble::Passing(
                format!("{host} answered with status {status}"),
                after,
            )));
        }
        Ok(to_store(answer, host))
    }
}

fn to_store(answer: Response, host: String) -> HttpResponse {
    let (parts, body) = http::Response::<reqwest::Body>::from(answer).into_parts();
    let body = body.map_err(move |error| carry(net::trouble(&host, error)));
    HttpResponse::from_parts(parts, HttpResponseBody::new(body))
}

/// Not of a kind that object_store tries again by itself.
fn carry(trouble: Trouble) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, Carried(trouble))
}

/// The trouble that an error of the store carries.
pub(super) fn carried(error: &object_store::Error) -> Option<Trouble> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(Carried(trouble)) = cause.downcast_ref() {
            return Some(trouble.clone());
        }
        next = cause.source();
    }
    None
}
