//! A process that can be stopped for a while and ended at any moment.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::network::{Name, Network};

/// The tasks of one run of a process. Dropping it ends them.
pub(crate) struct Tasks {
    network: Network,
    name: Name,
    running: Arc<Mutex<Vec<AbortHandle>>>,
}

/// A task of a process: it does nothing while the process is stopped.
struct Gated {
    network: Network,
    name: Name,
    work: BoxFuture<'static, ()>,
}

impl Tasks {
    pub(crate) fn new(network: &Network, name: &Name) -> Self {
        Self { network: network.clone(), name: name.clone(), running: Arc::default() }
    }

    /// Starts a task, which ends with the process.
    ///
    /// Tasks that this one starts run on when the process is stopped or ended. What they do is
    /// seen by nobody then: their connections and their way to the API server are closed.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let (network, name) = (self.network.clone(), self.name.clone());
        let task = tokio::spawn(Gated { network, name, work: Box::pin(work) });
        self.running.lock().push(task.abort_handle());
    }
}

impl Tasks {
    /// Whether the process has come to its end by itself: its last task, the main one, is done.
    pub(crate) fn are_done(&self) -> bool {
        self.running.lock().last().is_none_or(AbortHandle::is_finished)
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.running.lock().iter().for_each(AbortHandle::abort);
    }
}

impl Future for Gated {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.network.is_paused(&self.name, context.waker()) {
            return Poll::Pending;
        }
        self.work.as_mut().poll(context)
    }
}
