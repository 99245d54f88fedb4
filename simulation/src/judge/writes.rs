//! Who writes what, and which Revision a host leads to at which time.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ebb_api::labels;
use ebb_api::serving::{Revision, Route};
use ebb_autoscaler::pods::DELETION_COST;
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::Value;

use super::{Judge, State, What};
use crate::api_link::{Call, Witness};
use crate::invariants::{HEARD, ONE_WRITER, SETTINGS};
use crate::network::Name;

/// How long an activator may be unheard until whoever decides must know it. It reports each second,
/// and its stream is pinged every 2 s and 5 s.
const UNHEARD: Duration = Duration::from_secs(15);

/// What was written, as far as it matters to the rules.
#[derive(Default)]
pub(super) struct Written {
    /// By UID.
    pub(super) revisions: BTreeMap<Arc<str>, RevisionFacts>,
    /// By namespace and name of the Route, the names that it leads to since that time.
    routes: BTreeMap<String, Vec<(Duration, BTreeSet<String>)>>,
    /// By name.
    pub(super) leases: BTreeMap<String, Tenure>,
    /// Pods of revisions, by UID.
    pub(super) pods: BTreeMap<Arc<str>, StandingPod>,
    /// Since when a pod of a Revision is marked although it is to stay.
    pub(super) marked: BTreeMap<Arc<str>, Duration>,
    /// Activators whose pods are Ready, by name.
    pub(super) ready: BTreeSet<Name>,
    /// When the last of the first activators was ready.
    pub(super) joined: Duration,
}

/// How long activators wait for an autoscaler before they act for themselves.
const ALONE_AFTER: Duration = Duration::from_secs(2);

/// Who holds a lease, and in which of its terms: the lease counts how often it changed hands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tenure {
    pub(super) holder: String,
    pub(super) term: i64,
}

impl Tenure {
    /// Whether that process sent the write in this term, and not in an earlier one of its own. One
    /// that the network held may arrive in a later term, if what it follows from is still so, or as
    /// long as nobody has written in that term: it is as if it had come in its own. `last` is the
    /// term that has written last.
    pub(super) fn covers(&self, by: &Name, call: &Call, last: Option<i64>) -> bool {
        let is_own = self.holder == **by && call.term.is_none_or(|term| term == self.term);
        is_own || (call.is_late && (call.is_conditional || last <= call.term))
    }
}

pub(super) struct StandingPod {
    /// UID of its Revision.
    pub(super) revision: Arc<str>,
    /// Since when it is ready and not on its way out.
    serves: Option<Duration>,
    pub(super) is_marked: bool,
    pub(super) is_leaving: bool,
}

pub(super) struct RevisionFacts {
    pub(super) name: String,
    limit: usize,
    timeout: Duration,
    born: Duration,
    pub(super) died: Option<Duration>,
    pub(super) desired: Option<i64>,
    /// When it fell last.
    lowered: Option<Duration>,
    /// The term in which an autoscaler has written it last.
    term: Option<i64>,
}

impl RevisionFacts {
    fn new(revision: &Revision) -> Self {
        let limit = revision.spec.concurrency_limit().unwrap_or(0);
        Self {
            name: format!("{}/{}", revision.namespace().unwrap_or_default(), revision.name_any()),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            timeout: revision.spec.timeout().unwrap_or(Duration::MAX),
            born: ebb_clockwork::elapsed(),
            died: None,
            desired: None,
            lowered: None,
            term: None,
        }
    }
}

impl Written {
    /// The limit of requests at once in a pod; 0 for none.
    pub(super) fn limit(&self, uid: &str) -> usize {
        self.revisions.get(uid).map_or(0, |revision| revision.limit)
    }

    /// How long a request may wait for the Revision.
    pub(super) fn timeout(&self, uid: &str) -> Option<Duration> {
        self.revisions.get(uid).map(|revision| revision.timeout)
    }

    /// When the scale of the Revision fell last.
    pub(super) fn lowered(&self, uid: &str) -> Option<Duration> {
        self.revisions.get(uid)?.lowered
    }

    /// Since when the API has a pod as ready, and it is not on its way out.
    pub(super) fn serves_since(&self, pod: &str) -> Option<Duration> {
        self.pods.get(pod)?.serves
    }

    /// UID of the newest Revision of a name, if it is there.
    pub(super) fn newest(&self, name: &str) -> Option<&Arc<str>> {
        let own = self.revisions.iter().filter(|(_, revision)| revision.name == name);
        let (uid, revision) = own.max_by_key(|(_, revision)| revision.born)?;
        revision.died.is_none().then_some(uid)
    }

    /// Whether the Revision is there.
    pub(super) fn lives(&self, uid: &str) -> bool {
        self.revisions.get(uid).is_some_and(|revision| revision.died.is_none())
    }

    /// Whether the Revision was gone at that time.
    pub(super) fn died_before(&self, uid: &str, time: Duration) -> bool {
        let died = self.revisions.get(uid).and_then(|revision| revision.died);
        died.is_some_and(|died| died < time)
    }

