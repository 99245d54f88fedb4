//! Where files come from, by protocol.

pub(crate) mod bucket;
mod bucket_client;
mod get;
pub(crate) mod hub;
pub(crate) mod web;

use async_trait::async_trait;
use bytes::Bytes;
use ebb_api::model_source::{ModelPlace, ModelSource};
use futures::stream::BoxStream;

use crate::error::{FetchError, FetchTrouble};
use crate::net::CheckedClient;
use crate::plan::{FetchPlan, Listed};

/// The name of an archive, which is no file of the model.
const ARCHIVE: &str = "archive";

/// A place of files.
#[async_trait]
pub(crate) trait Origin: Send + Sync {
    /// Asks which files make up the model.
    async fn plan(&self) -> Result<FetchPlan, FetchTrouble>;

    /// Begins to read a file at `from`, as long as it is in the state that `validator` names; a
    /// file of another state comes from its beginning, or is [`FetchTrouble::Changed`].
    async fn open(
        &self,
        listed: &Listed,
        from: u64,
        validator: Option<&str>,
    ) -> Result<Opened, FetchTrouble>;
}

/// A file that comes.
pub(crate) struct Opened {
    /// Where in the file the first byte belongs.
    pub(crate) start: u64,
    /// Bytes of the whole file, if the server says.
    pub(crate) size: Option<u64>,
    /// The server's name for this state of the file, if it has one that can be trusted.
    pub(crate) validator: Option<String>,
    pub(crate) body: BoxStream<'static, Result<Bytes, FetchTrouble>>,
}

/// The place that a source names.
///
/// # Errors
///
/// It is a file of this machine, or a variable of the environment makes no sense.
pub(crate) fn of(
    source: &ModelSource,
    client: CheckedClient,
) -> Result<Box<dyn Origin>, FetchError> {
    Ok(match &source.place {
        ModelPlace::HuggingFace { repository, revision, path } => {
            let sha256 = source.sha256.clone();
            Box::new(hub::Hub::new(client, repository, revision, path.as_deref(), sha256)?)
        }
        ModelPlace::Http { url } => Box::new(web::Web::new(client, source, url)?),
        ModelPlace::S3 { bucket, key } => {
            Box::new(bucket::Bucket::new(client, source, bucket, key)?)
        }
        ModelPlace::File { path } => {
            return Err(FetchError::Arguments(format!(
                "file://{path} is on this machine, and nothing of it is fetched: give the model that \
                 path"
            )));
        }
    })
}

/// A secret of the environment; an empty one is none.
fn secret(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// A header that shows a token, and that no log shows.
fn bearer(variable: &str, token: &str) -> Result<reqwest::header::HeaderValue, FetchError> {
    let mut value =
        reqwest::header::HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
            FetchError::Arguments(format!(
                "{variable} has characters that no token has: set it anew"
            ))
        })?;
    value.set_sensitive(true);
    Ok(value)
}
