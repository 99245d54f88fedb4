//! Which pods of a Revision stand, asked of the API server itself.
//!
//! A watch that has died without a word knows pods that are gone for up to a minute, and the address
//! of such a pod may be another model's by then. Drained pods are the likeliest to be gone: they
//! were drained to be deleted.

use std::collections::HashMap;
use std::net::SocketAddr;

use ebb_api::labels;
use ebb_api::pod::WatchedPod;
use ebb_api::report::RevisionKey;
use kube::Client;
use kube::api::{Api, ListParams};

use crate::dispatch::PodUid;
use crate::pod::PodFacts;

/// Most pods that are read: more than any Revision needs to serve its first requests.
const PODS_MAX: u32 = 500;

/// The addresses of the Revision's pods that neither end nor are being deleted, at this moment: no list
/// of an API server's cache, which may be old. Terminating pods count for [`PODS_MAX`]: of more pods
/// than that some are not taken back.
///
/// # Errors
///
/// The API server's, or that it cannot be reached.
pub(super) async fn pods(
    client: &Client,
    key: &RevisionKey,
    uid: &str,
) -> kube::Result<HashMap<PodUid, SocketAddr>> {
    let pods: Api<WatchedPod> = Api::namespaced(client.clone(), &key.namespace);
    let own = format!("{}={uid}", labels::REVISION_UID);
    let own = ListParams::default().labels(&own).limit(PODS_MAX);
    let found = pods.list(&own).await?;
    let facts = found.iter().filter_map(|pod| PodFacts::of(pod)).filter(|facts| !facts.leaving);
    Ok(facts.filter_map(|facts| Some((facts.uid, facts.address?))).collect())
}