    /// The limit of the newest Revision of a name.
    pub(super) fn limit_of(&self, name: &str) -> usize {
        let own = self.revisions.values().filter(|revision| revision.name == name);
        own.max_by_key(|revision| revision.born).map_or(0, |revision| revision.limit)
    }

    /// UIDs of the Revisions that the Service's host led to at some time between the two.
    pub(super) fn routed(&self, service: &str, from: Duration, to: Duration) -> BTreeSet<Arc<str>> {
        let history = self.routes.get(service).map(Vec::as_slice).unwrap_or_default();
        let mut uids = BTreeSet::new();
        for (index, (since, names)) in history.iter().enumerate() {
            let until = history.get(index + 1).map_or(to, |(next, _)| *next);
            if *since > to || until < from {
                continue;
            }
            let lived = |revision: &RevisionFacts| {
                names.contains(&revision.name)
                    && revision.born <= to
                    && revision.died.is_none_or(|died| died >= from)
            };
            let of = self.revisions.iter().filter(|(_, revision)| lived(revision));
            uids.extend(of.map(|(uid, _)| uid.clone()));
        }
        uids
    }

    /// Whether the Service's host led to a Revision, between the two, that was made after `from`.
    pub(super) fn is_led_to_new(&self, service: &str, from: Duration, to: Duration) -> bool {
        let led_to = self.routed(service, from, to);
        led_to.iter().any(|uid| self.revisions.get(uid).is_some_and(|one| one.born > from))
    }

    /// Whether the host led somewhere at every moment since `from`.
    pub(super) fn always_routed(&self, service: &str, from: Duration) -> bool {
        let Some(history) = self.routes.get(service) else { return false };
        let Some(before) = history.iter().rposition(|(since, _)| *since <= from) else {
            return false;
        };
        history[before..].iter().all(|(since, names)| {
            let lives = |name: &String| {
                self.revisions.values().any(|revision| {
                    revision.name == *name
                        && revision.born <= (*since).max(from)
                        && revision.died.is_none()
                })
            };
            !names.is_empty() && names.iter().all(lives)
        })
    }
}

impl Judge {
    /// A Revision is there, or has changed.
    pub(crate) fn revision_applied(&self, revision: &Revision) {
        let Some(uid) = revision.uid() else { return };
        let new = || RevisionFacts::new(revision);
        self.state.lock().written.revisions.entry(uid.into()).or_insert_with(new);
    }

    /// A Revision is gone.
    pub(crate) fn revision_deleted(&self, revision: &Revision) {
        let now = ebb_clockwork::elapsed();
        let mut state = self.state.lock();
        let uid = revision.uid().unwrap_or_default();
        if let Some(facts) = state.written.revisions.get_mut(uid.as_str()) {
            facts.died = Some(now);
        }
    }

    /// A Route leads somewhere, or nowhere any more.
    pub(crate) fn route_applied(&self, route: &Route, is_gone: bool) {
        let namespace = route.namespace().unwrap_or_default();
        let traffic = route.status.as_ref().map(|status| status.traffic.as_slice());
        let named =
            traffic.unwrap_or_default().iter().filter_map(|target| target.revision_name.as_deref());
        let leads_to: BTreeSet<_> = if is_gone {
            BTreeSet::new()
        } else {
            named.map(|name| format!("{namespace}/{name}")).collect()
        };
        let service = format!("{namespace}/{}", route.name_any());
        let url = route.status.as_ref().and_then(|status| status.url.as_deref());
        if let Some(url) = url.filter(|url| !url.contains(self.domain)) {
            self.story.blame(SETTINGS, format!("the URL of Route {service} is {url}"));
        }
        let mut state = self.state.lock();
        let history = state.written.routes.entry(service).or_default();
        if history.last().is_none_or(|(_, last)| *last != leads_to) {
            history.push((ebb_clockwork::elapsed(), leads_to));
        }
    }

    /// A pod of a revision is there, or has changed.
    pub(crate) fn pod_applied(&self, pod: &Pod) {
        let Some((uid, revision)) = pod.uid().zip(pod.labels().get(labels::REVISION_UID)) else {
            return;
        };
        let mark = pod.annotations().get(DELETION_COST);
        let is_marked = mark.is_some_and(|cost| cost.starts_with('-'));
        let is_leaving = pod.metadata.deletion_timestamp.is_some();
        let pods = &mut self.state.lock().written.pods;
        let before = pods.get(uid.as_str()).and_then(|before| before.serves);
        let serves = (is_ready(pod) && !is_marked && !is_leaving)
            .then(|| before.unwrap_or_else(ebb_clockwork::elapsed));
        let revision = revision.as_str().into();
        pods.insert(uid.into(), StandingPod { revision, serves, is_marked, is_leaving });
    }

    /// A pod is gone.
    pub(crate) fn pod_deleted(&self, pod: &Pod) {
        let uid = pod.uid().unwrap_or_default();
        self.state.lock().written.pods.remove(uid.as_str());
    }

