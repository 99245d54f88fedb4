//! How requests end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};

use super::{
    ALL, Asked, DISAGREEMENTS, Disturbance, Judge, KNOWN_AFTER, Request, State, What, concerns,
    concerns_activators,
};
use crate::content;
use crate::invariants::{ANSWERED, ENDS, INSIDE, OWN_REVISION, STARTED, WHOLE};
use crate::network::Name;

/// How long a change of a Route or a pod may be unknown to an activator that is well.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);
/// How long after the end of a trouble with the API server a change that was made meanwhile may be
/// unknown: the pause before the next try is 5 s at the most, an answer that was begun before may
/// take 6 s, and events come up to 2 s late.
const KNOWN_AGAIN: Duration = Duration::from_secs(15);
/// How long it may be unknown to a process whose watches say nothing, while all else works: it cannot
/// tell that from a time without events. A watch is asked to end after 50 s and ended 5 s later; then
/// come the pause and the list.
const KNOWN_LATE: Duration = Duration::from_secs(75);
/// How much sooner or later than an activator that leaves closes a connection a request on it may be
/// sent and be lost: bytes take up to 2 ms each way, and what comes then is lost between two kernels.
const CROSSES: Duration = Duration::from_millis(5);
/// How long bytes may be on their way to a pod whose process ends meanwhile, many times over: links
/// to pods are well.
const UNDER_WAY: Duration = Duration::from_millis(50);
/// How long a pod may be down after a crash.
const CRASHED_FOR: Duration = Duration::from_secs(10);
/// How much sooner than its timeout a request may be answered 504: timers count milliseconds.
const ROUNDING: Duration = Duration::from_millis(2);
/// How much later.
const TIMEOUT_SLACK: Duration = Duration::from_secs(3);
/// How long after a trouble with the API server a failed write may wait for its next try: a failed
/// reconcile is tried again after up to a minute.
const WRITES_AFTER: Duration = Duration::from_secs(75);
/// How long after a process has ended, or was cut off, nobody may lead: a lease of 12 s and the start
/// of a process.
const LEADS_AFTER: Duration = Duration::from_secs(20);
/// How long an answer may take from a pod to its client, with the rest of the request on its way.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// How a request ended for its client.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// An answer, read to its end.
    Answer { status: StatusCode, headers: HeaderMap, body: Bytes, trailers: Option<Box<HeaderMap>> },
    /// The connection broke.
    Broke(String),
    /// No activator took the connection.
    NoActivator,
    /// The client left.
    Left,
    /// Nothing came in all the time that the request could take.
    Nothing,
}

impl Judge {
    /// A fault begins.
    pub(crate) fn disturb(&self, what: What, whom: impl Into<Name>) -> Disturbance {
        self.state.lock().disturbances.begin(what, whom.into(), ebb_clockwork::elapsed())
    }

    /// A fault ends.
    pub(crate) fn settle(&self, disturbance: Disturbance) {
        self.state.lock().disturbances.end(disturbance, ebb_clockwork::elapsed());
    }

    /// A fault that takes no time.
    pub(crate) fn disturbed(&self, what: What, whom: impl Into<Name>) {
        self.state.lock().disturbances.instant(what, whom.into(), ebb_clockwork::elapsed());
    }

    /// An activator leaves in order, and closes connections on which nothing is under way at that
    /// moment.
    pub(crate) fn closes(&self, activator: &Name, at: Duration) {
        self.state.lock().closing.insert(activator.clone(), at);
    }

    /// Whether a request that a connection broke with crossed the end of the connection, which an
    /// activator that leaves closed at that moment. One that was sent sooner it has to answer, and
    /// one that is sent later meets a connection that its client knows to be closed.
    pub(crate) fn is_turned_away(&self, number: u64, activator: &Name) -> bool {
        let state = self.state.lock();
        let Some(at) = state.closing.get(activator) else { return false };
        state.requests.get(&number).is_some_and(|request| {
            request.arrivals.is_empty() && request.sent.abs_diff(*at) <= CROSSES
        })
    }

