//! The API server as its users hold it: opened on a folder, called in-process, served on
//! loopback.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use http::{Request, Response};
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::json;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::admission::{Admission, AllowAll};
use crate::authentication::{ADMIN, Tokens};
use crate::handler::{self, Clock, User};
use crate::journal::{Journal, JournalError, Recovered};
use crate::metadata;
use crate::pod_logs::{NoLogs, PodLogs};
use crate::reply::ReplyBody;
use crate::resources::{self, ResourceType};
use crate::store::{NAMESPACES, Store, StoreError};
use crate::{garbage, upkeep};

/// Most watches and followed logs at once. The platform's own parts hold about twenty; a
/// `kubectl get -w` holds one.
const STREAMS_MAX: usize = 1_024;
/// Namespaces that every cluster has.
const NAMESPACES_MADE: [&str; 2] = ["default", "kube-system"];

/// Where objects are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// In this folder, which is made if need be. One process at a time may use it.
    Folder(PathBuf),
    /// In memory alone: gone with the process. No thread is started.
    Memory,
}

/// How to open an [`ApiServer`].
#[derive(Clone)]
pub struct ApiOptions {
    /// Where objects are kept.
    pub storage: Storage,
    /// Kinds that are served beside Kubernetes' own.
    pub definitions: Vec<CustomResourceDefinition>,
    /// Namespaces that are made at the start beside `default` and `kube-system`.
    pub namespaces: Vec<String>,
    /// User name that admission sees for calls of [`ApiServer::client`].
    pub user: String,
    /// Title of the OpenAPI documents.
    pub title: String,
    /// The platform's rules.
    pub admission: Arc<dyn Admission>,
    /// Output of pods.
    pub logs: Arc<dyn PodLogs>,
    /// The tokens that calls through a socket need; with no token handed in, only health is
    /// answered there.
    pub tokens: Tokens,
    /// Tells the time that objects are stamped with.
    pub clock: Clock,
}

/// Why a server could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data folder cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// An object in the data folder is not JSON.
    #[error("an object in the data folder cannot be read: restore the folder from a copy")]
    Object(#[from] serde_json::Error),
    /// The first namespaces cannot be made.
    #[error("cannot write to the data folder")]
    Write(#[from] std::io::Error),
}

/// An embedded Kubernetes-shaped API server. Clones are handles on the same server; its
/// background tasks end with the last of them.
#[derive(Clone)]
pub struct ApiServer {
    shared: Arc<handler::Shared>,
    user: User,
    upkeep: Shared<BoxFuture<'static, ()>>,
    broken: watch::Sender<bool>,
    shutdown: CancellationToken,
    _guard: Arc<DropGuard>,
}

/// The server as a [`tower::Service`], on behalf of one user.
#[derive(Clone)]
pub struct ApiService {
    shared: Arc<handler::Shared>,
    user: User,
}

// === impl ApiOptions ===

impl ApiOptions {
    /// Objects in memory, Kubernetes' own kinds alone, no rules, no logs, the machine's clock.
    pub fn memory() -> Self {
        Self {
            storage: Storage::Memory,
            definitions: Vec::new(),
            namespaces: Vec::new(),
            user: ADMIN.to_owned(),
            title: "Kubernetes".to_owned(),
            admission: Arc::new(AllowAll),
            logs: Arc::new(NoLogs),
            tokens: Tokens::default(),
            clock: Arc::new(Timestamp::now),
        }
    }
}

impl fmt::Debug for ApiOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ApiOptions").field("storage", &self.storage).finish_non_exhaustive()
    }
}

// === impl ApiServer ===

impl ApiServer {
    /// Opens a server and starts its background tasks; must be called within a tokio runtime.
    /// Reads the data folder with blocking calls: some milliseconds for some thousand objects.
    ///
    /// # Errors
    ///
    /// The folder is in use, damaged or not writable. Nothing was changed then.
    pub fn open(options: ApiOptions) -> Result<Self, OpenError> {
        let ApiOptions {
            storage,
            definitions,
            namespaces,
            user,
            admission,
            logs,
            tokens,
            title,
            clock,
        } = options;
        let durable = matches!(storage, Storage::Folder(_));
        let (journal, recovered) = match storage {
            Storage::Memory => (None, Recovered::default()),
            Storage::Folder(folder) => {
                let (journal, recovered) = Journal::open(&folder)?;
                (Some(journal), recovered)
            }
        };
        let store = Arc::new(Store::new(recovered, journal)?);
        let resources: Vec<_> = resources::all(&definitions).into_iter().map(Arc::new).collect();
        let own = namespaces.iter().map(String::as_str);
        make_namespaces(&store, &resources, NAMESPACES_MADE.into_iter().chain(own), clock())?;

        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(garbage::run(Arc::clone(&store), Arc::clone(&clock), shutdown.clone()));
        tasks.spawn(upkeep::expire_events(
            Arc::clone(&store),
            Arc::clone(&clock),
            shutdown.clone(),
        ));
        if durable {
            tasks.spawn(upkeep::keep_journal(Arc::clone(&store), shutdown.clone()));
        }
        let broken = watch::Sender::new(false);
        let upkeep = tokio::spawn(all_ended(tasks, shutdown.clone(), broken.clone()));
        let upkeep = upkeep.map(drop).boxed().shared();
        let shared = handler::Shared {
            store,
            resources,
            admission,
            logs,
            tokens,
            title,
            clock,
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        };
        Ok(Self {
            shared: Arc::new(shared),
            user: user.into(),
            upkeep,
            broken,
            _guard: Arc::new(shutdown.clone().drop_guard()),
            shutdown,
        })
    }

