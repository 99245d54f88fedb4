//! How a pod of the fleet is replaced by a new one, in order.

use std::time::Duration;

use kube::api::DeleteParams;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Fleet;
use crate::judge::What;
use crate::network::Name;
use crate::parts::{DRAIN, Part};

/// The preStop sleep of an activator's pod in the chart.
const PRE_STOP: Duration = Duration::from_secs(5);
/// How long after it was asked to end an activator closes connections without a request: `LINGER` of
/// `activator/src/server.rs`.
const LINGER: Duration = Duration::from_secs(2);
/// How long after its drain a process is ended without mercy, at the end of the pod's grace period.
const OVERDUE: Duration = Duration::from_secs(10);
/// How often it is looked whether a process has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Fleet {
    /// Replaces a pod by a new one, in order: the new one is there before the old one goes.
    pub(crate) async fn upgrade(&self, name: &Name) {
        let Some(part) = self.state.lock().members.get(name).map(|member| member.part) else {
            return;
        };
        self.note(part, name, What::Member);
        self.make(part, true).await;
        sleep(self.chance.between(3_000, 5_000)).await;
        let Some(shutdown) = self.leave(name) else { return };
        let grace = DeleteParams::default();
        drop(self.pods().delete(name, &grace).await);
        self.note(part, name, What::Member);
        self.withdraw(name);
        if part == Part::Activator {
            sleep(PRE_STOP).await;
            self.judge.closes(name, ebb_clockwork::elapsed() + LINGER);
        }
        shutdown.cancel();
        // Whoever is told to leave loses nothing that ends in time.
        let how = if self.ends_within(name, DRAIN.saturating_sub(LOOK_EVERY)).await {
            What::Member
        } else {
            self.note(part, name, What::Activator);
            self.ends_within(name, OVERDUE).await;
            What::Activator
        };
        self.end(name, how).await;
        self.links.network.unhost(name);
        self.state.lock().members.remove(name);
        drop(self.pods().delete(name, &DeleteParams::default().grace_period(0)).await);
        self.story.tell(format!("{name} is gone"));
    }

    /// What asks the process of a pod to end; `None` if the pod leaves already.
    fn leave(&self, name: &Name) -> Option<CancellationToken> {
        let mut state = self.state.lock();
        let member = state.members.get_mut(name)?;
        if std::mem::replace(&mut member.is_leaving, true) {
            return None;
        }
        // Nobody needs to ask a process that is down.
        Some(member.run.as_ref().map(|run| run.shutdown.clone()).unwrap_or_default())
    }

    /// Waits until the process has come to its end by itself; false if it has not within that time.
    async fn ends_within(&self, name: &Name, longest: Duration) -> bool {
        let ended = async {
            while !self.has_ended(name) {
                sleep(LOOK_EVERY).await;
            }
            // A kernel sends what a process has written before its end.
            sleep(LOOK_EVERY).await;
        };
        tokio::time::timeout(longest, ended).await.is_ok()
    }

    /// Whether the process has come to its end by itself: nothing is left of its tasks.
    fn has_ended(&self, name: &Name) -> bool {
        let state = self.state.lock();
        let run = state.members.get(name).and_then(|member| member.run.as_ref());
        run.is_none_or(|run| run.tasks.are_done())
    }
}
