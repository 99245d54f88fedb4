//! Whether the world has been seen once: before that, an unknown host means nothing.

use tokio::sync::watch;

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    Routes,
    Revisions,
    Pods,
    Peers,
}

/// What the watches have not told everything of yet.
#[derive(Debug)]
pub(crate) struct Synced(watch::Sender<Vec<Watched>>);

impl Synced {
    /// Nothing was seen; `peers` says whether other activators are to be.
    pub(crate) fn new(peers: bool) -> Self {
        let mut missing = vec![Watched::Routes, Watched::Revisions, Watched::Pods];
        if peers {
            missing.push(Watched::Peers);
        }
        Self(watch::Sender::new(missing))
    }

    /// A watch has told something; all there is if it was `listed`.
    pub(crate) fn note(&self, what: Watched, listed: bool) {
        if listed {
            self.0.send_if_modified(|missing| {
                let before = missing.len();
                missing.retain(|other| *other != what);
                missing.len() != before
            });
        }
    }

    /// Whether everything was seen.
    pub(crate) fn is_done(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Returns once everything was seen.
    pub(crate) async fn done(&self) {
        self.until(Vec::is_empty).await;
    }

    /// Returns once the other activators were seen, if they are to be.
    pub(crate) async fn peers_done(&self) {
        self.until(|missing| !missing.contains(&Watched::Peers)).await;
    }

    async fn until(&self, condition: impl Fn(&Vec<Watched>) -> bool) {
        // The sender is ours: it cannot be gone.
        let mut missing = self.0.subscribe();
        let _fulfilled = missing.wait_for(|missing| condition(missing)).await;
    }
}