    /// A request has ended.
    pub(crate) fn ends(&self, number: u64, outcome: &Outcome) {
        let mut state = self.state.lock();
        let Some(request) = state.requests.get_mut(&number) else { return };
        request.is_over = true;
        state.open -= 1;
        let Some(request) = state.requests.get(&number) else { return };
        let found = verdict(&state, request, outcome);
        let (asked, activator) = (request.asked.clone(), request.activator.clone());
        let pods: Vec<_> = request.arrivals.iter().map(|arrival| arrival.pod.to_string()).collect();
        let took = ebb_clockwork::elapsed().saturating_sub(request.sent);
        drop(state);
        let Asked { service, .. } = &asked;
        let told = match outcome {
            Outcome::Answer { status, headers, body, .. } => {
                let why = reason(headers).map(|why| format!(" ({why})")).unwrap_or_default();
                format!("{}{why}, {} bytes", status.as_u16(), body.len())
            }
            other => format!("{other:?}"),
        };
        let by = activator.map_or_else(|| "nobody".into(), |(name, _)| name);
        let to = if pods.is_empty() { "no pod".to_owned() } else { pods.join(" and ") };
        self.story.tell(format!(
            "Request {number} to {service}, by {by} and {to}, ends after {:.3} s: {told}",
            took.as_secs_f64(),
        ));
        if let Some((rule, how)) = found {
            self.story.blame(rule, format!("request {number} to {service} by {by}: {how}"));
        }
    }
}

