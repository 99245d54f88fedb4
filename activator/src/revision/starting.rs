//! How long the start of a revision's pods may take, and usually takes.

use std::time::Duration;

use ebb_api::start_phase::StartPhase;
use ebb_api::start_timeout;
use tokio::time::Instant;

use super::{Live, Revision, State};
use crate::pod::PodState;
use crate::settings::{Settings, StartLimit};

/// After so long without a pod, the wait of requests that have left is not counted for the next one.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(1);

/// How far a start is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StartView {
    pub(crate) phase: StartPhase,
    /// How long the first request that waits here has waited; `None` where none does.
    pub(crate) lasts: Option<Duration>,
    /// The time within which nine of ten starts were done, where any was measured.
    pub(crate) usual: Option<Duration>,
}

// === impl Revision ===

impl Revision {
    /// How far the start is that is under way; `None` while there is a pod to send to.
    pub(crate) fn start_view(&self, now: Instant) -> Option<StartView> {
        let state = self.state.lock();
        let usual = state.without_pod()?.settings.usual_start;
        let waking = state.waking.filter(|_| state.dispatch.queued() > 0);
        let lasts = waking.map(|since| now.saturating_duration_since(since));
        Some(StartView { phase: state.phase(), lasts, usual })
    }

    /// When to ask again whether a request that arrived at `arrived` still waits; `None` when it has
    /// waited for long enough by the steps that the start has made. Behind busy pods nothing starts: it
    /// waits as long as without a limit of its own, from when there is a pod.
    pub(crate) fn waits_until(
        &self,
        settings: &Settings,
        arrived: Instant,
        now: Instant,
    ) -> Option<Instant> {
        let Some(StartLimit::Auto { loading, pending }) = settings.start_limit else {
            return None;
        };
        let state = self.state.lock();
        let own = settings.response_timeout().unwrap_or(start_timeout::LONGEST);
        let end = if state.dispatch.has_open_pod() {
            state.opened.map_or(arrived, |opened| opened.max(arrived)) + own
        } else {
            let progressed = state.progressed.unwrap_or(arrived);
            match state.phase() {
                StartPhase::Asked => arrived + loading,
                StartPhase::Pending | StartPhase::Fetching => progressed.max(arrived) + pending,
                StartPhase::Loading => progressed.max(arrived) + loading,
            }
        };
        // The next step may leave less time than this one.
        (end > now).then(|| end.min(now + loading.min(own)))
    }

    /// How long a start usually takes, if there is no pod to send to and that is known.
    pub(crate) fn usual_start(&self) -> Option<Duration> {
        self.state.lock().without_pod()?.settings.usual_start
    }
}

impl State {
    /// The Revision, while there is no pod to send to.
    fn without_pod(&self) -> Option<&Live> {
        self.live.as_deref().filter(|_| !self.dispatch.has_open_pod())
    }

    /// Whether those that waited for a start have left long ago, and there is none. A browser comes and
    /// goes while it waits.
    pub(super) fn is_start_forgotten(&self, now: Instant) -> bool {
        let is_old = |since: Instant| now.saturating_duration_since(since) > FORGOTTEN_AFTER;
        self.left.is_some_and(is_old) && self.phase() == StartPhase::Asked
    }

    /// What a start waits for: the pod that is farthest counts.
    fn phase(&self) -> StartPhase {
        let coming = self.own_pods().filter(|(_, pod)| pod.state != PodState::Draining);
        coming.map(|(_, pod)| pod.facts.phase).max().unwrap_or(StartPhase::Asked)
    }
}
