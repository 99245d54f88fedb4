//! Whether every watch has reported everything once: before that, an unknown host means nothing.

use tokio::sync::watch;

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    Routes,
    Revisions,
    Pods,
    Peers,
}

/// The kinds of which a watch has not reported everything yet.
#[derive(Debug)]
pub(crate) struct Synced(watch::Sender<Vec<Watched>>);

impl Synced {
    /// Nothing was seen yet; `peers` says whether other activators are watched, too.
    pub(crate) fn new(peers: bool) -> Self {
        let mut missing = vec![Watched::Routes, Watched::Revisions, Watched::Pods];
        if peers {
            missing.push(Watched::Peers);
        }
        Self(watch::Sender::new(missing))
    }

    /// A watch has reported something of `what`; everything, if it was `listed`.
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

    /// Returns once the other activators were seen; at once if they are not watched.
    pub(crate) async fn peers_done(&self) {
        self.until(|missing| !missing.contains(&Watched::Peers)).await;
    }

    async fn until(&self, condition: impl Fn(&Vec<Watched>) -> bool) {
        // The sender is in `self`: it cannot be gone.
        let mut missing = self.0.subscribe();
        let _fulfilled = missing.wait_for(|missing| condition(missing)).await;
    }
}
