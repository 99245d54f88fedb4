//! Objects of S3, or of a server with its protocol.
//!
//! Credentials, region and endpoint come from the variables that all tools of AWS read. Without
//! credentials requests are not signed: those of the machine that a pod runs on are not asked for.

use async_trait::async_trait;
use ebb_api::model_source::ModelSource;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt as _, RetryConfig,
};

use super::bucket_client::{CheckedConnector, ListLeft, carried};
use super::{Opened, Origin};
use crate::digest::Expected;
use crate::error::{FetchError, FetchTrouble};
use crate::net::CheckedClient;
use crate::plan;
use crate::plan::{FILES_MAX, FetchPlan, Item, Listed};

/// Variables one of which stands for credentials: a key, a role of a service account's token, a
/// container's role.
const CREDENTIALS: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

/// A bucket, and what is wanted of it.
pub(crate) struct Bucket {
    store: AmazonS3,
    left: ListLeft,
    name: String,
    key: String,
    file_name: String,
    expected: Expected,
}

// === impl Bucket ===

impl Bucket {
    pub(crate) fn new(
        client: CheckedClient,
        source: &ModelSource,
        bucket: &str,
        key: &str,
    ) -> Result<Self, FetchError> {
        let left = ListLeft::default();
        let is_signed = CREDENTIALS.iter().any(|name| super::secret(name).is_some());
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_http_connector(CheckedConnector::new(client, bucket, is_signed, left.clone()))
            // Attempts are made, and told, as those of the other protocols.
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
        if !is_signed {
            builder = builder.with_skip_signature(true);
        }
        let store = builder.build().map_err(|error| {
            FetchError::Arguments(format!("the AWS_ variables make no sense: {error}"))
        })?;
        Ok(Self {
            store,
            left,
            name: bucket.to_owned(),
            key: key.to_owned(),
            file_name: source.file_name().unwrap_or_else(|| super::ARCHIVE.to_owned()),
            expected: source.sha256.clone().map_or(Expected::Nothing, Expected::Sha256),
        })
    }

    /// All objects below the key.
    async fn list(&self) -> Result<Vec<Item>, FetchTrouble> {
        let prefix = self.path(self.key.trim_end_matches('/'))?;
        self.left.renew();
        let mut objects = self.store.list(Some(&prefix));
        let mut list = Vec::new();
        while let Some(object) = objects.try_next().await.map_err(|error| self.trouble(&error))? {
            if list.len() > FILES_MAX {
                break;
            }
            list.push(listed(&object, Expected::Nothing));
        }
        plan::choose(plan::without_folders(list), Some(&self.key))
            .map_err(|why| FetchTrouble::lasting(format!("the bucket {} {why}", self.name)))
    }

    /// One object, or all parts of it.
    async fn one(&self) -> Result<Vec<Item>, FetchTrouble> {
        let mut items = Vec::new();
        for key in plan::parts(&self.key).unwrap_or_else(|| vec![self.key.clone()]) {
            let object = self.store.head(&self.path(&key)?).await;
            let object = object.map_err(|error| self.trouble(&error))?;
            let name = key.rsplit('/').next().unwrap_or(&key);
            let name = if key == self.key { self.file_name.clone() } else { name.to_owned() };
            items.push(Item { name, listed: listed(&object, self.expected.clone()) });
        }
        Ok(items)
    }

    fn path(&self, key: &str) -> Result<Path, FetchTrouble> {
        Path::parse(key).map_err(|_| {
            FetchTrouble::lasting(format!(
                "the bucket {} cannot be asked for a key with empty parts or dots: rename the object",
                self.name
            ))
        })
    }

    /// What an error of the store means: those of its server are told where its answers are read.
    fn trouble(&self, error: &object_store::Error) -> FetchTrouble {
        carried(error).unwrap_or_else(|| {
            FetchTrouble::lasting(format!(
                "the bucket {} answers other than S3 does, or its credentials cannot be had: check \
                 AWS_ENDPOINT_URL and the other AWS_ variables",
                self.name
            ))
        })
    }
}

#[async_trait]
impl Origin for Bucket {
    async fn plan(&self) -> Result<FetchPlan, FetchTrouble> {
        let is_folder = self.key.is_empty() || self.key.ends_with('/');
        let items = if is_folder { self.list().await? } else { self.one().await? };
        let version = match items.as_slice() {
            [item] => item.listed.validator.clone(),
            _ => None,
        };
        Ok(FetchPlan { version, items })
    }

    async fn open(
        &self,
        listed: &Listed,
        from: u64,
        validator: Option<&str>,
    ) -> Result<Opened, FetchTrouble> {
        let options = GetOptions {
            range: (from > 0).then_some(GetRange::Offset(from)),
            if_match: validator.map(str::to_owned),
            ..GetOptions::default()
        };
        let found = self.store.get_opts(&self.path(&listed.path)?, options).await;
        let found = found.map_err(|error| self.trouble(&error))?;
        let (start, size) = (found.range.start, found.meta.size);
        // Not every server with the protocol keeps to the condition.
        let states = validator.zip(found.meta.e_tag.as_deref());
        if states.is_some_and(|(wanted, sent)| wanted != sent) {
            return Err(FetchTrouble::Changed);
        }
        let validator = found.meta.e_tag.clone();
        let bucket = self.name.clone();
        let body = found.into_stream().map(move |chunk| {
            chunk.map_err(|error| {
                carried(&error).unwrap_or_else(|| {
                    FetchTrouble::passing(format!("the bucket {bucket} broke the connection off"))
                })
            })
        });
        Ok(Opened { start, size: Some(size), validator, body: body.boxed() })
    }
}

fn listed(object: &ObjectMeta, expected: Expected) -> Listed {
    Listed {
        path: object.location.to_string(),
        size: Some(object.size),
        expected,
        validator: object.e_tag.clone(),
    }
}
