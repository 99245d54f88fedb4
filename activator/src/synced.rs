//! Whether the world has been seen once: before that, an unknown host means nothing.

use tokio::sync::watch;

/// Which of the watches have told everything once.
#[derive(Debug)]
pub(crate) struct Synced(watch::Sender<Seen>);

#[derive(Debug, Default)]
struct Seen {
    routes: bool,
    revisions: bool,
    pods: bool,
}

impl Default for Synced {
    fn default() -> Self {
        Self(watch::Sender::new(Seen::default()))
    }
}

impl Synced {
    pub(crate) fn routes(&self, listed: bool) {
        self.note(listed, |seen| &mut seen.routes);
    }

    pub(crate) fn revisions(&self, listed: bool) {
        self.note(listed, |seen| &mut seen.revisions);
    }

    pub(crate) fn pods(&self, listed: bool) {
        self.note(listed, |seen| &mut seen.pods);
    }

    /// Whether everything was seen.
    pub(crate) fn is_done(&self) -> bool {
        self.0.borrow().all()
    }

    /// Returns once everything was seen.
    pub(crate) async fn done(&self) {
        // The sender is ours: it cannot be gone.
        let mut seen = self.0.subscribe();
        let _all = seen.wait_for(Seen::all).await;
    }

    fn note(&self, listed: bool, which: impl Fn(&mut Seen) -> &mut bool) {
        if listed {
            self.0.send_if_modified(|seen| !std::mem::replace(which(seen), true));
        }
    }
}

impl Seen {
    fn all(&self) -> bool {
        let Self { routes, revisions, pods } = *self;
        routes && revisions && pods
    }
}
