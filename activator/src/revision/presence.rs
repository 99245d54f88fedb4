//! The Revision object comes, changes and goes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Live, QueueVerdict, Revision};
use crate::error::RequestError;
use crate::settings::Settings;

impl Revision {
    /// The Revision object is there. If it is another one of the same name, the requests that wait
    /// for the earlier one are told that it is gone.
    pub(crate) fn appear(self: &Arc<Self>, settings: Settings, now: Instant) {
        let mut state = self.state.lock();
        if state.live.as_ref().is_some_and(|live| live.settings == settings) {
            return;
        }
        let is_same = |live: &Arc<Live>| live.settings.is_same_but_for_starts(&settings);
        if state.live.as_ref().is_some_and(is_same) {
            // Nothing about its pods is new.
            let meters = self.context.meters.revision(&self.key);
            state.live = Some(Arc::new(Live { settings, meters }));
            return;
        }
        let renewed = state.live.as_ref().is_some_and(|live| live.settings.uid != settings.uid);
        let waiting = if renewed { state.end() } else { Vec::new() };
        state.dispatch.set_limit(settings.limit);
        self.limited.store(settings.limit.is_some(), Ordering::Relaxed);
        let meters = self.context.meters.revision(&self.key);
        state.live = Some(Arc::new(Live { settings, meters }));
        self.reconsider(&mut state, now);
        self.settle(state, now);
        tell_gone(waiting);
    }

    /// The Revision object is gone: waiting requests are told so at once.
    pub(crate) fn disappear(&self) {
        let waiting = self.state.lock().end();
        self.context.meters.forget(&self.key);
        tell_gone(waiting);
    }
}

/// Tells waiting requests that their revision is gone.
fn tell_gone(waiting: Vec<oneshot::Sender<QueueVerdict>>) {
    for waiter in waiting {
        // A client that has left needs no answer.
        let _gone = waiter.send(Err(RequestError::RevisionGone));
    }
}
