//! Long-lived tasks: each belongs to the process, and the process ends when one of them does.
//!
//! A task that panics ends silently in tokio. The state that it kept up (routes, settings, a lease)
//! would grow stale in a process that still says that it is ready; a restart is better.

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Exit status of a process in which a task ended or panicked before its time: `EX_SOFTWARE` of
/// sysexits.h, an internal error. An error that keeps a process from starting gives 1.
pub const BROKEN_EXIT: u8 = 70;

/// How a task ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// It returned.
    #[error("the {0} ended by itself, which is a bug: see the log above")]
    Ended(&'static str),
    /// It panicked; the message and its place stand on standard error.
    #[error("the {0} panicked, which is a bug: see the log above")]
    Panicked(&'static str),
}

/// The long-lived tasks of a process. A clone stands for the same tasks.
#[derive(Clone, Debug)]
pub struct Tasks {
    failed: watch::Sender<Option<TaskError>>,
}

/// Reports the end of a task when it is dropped: after a return and while a panic unwinds.
struct Watched {
    name: &'static str,
    until: CancellationToken,
    failed: watch::Sender<Option<TaskError>>,
}

// === impl Tasks ===

impl Tasks {
    /// No task yet.
    pub fn new() -> Self {
        Self { failed: watch::channel(None).0 }
    }

    /// Starts a task that may end once `until` is cancelled; [`Tasks::failure`] reports an earlier
    /// end. The handle may be dropped: it is only for waiting. A task that still runs when the work
    /// of the process has ended is dropped with the runtime.
    pub fn spawn(
        &self,
        name: &'static str,
        until: &CancellationToken,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        tokio::spawn(self.watched(name, until, work))
    }

    /// As [`Tasks::spawn`], for a task that the caller starts and waits for.
    pub fn watched<W: Future<Output = ()>>(
        &self,
        name: &'static str,
        until: &CancellationToken,
        work: W,
    ) -> impl Future<Output = ()> + use<W> {
        let watched = Watched { name, until: until.clone(), failed: self.failed.clone() };
        async move {
            let _watched = watched;
            work.await;
        }
    }

    /// Reports a failure that the task itself has found, such as that of a part of it. The first
    /// failure counts.
    pub fn fail(&self, failure: TaskError) {
        tell(&self.failed, failure);
    }

    /// Waits until a task has ended before its time, and says which was the first. Cancel-safe.
    pub async fn failure(&self) -> TaskError {
        let mut failed = self.failed.subscribe();
        // The sender lives as long as `self`, so that only a failure ends the wait.
        match failed.wait_for(Option::is_some).await.map(|failure| *failure) {
            Ok(Some(failure)) => failure,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Watched ===

impl Drop for Watched {
    fn drop(&mut self) {
        let failure = if std::thread::panicking() {
            TaskError::Panicked(self.name)
        } else if self.until.is_cancelled() {
            return;
        } else {
            TaskError::Ended(self.name)
        };
        tell(&self.failed, failure);
    }
}

/// Keeps the first failure of all.
fn tell(failed: &watch::Sender<Option<TaskError>>, failure: TaskError) {
    failed.send_if_modified(|first| {
        let is_first = first.is_none();
        first.get_or_insert(failure);
        is_first
    });
}

#[cfg(test)]
mod tests;
