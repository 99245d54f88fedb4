//! What a watch of pods has held back, taken as a whole.
//!
//! A watch that stood still tells of pods that were ready once, and then that they are gone. Done one
//! after the other, a request would be sent in between to such a pod, or to whoever has its address by
//! now.

use std::collections::HashSet;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use crate::directory::WatchChange;

/// A pod that is unknown, and ready for longer than this, is old news. A watch tells it within
/// milliseconds; the API's times are whole seconds, of another machine's clock. Where the clocks differ
/// by more, either all news wait for [`PAUSE`], or none does.
const OLD_AFTER: Duration = Duration::from_secs(3);
/// Silence after which nothing more is expected of a backlog.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest wait for that silence: all else that the watch tells waits as well, pods that are news and
/// pods that are gone. The autoscaler's orders do not.
const PAUSE_WITHIN: Duration = Duration::from_millis(500);

/// The next changes: those that are there and, if they are old news, what comes right after them.
/// Loses what it has taken when it is cancelled.
pub(super) async fn whole(
    mut changes: Pin<&mut impl Stream<Item = Vec<WatchChange<Pod>>>>,
    is_known: impl Fn(&str) -> bool,
) -> Option<Vec<WatchChange<Pod>>> {
    let mut all = changes.next().await?;
    let now = Timestamp::now();
    if !all.iter().any(|change| is_old_news(change, now, &is_known)) {
        return Some(all);
    }
    let end = Instant::now() + PAUSE_WITHIN;
    while Instant::now() < end {
        let until = end.min(Instant::now() + PAUSE);
        // At the end of the watch the next call finds it ended.
        let Ok(Some(more)) = timeout_at(until, changes.next()).await else { break };
        all.extend(more);
    }
    Some(all)
}

/// Whether a change tells of a pod for the first time, long after it has become ready.
fn is_old_news(change: &WatchChange<Pod>, now: Timestamp, is_known: impl Fn(&str) -> bool) -> bool {
    let WatchChange::Applied(pod) = change else { return false };
    let is_news = pod.metadata.uid.as_deref().is_some_and(|uid| !is_known(uid));
    let ready = ebb_api::pod::condition(pod, "Ready").filter(|ready| ready.status == "True");
    let since = ready.and_then(|ready| ready.last_transition_time.as_ref());
    is_news
        && since.is_some_and(|since| {
            Duration::try_from(now.duration_since(since.0)).is_ok_and(|age| age > OLD_AFTER)
        })
}

