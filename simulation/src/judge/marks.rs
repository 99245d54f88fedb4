//! Looks for pods that are marked for deletion and stay.

use std::time::Duration;

use super::writes::StandingPod;
use super::{Judge, What};
use crate::invariants::MARKED;

/// How long a mark may stay on a pod that stays: whoever leads may be stopped for 25 s, and the next
/// one leads 12 s after it.
const MARKED_MAX: Duration = Duration::from_mins(1);
/// The same while nothing has been wrong with the control plane for [`MARKED_MAX`]. A mark precedes the
/// lower scale by half a second. If the scale rises meanwhile, the marked pod may still be deleted: it is
/// left alone, and nothing is lowered, for up to 12 s (`UNSEEN_FOR` and `UNCONFIRMED_FOR` in
/// `autoscaler/src/drain.rs`), and for 6 s more where Kubernetes was slow (`SLOW_FOR`); the next decision
/// comes within 2 s.
const MARKED_CALM_MAX: Duration = Duration::from_secs(22);
/// How long after the end of a process nobody may lead, or whoever does may know no pod: a lease of
/// 12 s, the start of a process, and its lists.
const LEADS_AFTER: Duration = Duration::from_secs(25);
/// What else may keep the control plane from taking a mark back.
const HINDRANCES: &[What] = &[
    What::Activator,
    What::Member,
    What::Pause,
    What::Link,
    What::Api,
    What::Stall,
    What::PodWatch,
    What::Clock,
];

impl Judge {
    /// Looks for pods that are marked for deletion and stay.
    pub(crate) fn look_at_marks(&self) {
        let now = ebb_clockwork::elapsed();
        let mut state = self.state.lock();
        let from = now.saturating_sub(MARKED_MAX);
        let led = now.saturating_sub(LEADS_AFTER);
        let is_hindered = state.disturbances.any(HINDRANCES, |_| true, from, now)
            || state.disturbances.any(&[What::Control], |_| true, led, now);
        let longest = if is_hindered { MARKED_MAX } else { MARKED_CALM_MAX };
        let written = &mut state.written;
        let mut broken = Vec::new();
        for (uid, revision) in &written.revisions {
            let own = |pod: &&StandingPod| pod.revision == *uid && !pod.is_leaving;
            let standing = written.pods.values().filter(own).count();
            let marked = written.pods.values().filter(own).any(|pod| pod.is_marked);
            let wanted = usize::try_from(revision.desired.unwrap_or(0)).unwrap_or(0);
            if !marked || standing > wanted || revision.died.is_some() {
                written.marked.remove(uid);
                continue;
            }
            let since = *written.marked.entry(uid.clone()).or_insert(now);
            if ebb_clockwork::since(since) > longest {
                broken.push(format!("a pod of {} has been marked since {since:?}", revision.name));
                written.marked.insert(uid.clone(), now);
            }
        }
        drop(state);
        for how in broken {
            self.story.blame(MARKED, how);
        }
    }
}
