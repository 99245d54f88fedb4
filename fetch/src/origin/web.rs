//! One file of a web server.

use async_trait::async_trait;
use ebb_api::model_source::ModelSource;
use reqwest::header::HeaderValue;
use reqwest::{Method, Request, StatusCode, Url, header};

use super::get::Answer;
use super::{Opened, Origin, get};
use crate::digest::Expected;
use crate::error::{FetchError, FetchTrouble};
use crate::net;
use crate::net::CheckedClient;
use crate::plan::{FetchPlan, Item, Listed};

/// The variable with a token for the source's own origin.
const TOKEN: &str = "MODEL_TOKEN";

/// A URL.
pub(crate) struct Web {
    client: CheckedClient,
    url: Url,
    name: String,
    expected: Expected,
    token: Option<HeaderValue>,
}

// === impl Web ===

impl Web {
    pub(crate) fn new(
        client: CheckedClient,
        source: &ModelSource,
        url: &str,
    ) -> Result<Self, FetchError> {
        let url = Url::parse(url)
            .map_err(|error| FetchError::Arguments(format!("{source} is no URL: {error}")))?;
        let expected = source.sha256.clone().map_or(Expected::Nothing, Expected::Sha256);
        let name = source.file_name().unwrap_or_else(|| super::ARCHIVE.to_owned());
        let token = super::secret(TOKEN).map(|token| super::bearer(TOKEN, &token)).transpose()?;
        Ok(Self { client, url, name, expected, token })
    }

    fn refusal(&self, asked: &str, status: StatusCode) -> FetchTrouble {
        let host = net::host(&self.url);
        // A redirect's target is not the one to whom a token is shown.
        let elsewhere =
            if asked == host { String::new() } else { format!(" at {asked}, where it redirects") };
        FetchTrouble::lasting(match status.as_u16() {
            401 | 403 if self.token.is_some() => format!(
                "{host} does not let this token read it (status {status}{elsewhere}): set {TOKEN} to \
                 one that may, or renew the URL"
            ),
            401 | 403 => format!(
                "{host} lets nobody read it without a token (status {status}{elsewhere}): give one as \
                 {TOKEN}, in a Secret on Kubernetes, or renew the URL's signature"
            ),
            404 | 410 => {
                format!("{host} has no such file (status {status}{elsewhere}): check the URL")
            }
            _ => format!("{host} answered with status {status}{elsewhere}: check the URL"),
        })
    }
}

#[async_trait]
impl Origin for Web {
    /// Asks nothing: the answer with the file says what there is to know.
    async fn plan(&self) -> Result<FetchPlan, FetchTrouble> {
        let listed = Listed {
            path: self.name.clone(),
            size: None,
            expected: self.expected.clone(),
            validator: None,
        };
        Ok(FetchPlan { version: None, items: vec![Item { name: self.name.clone(), listed }] })
    }

    async fn open(
        &self,
        _listed: &Listed,
        from: u64,
        validator: Option<&str>,
    ) -> Result<Opened, FetchTrouble> {
        let mut request = Request::new(Method::GET, self.url.clone());
        if let Some(token) = &self.token {
            request.headers_mut().insert(header::AUTHORIZATION, token.clone());
        }
        match get::get(&self.client, request, from, validator).await? {
            Answer::Opened(opened) => Ok(opened),
            Answer::Refused(answer) => Err(self.refusal(&net::host(answer.url()), answer.status())),
        }
    }
}
