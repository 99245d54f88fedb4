//! Plays an episode at both servers, and makes one that fails small.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::compare::{Difference, unargued};
use crate::generate::Episode;
use crate::kinds::{KINDS, Kind};
use crate::operation::Operation;
use crate::side::{ServerSide, send};
use crate::watches;

/// How often one wait for the embedded API's garbage collector looks.
const LOOKS_MAX: usize = 1_000;

/// How often, and after which pauses, a list that may be of any time is asked for again: the real
/// server answers it from a cache that may be behind.
const STALE_LOOKS_MAX: usize = 40;
const STALE_PAUSE: Duration = Duration::from_millis(50);

/// Both servers.
pub(crate) struct Pair {
    pub(crate) real: kube::Client,
    pub(crate) embedded: kube::Client,
}

/// The first difference of an episode.
pub(crate) struct Finding {
    seed: u64,
    /// The operations before it that it needs.
    before: Vec<Operation>,
    /// The request that was answered differently.
    request: String,
    differences: Vec<Difference>,
}

/// Makes namespaces that no earlier play has seen.
static PLAYS: AtomicUsize = AtomicUsize::new(0);

// === impl Pair ===

impl Pair {
    /// Plays an episode; returns its first difference, with as few operations as it needs if it is
    /// to shrink.
    pub(crate) async fn play(&self, episode: &Episode, shrinks: bool) -> Option<Finding> {
        let mut finding = self.play_once(episode).await?;
        if !shrinks {
            return Some(finding);
        }
        // Without one operation after the other, as long as the same places differ.
        let mut kept = finding.before.clone();
        for index in (0..kept.len()).rev() {
            let mut fewer = kept.clone();
            if index + 1 == fewer.len() && finding.request == fewer[index].to_string() {
                continue;
            }
            fewer.remove(index);
            let smaller = Episode { operations: fewer.clone(), ..episode.clone() };
            if let Some(again) = self.play_once(&smaller).await
                && again.request == finding.request
                && again.places() == finding.places()
            {
                finding = again;
                kept = fewer;
            }
        }
        Some(finding)
    }

    async fn play_once(&self, episode: &Episode) -> Option<Finding> {
        let number = PLAYS.fetch_add(1, Ordering::Relaxed);
        // Another process may have played here.
        let namespace = format!("play-{}-{number}", std::process::id());
        let mut real = ServerSide::new(&self.real, &namespace);
        let mut embedded = ServerSide::new(&self.embedded, &namespace);
        for client in [&self.real, &self.embedded] {
            prepare(client, &namespace).await;
        }
        let owner = KINDS.iter().find(|kind| kind.plural == "leases").unwrap();
        let owner = Operation::new(Method::GET, owner, "owner");
        let _ = (real.ask(&owner).await, embedded.ask(&owner).await);

        let mut starts = Vec::new();
        for &kind in &episode.kinds {
            let list = Operation::new(Method::GET, kind, "");
            let version = |answer: Value| {
                answer["body"]["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
            };
            starts.push((version(real.ask(&list).await), version(embedded.ask(&list).await)));
        }
        let lists = episode.kinds.iter().map(|&kind| Operation::new(Method::GET, kind, ""));
        let operations: Vec<Operation> = episode.operations.iter().cloned().chain(lists).collect();
        let found = |index: usize, request: String, differences| Finding {
            seed: episode.seed,
            before: episode.operations[..(index + 1).min(episode.operations.len())].to_vec(),
            request,
            differences,
        };
        for (index, operation) in operations.iter().enumerate() {
            let request = operation.to_string();
            let mut looks = if operation.is_of_any_time() { STALE_LOOKS_MAX } else { 1 };
            let (left, right, differences) = loop {
                let (left, right) =
                    tokio::join!(real.ask_normal(operation), embedded.ask_normal(operation));
                let differences = unargued(&request, &left, &right);
                looks -= 1;
                if differences.is_empty() || looks == 0 {
                    break (left, right, differences);
                }
                tokio::time::sleep(STALE_PAUSE).await;
            };
            if !differences.is_empty() {
                return Some(found(index, request, differences));
            }
            // It is argued for, and what the one took the other has not.
            if is_taken(&left) != is_taken(&right) {
                return None;
            }
            if operation.method == Method::DELETE {
                collect_garbage(&mut real, &mut embedded, operation.kind).await;
            }
        }
        for (&kind, start) in episode.kinds.iter().zip(&starts) {
            let sides = (&mut real, &mut embedded);
            if let Some((request, differences)) = watches::compare(sides, kind, start).await {
                return Some(found(operations.len(), request, differences));
            }
        }
        None
    }
}

fn is_taken(answer: &Value) -> bool {
    answer["code"].as_u64().is_some_and(|code| code < 300)
}

/// Makes a namespace with the object that owns others.
async fn prepare(client: &kube::Client, namespace: &str) {
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
    let objects = [
        ("/api/v1/namespaces".to_owned(), json!({ "metadata": { "name": namespace } })),
        (leases, json!({ "metadata": { "name": "owner" } })),
    ];
    for (path, object) in objects {
        let request = http::Request::post(path).header("content-type", "application/json");
        let answer = send(client, request.body(object.to_string().into_bytes().into()).unwrap());
        let answer = answer.await;
        assert_eq!(answer["code"], 201, "{answer}");
    }
}

/// Does for the real server what its garbage collector would do, which does not run: removes the
/// finalizers that hold an object until its dependents are dealt with. Waits until the embedded
/// one's has.
async fn collect_garbage(real: &mut ServerSide, embedded: &mut ServerSide, kind: &'static Kind) {
    let list = Operation::new(Method::GET, kind, "");
    for item in held(&real.ask(&list).await) {
        let metadata = &item["metadata"];
        let kept: Vec<&Value> = finalizers(&item).filter(|own| !is_of_collector(own)).collect();
        let patch = json!({ "metadata": { "finalizers": kept } });
        let name = metadata["name"].as_str().unwrap();
        let operation = Operation::new(Method::PATCH, kind, name).sending(patch);
        let operation = Operation { content_type: "application/merge-patch+json", ..operation };
        let answer = real.ask(&operation).await;
        assert_eq!(answer["code"], 200, "{answer}");
    }
    for _ in 0..LOOKS_MAX {
        if held(&embedded.ask(&list).await).is_empty() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the garbage collector does not collect {}", kind.plural);
}

fn held(list: &Value) -> Vec<Value> {
    let items = list["body"]["items"].as_array().into_iter().flatten();
    let is_held = |item: &&Value| {
        item["metadata"]["deletionTimestamp"].is_string() && finalizers(item).any(is_of_collector)
    };
    items.filter(is_held).cloned().collect()
}

fn finalizers(item: &Value) -> impl Iterator<Item = &Value> {
    item["metadata"]["finalizers"].as_array().into_iter().flatten()
}

fn is_of_collector(finalizer: &Value) -> bool {
    finalizer == "foregroundDeletion" || finalizer == "orphan"
}

// === impl Finding ===

impl Finding {
    fn places(&self) -> Vec<&str> {
        self.differences.iter().map(|found| found.path.as_str()).collect()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, after", self.seed)?;
        for operation in self.before.iter().filter(|own| own.to_string() != self.request) {
            writeln!(f, "  {operation}")?;
        }
        writeln!(f, "the answers differ to\n  {}\nin", self.request)?;
        self.differences.iter().try_for_each(|found| writeln!(f, "{found}"))
    }
}
