//! Which pods of a Revision stand, asked of the API server itself.
//!
//! A watch that has died without a word knows pods that are gone for up to a minute, and the address
//! of such a pod may be another model's by then. Drained pods are the likeliest to be gone: they
//! were drained to be deleted.

use std::collections::HashSet;

use ebb_api::labels;
use ebb_api::pod::WatchedPod;
use ebb_api::report::RevisionKey;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};

use crate::dispatch::PodUid;

/// Most pods that are read: more than any Revision needs to serve its first requests.
const PODS_MAX: u32 = 500;

/// The pods of the Revision that are not being deleted, at this moment: no list of an API server's
/// cache, which may be old.
///
/// # Errors
///
/// The API server's, or that it cannot be reached.
pub(super) async fn pods(
    client: &Client,
    key: &RevisionKey,
    uid: &str,
) -> kube::Result<HashSet<PodUid>> {
    let pods: Api<WatchedPod> = Api::namespaced(client.clone(), &key.namespace);
    let own = format!("{}={uid}", labels::REVISION_UID);
    let own = ListParams::default().labels(&own).limit(PODS_MAX);
    let stands = |pod: &WatchedPod| pod.metadata.deletion_timestamp.is_none();
    let found = pods.list(&own).await?.into_iter().filter(stands);
    Ok(found.filter_map(|pod| pod.uid().map(PodUid::from)).collect())
}