    /// A client without a socket, for the parts of this process. Must be called within a tokio
    /// runtime. It works for as long as the server is open.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.service(&self.user), "default")
    }

    /// The tokens that calls through a socket need.
    pub(super) fn tokens(&self) -> &Tokens {
        &self.shared.tokens
    }

    /// The server on behalf of `user`, without a token: the holder of this value is trusted.
    pub fn service(&self, user: &str) -> ApiService {
        ApiService { shared: Arc::clone(&self.shared), user: user.into() }
    }

    /// Returns when a background task has panicked or ended by itself, which is a bug; never
    /// otherwise. The message of a panic stands on standard error.
    pub async fn broken(&self) {
        let mut broken = self.broken.subscribe();
        // The sender lives as long as `self`, so that only a failure ends the wait.
        if broken.wait_for(|broken| *broken).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends the background tasks, syncs the journal and releases the data folder. Writes through
    /// remaining clients fail from now on.
    pub async fn close(self) {
        self.shutdown.cancel();
        self.upkeep.await;
        self.shared.store.close();
    }
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ApiServer").finish_non_exhaustive()
    }
}

// === impl ApiService ===

impl<B> tower::Service<Request<B>> for ApiService
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<ReplyBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (shared, user) = (Arc::clone(&self.shared), Arc::clone(&self.user));
        Box::pin(async move { Ok(handler::handle(shared, user, request).await) })
    }
}

impl fmt::Debug for ApiService {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ApiService").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Waits for the background tasks to end, and reports in `broken` that one has ended before
/// `shutdown` or has panicked. The others go on: the journal is kept until the end.
async fn all_ended(
    mut tasks: JoinSet<()>,
    shutdown: CancellationToken,
    broken: watch::Sender<bool>,
) {
    while let Some(ended) = tasks.join_next().await {
        if ended.is_err() || !shutdown.is_cancelled() {
            broken.send_replace(true);
        }
    }
}

/// Makes the missing ones of the first namespaces. A deleted one comes back at the next start, as
/// the real server's `default` does.
fn make_namespaces<'a>(
    store: &Store,
    resources: &[Arc<ResourceType>],
    names: impl Iterator<Item = &'a str>,
    now: Timestamp,
) -> std::io::Result<()> {
    let Some(kind) = resources.iter().find(|own| own.group.is_empty() && own.plural == NAMESPACES)
    else {
        return Ok(());
    };
    for name in names {
        let mut namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name },
        });
        metadata::begin(&mut namespace, kind, now);
        // Any other refusal means that the namespace is there from an earlier start.
        if let Err(StoreError::Journal(error)) = store.create(NAMESPACES, namespace) {
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ended(task: impl Future<Output = ()> + Send + 'static, is_shutdown: bool) -> bool {
        let (mut tasks, shutdown) = (JoinSet::new(), CancellationToken::new());
        tasks.spawn(task);
        if is_shutdown {
            shutdown.cancel();
        }
        let broken = watch::Sender::new(false);
        all_ended(tasks, shutdown, broken.clone()).await;
        *broken.borrow()
    }

    #[tokio::test]
    async fn a_background_task_may_end_at_a_shutdown_and_never_panic() {
        assert!(!ended(async {}, true).await);
        assert!(ended(async {}, false).await);
        assert!(ended(async { panic!("on purpose") }, false).await);
        assert!(ended(async { panic!("on purpose") }, true).await);
    }

    #[tokio::test]
    async fn the_others_go_on_after_a_task_has_broken() {
        let (mut tasks, shutdown) = (JoinSet::new(), CancellationToken::new());
        tasks.spawn(async { panic!("on purpose") });
        tasks.spawn(shutdown.clone().cancelled_owned());
        let broken = watch::Sender::new(false);
        let (mut seen, all) = (broken.subscribe(), all_ended(tasks, shutdown.clone(), broken));
        let all = tokio::spawn(all);
        seen.wait_for(|broken| *broken).await.unwrap();
        assert!(!all.is_finished());
        shutdown.cancel();
        all.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_not_broken_while_it_is_open_nor_once_it_is_closed() {
        let server = ApiServer::open(ApiOptions::memory()).unwrap();
        let hour = std::time::Duration::from_hours(1);
        assert!(tokio::time::timeout(hour, server.broken()).await.is_err());
        server.clone().close().await;
        assert!(tokio::time::timeout(hour, server.broken()).await.is_err());
    }
}
