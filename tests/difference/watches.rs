//! Watches of what an episode did, from its start and with the objects that it left.

use http::Method;
use serde_json::{Value, json};

use crate::compare::{Difference, unargued};
use crate::dice::Dice;
use crate::kinds::Kind;
use crate::operation::Operation;
use crate::side::ServerSide;

/// Name of the object whose creation ends every watch.
const LAST: &str = "z-last";
const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// The first difference between the watches of a kind. `starts` are the versions of both sides at
/// the episode's start.
pub(crate) async fn compare(
    (real, embedded): (&mut ServerSide, &mut ServerSide),
    kind: &'static Kind,
    starts: &(String, String),
) -> Option<(String, Vec<Difference>)> {
    let mut last = (kind.rest)(&mut Dice::new(0));
    last["apiVersion"] = kind.api_version.into();
    last["kind"] = kind.kind.into();
    last["metadata"] = json!({ "name": LAST, "labels": { "app": "a" } });
    let last = Operation::new(Method::POST, kind, LAST).sending(last);
    let (left, right) = tokio::join!(real.ask_normal(&last), embedded.ask_normal(&last));
    let found = unargued(&last.to_string(), &left, &right);
    if !found.is_empty() {
        return Some((last.to_string(), found));
    }
    for (is_from_start, watch) in all(kind) {
        let at = |start: &str| {
            let watch = watch.clone();
            if is_from_start { watch.with("resourceVersion", start) } else { watch }
        };
        let (at_real, at_embedded) = (at(&starts.0), at(&starts.1));
        let (left, right) = tokio::join!(
            real.events(&at_real, ends_at_last),
            embedded.events(&at_embedded, ends_at_last)
        );
        let found = unargued(&watch.to_string(), &left, &right);
        if !found.is_empty() {
            return Some((watch.to_string(), found));
        }
    }
    None
}

/// The watches, and whether each begins at the episode's start. None asks for the newest state, or
/// for initial events and their mark: the real server needs a newer etcd than Debian's for both.
fn all(kind: &'static Kind) -> Vec<(bool, Operation)> {
    let watch = || Operation::new(Method::GET, kind, "").with("watch", "true");
    let shown = |accept| Operation { accept: Some(accept), ..watch() };
    vec![
        (true, watch()),
        (true, watch().with("labelSelector", "app=a")),
        (true, watch().with("fieldSelector", "metadata.name!=b")),
        (true, shown(METADATA)),
        (true, shown(TABLE)),
        (false, watch().with("resourceVersion", "0")),
        (false, watch().with("resourceVersion", "0").with("labelSelector", "app=a")),
    ]
}

/// Whether a watch has told everything.
fn ends_at_last(event: &Value) -> bool {
    let object = &event["object"];
    let name = [&object["metadata"]["name"], &object["rows"][0]["object"]["metadata"]["name"]];
    name.iter().any(|name| **name == LAST) || event["type"] == "ERROR"
}
