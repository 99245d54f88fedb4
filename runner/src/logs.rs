//! Output of containers: kept in files line by line with its time, read back for `kubectl logs`.
//!
//! One run of a container has one file, in the format of the container runtime interface
//! (`TIME STREAM TAG TEXT`), and the run before it is kept for `--previous`. A file that reaches
//! its limit is moved aside once, so a run never holds more than twice that.

mod line;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use ebb_apiserver::failure::RequestFailure;
use ebb_apiserver::pod_logs::{LogOptions, PodLogs};
use futures::stream::BoxStream;
use parking_lot::Mutex;
use tokio::sync::watch;

use reader::Reader;

pub(super) use writer::{LogTask, LogWriter};

/// Logs of all pods of this machine. Clones share them.
#[derive(Debug, Clone)]
pub struct Logs {
    root: Arc<Path>,
    pods: Arc<Mutex<BTreeMap<PodKey, PodLog>>>,
}

/// Namespace and name.
type PodKey = (String, String);

#[derive(Debug)]
struct PodLog {
    uid: String,
    containers: BTreeMap<String, Runs>,
}

#[derive(Debug)]
struct Runs {
    current: Run,
    previous: Option<Run>,
}

/// One run's file, and how far it is written.
#[derive(Debug, Clone)]
struct Run {
    path: PathBuf,
    /// Its sender is dropped when the run ends.
    progress: watch::Receiver<Progress>,
}

/// How much a run has written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Progress {
    /// How often the file was moved aside.
    rotations: u64,
    /// Bytes in the file now.
    bytes: u64,
}

/// The container and run whose output a writer takes.
#[derive(Debug, Clone)]
pub(super) struct Source<'a> {
    pub(super) namespace: &'a str,
    pub(super) pod: &'a str,
    pub(super) uid: &'a str,
    pub(super) container: &'a str,
    pub(super) restarts: i32,
}

// === impl Logs ===

impl Logs {
    /// Logs under `root`, a folder of their own. Logs that a former Ebb left there belong to pods
    /// that no longer exist; [`clear_stale_pods`](super::clear_stale_pods) removes them.
    pub fn new(root: PathBuf) -> Self {
        Self { root: root.into(), pods: Arc::default() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Begins the file of a run. Touches no disk yet.
    pub(super) fn begin(&self, source: &Source<'_>) -> LogWriter {
        let Source { namespace, pod, uid, container, restarts } = source;
        let folder = self.folder(namespace, pod, uid).join(container);
        let path = folder.join(format!("{restarts}.log"));
        let (progress, follow) = watch::channel(Progress::default());
        let run = Run { path: path.clone(), progress: follow };
        let mut pods = self.pods.lock();
        let key = ((*namespace).to_owned(), (*pod).to_owned());
        let entry = pods
            .entry(key)
            .or_insert_with(|| PodLog { uid: (*uid).to_owned(), containers: BTreeMap::new() });
        if entry.uid != *uid {
            (*uid).clone_into(&mut entry.uid);
            entry.containers.clear();
        }
        let before = entry.containers.remove((*container).to_owned().as_str());
        let (previous, obsolete) = match before {
            Some(Runs { current, previous }) => (Some(current), previous),
            None => (None, None),
        };
        let runs = Runs { current: run, previous };
        entry.containers.insert((*container).to_owned(), runs);
        LogWriter::new(path, progress, obsolete.map(|run| run.path))
    }

    /// Removes a pod's logs, when the pod is removed.
    pub(super) async fn forget(&self, namespace: &str, pod: &str, uid: &str) {
        {
            let mut pods = self.pods.lock();
            let key = (namespace.to_owned(), pod.to_owned());
            if pods.get(&key).is_some_and(|entry| entry.uid == uid) {
                pods.remove(&key);
            }
        }
        // A pod that never ran has none.
        let _ = tokio::fs::remove_dir_all(self.folder(namespace, pod, uid)).await;
    }

    /// Kubelet's name of the folder; the UID keeps namesakes apart.
    fn folder(&self, namespace: &str, pod: &str, uid: &str) -> PathBuf {
        self.root.join(format!("{namespace}_{pod}_{uid}"))
    }

    fn find(
        &self,
        namespace: &str,
        pod: &str,
        options: &LogOptions,
    ) -> Result<Run, RequestFailure> {
        let pods = self.pods.lock();
        let entry = pods.get(&(namespace.to_owned(), pod.to_owned()));
        let waiting = || RequestFailure::bad_request(format!("pod {pod} has not started"));
        let entry = entry.ok_or_else(waiting)?;
        let runs = match &options.container {
            Some(name) => entry.containers.get(name).ok_or_else(|| {
                RequestFailure::bad_request(format!(
                    "container {name} in pod {pod} has not started"
                ))
            })?,
            None if entry.containers.len() > 1 => {
                let names: Vec<&str> = entry.containers.keys().map(String::as_str).collect();
                return Err(RequestFailure::bad_request(format!(
                    "a container name must be specified for pod {pod}, choose one of: [{}]",
                    names.join(" ")
                )));
            }
            None => entry.containers.values().next().ok_or_else(waiting)?,
        };
        if options.previous {
            runs.previous.clone().ok_or_else(|| {
                RequestFailure::bad_request(format!(
                    "no container of pod {pod} ended before this one"
                ))
            })
        } else {
            Ok(runs.current.clone())
        }
    }
}

// === impl PodLogs ===

impl PodLogs for Logs {
    fn open(
        &self,
        namespace: &str,
        pod: &str,
        options: LogOptions,
    ) -> Result<BoxStream<'static, Bytes>, RequestFailure> {
        let run = self.find(namespace, pod, &options)?;
        Ok(Reader::new(run, options).stream())
    }
}