    /// One of the first activators is ready: until all are, and know it, they may disagree.
    pub(crate) fn joins(&self) {
        self.state.lock().written.joined = ebb_clockwork::elapsed();
    }

    /// Whether the pod of an activator is Ready, as the API has it.
    pub(crate) fn activator_is(&self, name: &Name, is_ready: bool) {
        let ready = &mut self.state.lock().written.ready;
        if is_ready {
            ready.insert(name.clone());
        } else {
            ready.remove(name);
        }
    }

    /// Whether a process holds a lease.
    pub(crate) fn holds_lease(&self, name: &Name) -> bool {
        self.state.lock().written.leases.values().any(|tenure| tenure.holder == **name)
    }

    fn scale_written(&self, by: &Name, call: &Call, answer: &Value) {
        let now = ebb_clockwork::elapsed();
        let uid = answer["metadata"]["uid"].as_str().unwrap_or_default();
        let desired = answer["status"]["desiredReplicas"].as_i64();
        let mut state = self.state.lock();
        let facts = match state.written.revisions.entry(uid.into()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let revision = serde_json::from_value(answer.clone());
                new.insert(RevisionFacts::new(&revision.expect("the API server checks it")))
            }
        };
        let before = std::mem::replace(&mut facts.desired, desired);
        if before == desired {
            return;
        }
        if desired < before {
            facts.lowered = Some(now);
        }
        let last = facts.term;
        if role(by) == "autoscaler" {
            facts.term = last.max(call.term);
        }
        let name = facts.name.clone();
        let number =
            |scale: Option<i64>| scale.map_or_else(|| "none".to_owned(), |n| n.to_string());
        let is_led_by = |tenure: &Tenure| tenure.holder == **by;
        let leads = state.written.leases.get("ebb-autoscaler").is_some_and(is_led_by);
        // Activators that hear of no autoscaler for some seconds take drained pods back.
        let is_alone = call.held >= ALONE_AFTER;
        let is_lower = role(by) == "autoscaler" && desired < before;
        if call.is_late && is_lower && (!leads || is_alone) {
            state.disturbances.instant(What::LateScale, uid.into(), now);
        }
        let change = format!("{by} scales {name} from {} to {}", number(before), number(desired));
        let mut broken = Vec::new();
        let tenure = state.written.leases.get("ebb-autoscaler").cloned();
        let is_right = match role(by) {
            "autoscaler" => tenure.as_ref().is_none_or(|tenure| tenure.covers(by, call, last)),
            "activator" => before.unwrap_or(0) == 0 && desired > Some(0),
            // Until the autoscaler decides, the status shows the Deployment's own number.
            _ => before.is_none(),
        };
        if !is_right {
            broken.push((
                ONE_WRITER,
                format!("{change}, sent in term {:?}, and the lease is {tenure:?}", call.term),
            ));
        }
        if desired < before
            && let Some(unheard) = unheard(&state, by, now)
        {
            broken.push((HEARD, format!("{change}, and {unheard} is unheard")));
        }
        drop(state);
        self.story.tell(change);
        for (rule, how) in broken {
            self.story.blame(rule, how);
        }
    }
}

/// What kind of process one is.
pub(super) fn role(name: &str) -> &str {
    name.split('-').next().unwrap_or_default()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True")
}

/// A Ready activator that `by` has not heard for long, in truth.
fn unheard(state: &State, by: &Name, now: Duration) -> Option<Name> {
    let long_ago = now.checked_sub(UNHEARD)?;
    let is_deaf = |activator: &&Name| {
        let link = format!("{activator}>{by}");
        state.disturbances.lasts(What::Link, &link, long_ago)
            || state.disturbances.lasts(What::Pause, activator, long_ago)
    };
    state.written.ready.iter().find(is_deaf).cloned()
}

impl Witness for Judge {
    fn term(&self, by: &Name) -> Option<i64> {
        let state = self.state.lock();
        state.written.leases.get(&format!("ebb-{}", role(by))).map(|tenure| tenure.term)
    }

    fn wrote(&self, by: &Name, call: &Call, status: StatusCode, answer: &Bytes) {
        if !status.is_success() {
            return;
        }
        // Of what others write nothing is Ebb's.
        if !["activator", "autoscaler", "controller"].contains(&role(by)) {
            return;
        }
        let answer = serde_json::from_slice::<Value>(answer).unwrap_or_default();
        self.fields_written(by, call, &answer);
        if call.path.contains("/revisions/") && call.path.ends_with("/status") {
            self.scale_written(by, call, &answer);
        } else if call.path.contains("/leases") {
            let lease = answer;
            let name = lease["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
            let term = lease["spec"]["leaseTransitions"].as_i64().unwrap_or_default();
            let leases = &mut self.state.lock().written.leases;
            let tenure = Tenure { holder: holder.clone(), term };
            let before = leases.insert(name.clone(), tenure.clone());
            if before.as_ref() != Some(&tenure) {
                self.story.tell(format!(
                    "The lease {name} is held by {}",
                    if holder.is_empty() { "nobody" } else { &holder }
                ));
            }
        }
    }
}
