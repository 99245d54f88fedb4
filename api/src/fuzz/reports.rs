//! Lines of reports and answers: any text as a line, and any reports through both ends.

use std::collections::{BTreeMap, BTreeSet};

use arbitrary::{Result, Unstructured};

use crate::report::wire::{Answer, Decoder, Encoder, LINE_BYTES_MAX, PODS_MAX};
use crate::report::{OrderId, PodReport, Report, RevisionKey, RevisionReport, Scope};

/// Reports of one stream: enough for every number to become free and be given again.
const REPORTS_MAX: usize = 24;
/// Loads in whole parts, so that rounding changes none.
const LOADS: [f64; 6] = [0.0, 0.0, 0.25, 1.0, 7.5, 1e6];
/// Larger loads lose digits when they are rounded.
const LOAD_MAX: f64 = 1e9;

/// By its first byte an input is lines of a report, an answer, or a series of reports.
///
/// # Panics
/// If the input shows a fault.
pub fn reports(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else {
        return;
    };
    match (kind % 3, str::from_utf8(rest)) {
        (0, Ok(text)) => lines(text),
        (1, Ok(text)) => text.lines().for_each(answer),
        (2, _) => stream(&mut Unstructured::new(rest)).unwrap_or_default(),
        _ => {}
    }
}

/// A stream of any lines ends with an error, or with reports that can be said again.
fn lines(text: &str) {
    let mut decoder = Decoder::default();
    for line in text.lines() {
        match decoder.decode(line) {
            Ok(Some(report)) => say_again(&report),
            Ok(None) => {}
            Err(error) => {
                assert!(error.to_string().len() <= line.len() + 400, "{error}");
                return;
            }
        }
    }
}

fn answer(line: &str) {
    let Ok(answer) = Answer::decode(line) else {
        return;
    };
    let again = String::from_utf8(answer.encode()).expect("an answer is JSON");
    let pods = answer.order.as_ref().map_or(0, |order| order.pods.len());
    assert!(pods <= PODS_MAX && again.ends_with('\n') && again.lines().count() == 1);
    assert_eq!(Answer::decode(again.trim_end()), Ok(answer));
}

/// Both ends of a new stream understand a report that was heard.
fn say_again(report: &Report) {
    let keys: BTreeSet<_> = report.revisions.iter().map(|said| &said.revision).collect();
    let loads = report.revisions.iter().flat_map(|s| [s.concurrency_mean, s.requests_per_second]);
    let is_plain = |said: &RevisionReport| {
        let pods: BTreeSet<_> = said.pods.iter().map(|pod| &pod.uid).collect();
        pods.len() == said.pods.len()
    };
    for load in loads.clone() {
        assert!(load.is_finite() && load >= 0.0, "{load}");
    }
    // Neither end says a thing twice.
    if keys.len() != report.revisions.len()
        || !report.revisions.iter().all(is_plain)
        || loads.clone().any(|load| load > LOAD_MAX)
    {
        return;
    }
    let said = Report { scope: Scope::Full, ..report.clone() };
    let heard = Ends::new(&report.activator).send(&said).revisions;
    assert_eq!(heard.len(), said.revisions.len());
    for (heard, said) in heard.iter().zip(&said.revisions) {
        let expected = RevisionReport {
            pods: by_uid(&said.pods),
            concurrency_mean: heard.concurrency_mean,
            requests_per_second: heard.requests_per_second,
            interval_s: heard.interval_s,
            ..said.clone()
        };
        assert_eq!(*heard, expected);
        for (heard, said) in [
            (heard.concurrency_mean, said.concurrency_mean),
            (heard.requests_per_second, said.requests_per_second),
        ] {
            assert!((heard - said).abs() < 1e-4, "{said} became {heard}");
            assert_eq!(heard > 0.0, said > 0.0, "{said} became {heard}");
        }
    }
}

/// After each interval report both ends believe the same.
fn stream(choices: &mut Unstructured<'_>) -> Result<()> {
    let mut ends = Ends::new("activator-0");
    let (mut meant, mut heard) = (BTreeMap::new(), BTreeMap::new());
    for _ in 0..REPORTS_MAX {
        if choices.is_empty() {
            break;
        }
        let is_moment = choices.ratio(1_u8, 4)?;
        let mut revisions = BTreeMap::new();
        for _ in 0..choices.int_in_range(0..=5)? {
            let revision = revision(choices, if is_moment { 0.0 } else { 1.0 })?;
            revisions.insert(revision.revision.clone(), revision);
        }
        let scope = if is_moment { Scope::Moment } else { Scope::Full };
        let revisions = revisions.into_values().collect();
        let said = Report { activator: "activator-0".to_owned(), scope, revisions };
        believe(&mut meant, &said);
        believe(&mut heard, &ends.send(&said));
        if !is_moment {
            assert_eq!(heard, meant);
        }
    }
    Ok(())
}

fn revision(choices: &mut Unstructured<'_>, interval_s: f64) -> Result<RevisionReport> {
    let name = format!("r{}", choices.int_in_range(0..=5)?);
    let order = choices.int_in_range(0..=3)?;
    let mut pods = BTreeMap::new();
    for _ in 0..choices.int_in_range(0..=5)? {
        let uid = format!("pod-{}", choices.int_in_range(0..=7)?);
        let in_flight = *choices.choose(&[0, 0, 1, 2, u32::MAX])?;
        // Whether pods drain follows from the order that is obeyed, and from nothing else.
        pods.insert(uid, (in_flight, order > 1));
    }
    let pod = |(uid, (in_flight, draining)): (String, (u32, bool))| PodReport {
        uid: uid.into(),
        in_flight,
        draining,
    };
    Ok(RevisionReport {
        revision: RevisionKey::new("ns", name),
        concurrency_mean: *choices.choose(&LOADS)?,
        requests_per_second: *choices.choose(&LOADS)?,
        queued: *choices.choose(&[0, 0, 1, u32::MAX])?,
        interval_s,
        obeyed: OrderId { epoch: order / 2, number: order },
        pods: pods.into_iter().map(pod).collect(),
        is_cut: choices.ratio(1_u8, 8)?,
    })
}

/// What an autoscaler believes after a report.
fn believe(held: &mut BTreeMap<RevisionKey, RevisionReport>, report: &Report) {
    if report.scope == Scope::Full {
        held.clear();
    }
    for revision in &report.revisions {
        let pods = by_uid(&revision.pods);
        held.insert(revision.revision.clone(), RevisionReport { pods, ..revision.clone() });
    }
    held.retain(|_, report| {
        !report.pods.is_empty()
            || report.queued > 0
            || report.concurrency_mean > 0.0
            || report.requests_per_second > 0.0
            || report.is_cut
    });
}

fn by_uid(pods: &[PodReport]) -> Vec<PodReport> {
    let mut pods = pods.to_vec();
    pods.sort_unstable_by(|a, b| a.uid.cmp(&b.uid));
    pods
}

/// Both ends of a stream.
struct Ends {
    encoder: Encoder,
    decoder: Decoder,
}

impl Ends {
    fn new(activator: &str) -> Self {
        Self { encoder: Encoder::new(activator), decoder: Decoder::default() }
    }

    fn send(&mut self, report: &Report) -> Report {
        let lines = String::from_utf8(self.encoder.encode(report)).expect("lines are JSON");
        let mut whole = None;
        for line in lines.lines() {
            assert!(line.len() <= LINE_BYTES_MAX && whole.is_none());
            whole = self.decoder.decode(line).expect("an end understands the other");
        }
        assert_eq!(self.decoder.lines(), self.encoder.lines());
        whole.expect("the last line ends the report")
    }
}