type Finding = Option<(&'static str, String)>;

fn verdict(state: &State, request: &Request, outcome: &Outcome) -> Finding {
    match outcome {
        Outcome::Left => None,
        Outcome::Answer { status, .. } if request.asked.is_outside => (status.as_u16() != 404)
            .then(|| (INSIDE, format!("it is answered {status} at the outer door"))),
        Outcome::Nothing => Some((ENDS, "it never ended".to_owned())),
        Outcome::NoActivator => (!ended_here(state, request))
            .then(|| (ANSWERED, "no activator took the connection".to_owned())),
        // An upload that is refused while it is sent breaks, and its answer may get lost.
        Outcome::Broke(_)
            if request.asked.upload > 0
                && is_out_of_time(state, request)
                && broke(state, request) =>
        {
            timed_out(state, request)
        }
        Outcome::Broke(error) => {
            let is_refused = request.asked.upload > 0
                && (request.asked.is_outside
                    || not_found(state, request).is_none()
                    || has_old_news_of_a_crash(state, request));
            (broke(state, request) && !is_refused)
                .then(|| (ANSWERED, format!("the connection broke: {error}")))
        }
        Outcome::Answer { status, headers, body, trailers } => match status.as_u16() {
            200 => answered(state, request, body, trailers.as_deref()),
            404 => not_found(state, request),
            503 => unavailable(state, request, headers),
            504 => timed_out(state, request),
            502 => broke(state, request)
                .then(|| (ANSWERED, format!("502 {}", reason(headers).unwrap_or_default()))),
            other => Some((ANSWERED, format!("{other} {}", reason(headers).unwrap_or_default()))),
        },
    }
}

/// Whether no fault explains that a connection on the way of the request broke.
fn broke(state: &State, request: &Request) -> bool {
    let now = ebb_clockwork::elapsed();
    let troubled =
        |pod: &str, from| state.disturbances.any(&[What::Pod], |whom| whom == pod, from, now);
    let arrivals = &request.arrivals;
    let fell_with_pod = if arrivals.is_empty() {
        // Its bytes were under way to a pod when that failed, or went to a machine that is lost:
        // nobody knows it until Kubernetes gives the machine up.
        let from = request.sent.saturating_sub(UNDER_WAY);
        let routed = routed(state, request);
        state.disturbances.any(&[What::Pod], is_of(state, &routed), from, now)
    } else {
        arrivals.iter().any(|arrival| troubled(&arrival.pod, arrival.at))
    };
    !fell_with_pod && !ended_here(state, request)
}

/// Whether a pod, by UID, is of one of those Revisions.
fn is_of<'a>(state: &'a State, revisions: &'a BTreeSet<Arc<str>>) -> impl Fn(&str) -> bool + 'a {
    |pod| {
        let facts = state.pods.get(pod);
        facts.is_some_and(|facts| revisions.contains(&facts.identity.revision_uid))
    }
}

/// Whether an activator, or a link between two, was under a fault while they had the request. One
/// that leaves in order takes nothing with it.
fn ended_here(state: &State, request: &Request) -> bool {
    let (from, to) = (request.sent.saturating_sub(KNOWN_WITHIN), ebb_clockwork::elapsed());
    let kinds = [What::Activator, What::Link, What::Pause];
    state.disturbances.any(&kinds, concerns_activators, from, to)
}

/// UIDs of the Revisions that may serve the request.
fn routed(state: &State, request: &Request) -> BTreeSet<Arc<str>> {
    let from = known_since(state, request);
    state.written.routed(&request.asked.service, from, ebb_clockwork::elapsed())
}

fn answered(
    state: &State,
    request: &Request,
    body: &Bytes,
    trailers: Option<&HeaderMap>,
) -> Finding {
    let asked = &request.asked;
    let answer = match content::read(body, asked.parts) {
        Ok(answer) => answer,
        Err(content::Flaw::Foreign(line)) => {
            return Some((OWN_REVISION, format!("the answer is not the model's: {line:?}")));
        }
        Err(content::Flaw::Short(parts)) => {
            return Some((WHOLE, format!("{parts} of {} parts arrived", asked.parts)));
        }
    };
    if answer.received != asked.upload {
        let got = answer.received;
        return Some((WHOLE, format!("the pod got {got} of {} bytes", asked.upload)));
    }
    if let Some(at) = content::differs(answer.echo, asked.number, asked.upload) {
        return Some((WHOLE, format!("byte {at} of {} came back changed", asked.upload)));
    }
    if asked.has_trailers {
        let sum = trailers.and_then(|trailers| trailers.get(content::SUM)?.to_str().ok());
        let expected = asked.number.to_string();
        if answer.trailer != expected || sum != Some(&*expected) {
            let there = answer.trailer;
            return Some((WHOLE, format!("trailer {there:?} arrived there, and {sum:?} here")));
        }
    }
    let routed = routed(state, request);
    let from = request.sent.saturating_sub(KNOWN_AGAIN);
    let is_blind =
        state.disturbances.any(&[What::Blindness], |_| true, from, ebb_clockwork::elapsed());
    // Nobody tells an activator that hears nothing of the pods of a Revision that was deleted, and
    // another pod may have the address of one.
    let is_deaf = known_since(state, request) + KNOWN_WITHIN < request.sent;
    let is_orphan =
        is_deaf && routed.iter().any(|uid| state.written.died_before(uid, request.sent));
    (!routed.contains(answer.uid) && !is_blind && !is_orphan).then(|| {
        let named = |uid: &str| match state.written.revisions.get(uid) {
            Some(revision) => format!("{} ({uid})", revision.name),
            None => uid.to_owned(),
        };
        let known: Vec<_> = routed.iter().map(|uid| named(uid)).collect();
        let uid = named(answer.uid);
        (OWN_REVISION, format!("{uid} answers, and it was routed to {}", known.join(", ")))
    })
}

/// Since when this activator may not know what has changed.
fn known_since(state: &State, request: &Request) -> Duration {
    let own = request.activator.as_ref().map_or(ALL, |(name, _)| name);
    let sent = request.sent;
    let unsettled = |kinds: &[What]| {
        state.disturbances.unsettled_since(kinds, concerns(own), sent, KNOWN_AGAIN)
    };
    let since = match unsettled(&[What::Api, What::Stall, What::Pause]) {
        None => sent,
        // It can list at least, and does once its watch has been silent for too long.
        Some(since) if unsettled(&[What::Api, What::Pause]).is_none() => {
            since.max(sent.saturating_sub(KNOWN_LATE))
        }
        Some(since) => since,
    };
    since.saturating_sub(KNOWN_WITHIN)
}

fn not_found(state: &State, request: &Request) -> Finding {
    let from = known_since(state, request);
    let service = &request.asked.service;
    let always = state.written.always_routed(service, from);
    // An activator may hear of a Route, and not of a Revision that is made meanwhile.
    let is_new = from + KNOWN_WITHIN < request.sent
        && state.written.is_led_to_new(service, from, ebb_clockwork::elapsed());
    (always && !is_new)
        .then(|| (ANSWERED, "404 although its host was routed all the time".to_owned()))
}

fn unavailable(state: &State, request: &Request, headers: &HeaderMap) -> Finding {
    let why = reason(headers).unwrap_or_default();
    if !headers.contains_key(header::RETRY_AFTER) {
        return Some((ANSWERED, format!("503 {why} without Retry-After")));
    }
    let own = |whom: &str| *whom == *request.asked.service;
    let now = ebb_clockwork::elapsed();
    let excused = state.disturbances.any(&[What::Broken], own, request.sent, now)
        || has_old_news_of_a_crash(state, request);
    (!(why == "cannot-start" && excused)).then(|| (ANSWERED, format!("503 {why}")))
}

/// Whether the activator heard nothing of pods since one of the request's had crashed: it cannot know
/// that the pod is well again.
fn has_old_news_of_a_crash(state: &State, request: &Request) -> bool {
    let activator = request.activator.as_ref().map_or(ALL, |(name, _)| name);
    let unheard = |kinds: &[What], recovery| {
        let now = ebb_clockwork::elapsed();
        state.disturbances.unsettled_since(kinds, concerns(activator), now, recovery)
    };
    let since = [
        unheard(&[What::PodWatch, What::Stall], KNOWN_WITHIN),
        unheard(&[What::Api, What::Pause], KNOWN_AGAIN),
    ];
    let routed = routed(state, request);
    since.into_iter().flatten().min().is_some_and(|since| {
        let (from, now) = (since.saturating_sub(CRASHED_FOR), ebb_clockwork::elapsed());
        state.disturbances.any(&[What::Pod], is_of(state, &routed), from, now)
    })
}

/// Since when an activator may know the request.
fn taken_at(request: &Request) -> Duration {
    request.activator.as_ref().map_or(request.sent, |(_, since)| *since)
}

fn is_out_of_time(state: &State, request: &Request) -> bool {
    let took = ebb_clockwork::since(taken_at(request)) + ROUNDING;
    let is_over = |uid: &Arc<str>| state.written.timeout(uid).is_some_and(|most| took >= most);
    routed(state, request).iter().any(is_over)
}

/// A request may be given up when its own timeout is over, and only if no pod could serve it.
fn timed_out(state: &State, request: &Request) -> Finding {
    let now = ebb_clockwork::elapsed();
    let begin = taken_at(request);
    let took = now.saturating_sub(begin);
    let routed = routed(state, request);
    let timeouts = routed.iter().filter_map(|uid| state.written.timeout(uid));
    let (least, most) = (timeouts.clone().min()?, timeouts.max()?);
    if took + ROUNDING < least {
        return Some((ANSWERED, format!("504 after {took:?} of {least:?}")));
    }
    let is_calm = state.disturbances.are_activators_calm(DISAGREEMENTS, now, took + KNOWN_AFTER);
    if !is_calm {
        return None;
    }
    if took > most.saturating_add(TIMEOUT_SLACK) {
        return Some((ENDS, format!("504 after {took:?} of {most:?}")));
    }
    if let Some(arrival) = request.arrivals.first() {
        let due = arrival.at + request.asked.step + ANSWERED_WITHIN;
        let own = |whom: &str| *whom == *arrival.pod;
        let is_well = !state.disturbances.any(&[What::Pod], own, arrival.at, now);
        return (is_well && due < begin.saturating_add(least))
            .then(|| (ANSWERED, "504 although its pod answered in time".to_owned()));
    }
    let had_room = |uid: &Arc<str>| state.room.is_since(uid, begin);
    // Its bytes may have gone to a machine that was lost just then.
    let is_lost = state.disturbances.any(&[What::Pod], is_of(state, &routed), begin, now);
    let may_go = |uid: &Arc<str>| state.may_be_on_its_way_out(uid, now);
    if routed.iter().all(had_room) && !is_lost && !routed.iter().any(may_go) {
        return Some((ANSWERED, "504 although a pod was ready and free all the time".to_owned()));
    }
    ought_to_start(state, request, &routed, begin)
        .then(|| (STARTED, format!("504 after {took:?}, and no pod has served at any time")))
}

/// Whether none of the Revisions had a pod since then, and nothing says why. Pods start within 7 s,
/// and no timeout is shorter than 10 s.
fn ought_to_start(
    state: &State,
    request: &Request,
    routed: &BTreeSet<Arc<str>>,
    begin: Duration,
) -> bool {
    let now = ebb_clockwork::elapsed();
    let disturbed = |kinds: &[What], before: Duration| {
        state.disturbances.any(kinds, |_| true, begin.saturating_sub(before), now)
    };
    let service = &request.asked.service;
    let is_broken = state.disturbances.any(&[What::Broken], |own| *own == **service, begin, now)
        || state.disturbances.any(&[What::Pod], is_of(state, routed), begin, now);
    let lack = |uid: &Arc<str>| state.written.lives(uid) && !state.room.had_pod(uid, begin);
    !is_broken
        && !disturbed(
            &[What::Api, What::Stall, What::PodWatch, What::Pause, What::Clock],
            WRITES_AFTER,
        )
        && !disturbed(&[What::Activator, What::Member, What::Control, What::Link], LEADS_AFTER)
        && routed.iter().all(lack)
}

/// The word that Ebb gives for an error of its own.
fn reason(headers: &HeaderMap) -> Option<&str> {
    headers.get("ebb-error")?.to_str().ok()
}
