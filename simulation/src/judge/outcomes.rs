//! How requests end.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};

use super::{Asked, Disturbance, Judge, Request, State, What};
use crate::invariants::{ANSWERED, ENDS, INSIDE, OWN_REVISION, WHOLE};
use crate::network::Name;

/// How long a change of a Route or a pod may be unknown to an activator that is well.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);
/// The same after the way to the API server was disturbed: a watch that stalls is asked to end
/// after 50 s, and then connected again with a back-off.
const KNOWN_LATE: Duration = Duration::from_secs(75);
/// How much later than its timeout a request may be answered, and how much sooner.
const TIMEOUT_SLACK: Duration = Duration::from_secs(3);

/// How a request ended for its client.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// An answer, read to its end.
    Answer { status: StatusCode, headers: HeaderMap, body: String },
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

    /// A request has ended.
    pub(crate) fn ends(&self, number: u64, outcome: &Outcome) {
        let mut state = self.state.lock();
        let Some(request) = state.requests.get_mut(&number) else { return };
        request.is_over = true;
        let Some(request) = state.requests.get(&number) else { return };
        let found = verdict(&state, request, outcome);
        let (asked, activator) = (request.asked.clone(), request.activator.clone());
        let pods: Vec<_> = request.arrivals.iter().map(|arrival| arrival.pod.to_string()).collect();
        let took = ebb_clockwork::elapsed().saturating_sub(request.sent);
        drop(state);
        let Asked { service, .. } = &asked;
        let told = match outcome {
            Outcome::Answer { status, headers, body } => {
                let why = reason(headers).map(|why| format!(" ({why})")).unwrap_or_default();
                format!("{}{why}, {} bytes", status.as_u16(), body.len())
            }
            other => format!("{other:?}"),
        };
        let by = activator.as_deref().unwrap_or("nobody");
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
        Outcome::Broke(error) => {
            // An upload that is refused while it is sent breaks, and its answer may get lost.
            let is_refused = request.asked.upload > 0
                && (request.asked.is_outside || not_found(state, request).is_none());
            (broke(state, request) && !is_refused)
                .then(|| (ANSWERED, format!("the connection broke: {error}")))
        }
        Outcome::Answer { status, headers, body } => match status.as_u16() {
            200 => answered(state, request, body),
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
    let arrived_in_failed = request
        .arrivals
        .iter()
        .any(|arrival| state.pods.get(&arrival.pod).is_none_or(|pod| pod.failed.is_some()));
    // Bytes that were sent to a machine that is lost arrive nowhere, and nobody knows it.
    let from = request.sent.saturating_sub(KNOWN_LATE);
    let service = request.asked.service.as_str();
    let pod_failed =
        state.disturbances.any(&[What::Pod], Some(service), from, ebb_clockwork::elapsed());
    !arrived_in_failed && !pod_failed && !ended_here(state, request)
}

/// Whether a process or a link of the request's way was under a fault.
fn ended_here(state: &State, request: &Request) -> bool {
    let (from, to) = (request.sent.saturating_sub(KNOWN_WITHIN), ebb_clockwork::elapsed());
    let kinds = [What::Activator, What::Link, What::Pause];
    state.disturbances.any(&kinds, None, from, to)
}

fn answered(state: &State, request: &Request, body: &str) -> Finding {
    let asked = &request.asked;
    let mut lines = body.lines();
    let first = lines.next().unwrap_or_default();
    let Some((uid, received)) = first.split_once(' ') else {
        return Some((OWN_REVISION, format!("the answer is not the model's: {first:?}")));
    };
    let parts = 1 + u64::try_from(lines.count()).unwrap_or(u64::MAX);
    if parts != asked.parts {
        return Some((WHOLE, format!("{parts} of {} parts arrived", asked.parts)));
    }
    if received != asked.upload.to_string() {
        return Some((WHOLE, format!("the pod got {received} of {} bytes", asked.upload)));
    }
    let (from, to) =
        (request.sent.saturating_sub(lateness(state, request)), ebb_clockwork::elapsed());
    let routed = state.written.routed(&asked.service, from, to);
    (!routed.contains(uid)).then(|| {
        let known: Vec<_> = routed.iter().map(ToString::to_string).collect();
        (OWN_REVISION, format!("{uid} answers, and it was routed to {}", known.join(", ")))
    })
}

/// How long this activator may not know a change.
fn lateness(state: &State, request: &Request) -> Duration {
    let from = request.sent.saturating_sub(KNOWN_LATE);
    let kinds = [What::Api, What::Pause, What::Activator];
    if state.disturbances.any(&kinds, None, from, ebb_clockwork::elapsed()) {
        KNOWN_LATE
    } else {
        KNOWN_WITHIN
    }
}

fn not_found(state: &State, request: &Request) -> Finding {
    let from = request.sent.saturating_sub(lateness(state, request));
    let always = state.written.always_routed(&request.asked.service, from);
    always.then(|| (ANSWERED, "404 although its host was routed all the time".to_owned()))
}

fn unavailable(state: &State, request: &Request, headers: &HeaderMap) -> Finding {
    let why = reason(headers).unwrap_or_default();
    if !headers.contains_key(header::RETRY_AFTER) {
        return Some((ANSWERED, format!("503 {why} without Retry-After")));
    }
    let from = request.sent.saturating_sub(KNOWN_LATE);
    let service = request.asked.service.as_str();
    let excused =
        state.disturbances.any(&[What::Broken], Some(service), from, ebb_clockwork::elapsed());
    (!(why == "cannot-start" && excused)).then(|| (ANSWERED, format!("503 {why}")))
}

fn timed_out(_: &State, request: &Request) -> Finding {
    let took = ebb_clockwork::elapsed().saturating_sub(request.sent);
    let early = took + TIMEOUT_SLACK < request.asked.timeout;
    early.then(|| (ANSWERED, format!("504 after {took:?} of {:?}", request.asked.timeout)))
}

/// The word that Ebb gives for an error of its own.
fn reason(headers: &HeaderMap) -> Option<&str> {
    headers.get("ebb-error")?.to_str().ok()
}