/// What is left to do of changes that came at once: for each pod the last.
pub(super) fn latest(changes: Vec<WatchChange<Pod>>) -> Vec<WatchChange<Pod>> {
    let mut settled = HashSet::new();
    let mut gone = HashSet::new();
    let mut left = Vec::with_capacity(changes.len());
    for mut change in changes.into_iter().rev() {
        match &mut change {
            WatchChange::Applied(pod) if !settled.insert(pod.metadata.uid.clone()) => continue,
            WatchChange::Deleted(pod) if !settled.insert(pod.metadata.uid.clone()) => continue,
            WatchChange::Applied(_) => {}
            WatchChange::Deleted(pod) => {
                gone.insert(pod.metadata.uid.clone());
            }
            WatchChange::Replaced(all) => all.retain(|pod| !gone.contains(&pod.metadata.uid)),
        }
        let complete = matches!(change, WatchChange::Replaced(_));
        left.push(change);
        if complete {
            break;
        }
    }
    left.reverse();
    left
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc;
    use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    /// A pod of this UID, and the version that tells one event from another.
    fn pod(uid: &str, version: &str) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.uid = Some(uid.into());
        pod.metadata.resource_version = Some(version.into());
        pod
    }

    /// What is left of `changes`, in short: `+` applied, `-` deleted, `=` replaced.
    fn left(changes: Vec<WatchChange<Pod>>) -> Vec<String> {
        let name = |pod: &Pod| {
            let version = pod.metadata.resource_version.as_deref().unwrap_or_default();
            format!("{}{version}", pod.metadata.uid.as_deref().unwrap_or_default())
        };
        let named = latest(changes).into_iter().map(|change| match change {
            WatchChange::Applied(pod) => format!("+{}", name(&pod)),
            WatchChange::Deleted(pod) => format!("-{}", name(&pod)),
            WatchChange::Replaced(all) => {
                format!("={}", all.iter().map(name).collect::<Vec<_>>().join(","))
            }
        });
        named.collect()
    }

    #[test]
    fn of_a_backlog_only_the_last_of_each_pod_is_done() {
        let backlog = vec![
            WatchChange::Applied(pod("a", "1")),
            WatchChange::Applied(pod("b", "2")),
            WatchChange::Applied(pod("a", "3")),
            WatchChange::Deleted(pod("a", "4")),
            WatchChange::Applied(pod("b", "5")),
            WatchChange::Applied(pod("c", "6")),
        ];
        assert_eq!(left(backlog), ["-a4", "+b5", "+c6"]);
    }

    #[test]
    fn a_list_stands_for_all_before_it_and_names_no_pod_that_is_gone_since() {
        let backlog = vec![
            WatchChange::Deleted(pod("c", "1")),
            WatchChange::Replaced(vec![pod("a", "2"), pod("b", "2")]),
            WatchChange::Applied(pod("b", "3")),
            WatchChange::Deleted(pod("a", "4")),
        ];
        assert_eq!(left(backlog), ["=b2", "+b3", "-a4"]);
    }

    /// A pod that has been ready for so long.
    fn ready(uid: &str, version: &str, age: Duration) -> WatchChange<Pod> {
        let condition = PodCondition {
            type_: "Ready".to_owned(),
            status: "True".to_owned(),
            last_transition_time: Some(Time(Timestamp::now() - age)),
            ..PodCondition::default()
        };
        let status = PodStatus { conditions: Some(vec![condition]), ..PodStatus::default() };
        WatchChange::Applied(Pod { status: Some(status), ..pod(uid, version) })
    }

    #[tokio::test(start_paused = true)]
    async fn old_news_wait_for_what_comes_right_after() {
        let (send, changes) = mpsc::unbounded();
        let mut changes = std::pin::pin!(changes);
        let is_known = |uid: &str| uid == "known";
        let send = |change| send.unbounded_send(vec![change]).unwrap();
        send(ready("a", "1", Duration::from_secs(20)));
        let begin = Instant::now();
        let gathered = async {
            let next = whole(changes.as_mut(), is_known).await;
            (left(next.unwrap_or_default()), begin.elapsed())
        };
        let told = async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            send(WatchChange::Deleted(pod("a", "2")));
        };
        let ((gathered, after), ()) = futures::join!(gathered, told);
        assert_eq!(gathered, ["-a2"]);
        assert!(after >= Duration::from_millis(80), "{after:?}");
        for news in
            [ready("b", "3", Duration::from_secs(1)), ready("known", "4", Duration::from_secs(20))]
        {
            send(news);
            let begin = Instant::now();
            assert!(whole(changes.as_mut(), is_known).await.is_some());
            assert!(begin.elapsed() < Duration::from_millis(1), "news is taken at once");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_backlog_without_an_end_is_taken_within_half_a_second() {
        let endless = futures::stream::unfold(0, async |number| {
            tokio::time::sleep(Duration::from_millis(40)).await;
            let uid = number.to_string();
            Some((vec![ready(&uid, &uid, Duration::from_secs(20))], number + 1))
        });
        let mut endless = std::pin::pin!(endless);
        let begin = Instant::now();
        let taken = whole(endless.as_mut(), |_| false).await.unwrap_or_default();
        assert!(taken.len() > 5, "{}", taken.len());
        assert!(begin.elapsed() <= Duration::from_millis(600), "{:?}", begin.elapsed());
    }
}
