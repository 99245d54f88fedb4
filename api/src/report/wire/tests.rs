//! Both ends of a stream, and the lines that an end must refuse.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::report::{PodReport, Report, RevisionKey, RevisionReport};

fn uid(pod: usize) -> Arc<str> {
    format!("0c5e8a44-7d0f-4c1e-9d0b-{pod:012}").into()
}

fn pod(number: usize) -> PodReport {
    PodReport { uid: uid(number), in_flight: 0, draining: false }
}

fn idle(number: usize, pods: usize) -> RevisionReport {
    RevisionReport {
        revision: RevisionKey::new("team-of-models", format!("digits-{number:05}-00001")),
        interval_s: 1.0,
        pods: (0..pods).map(|index| pod(number * pods + index)).collect(),
        ..RevisionReport::default()
    }
}

fn report(scope: Scope, revisions: Vec<RevisionReport>) -> Report {
    Report { activator: "activator-0".to_owned(), scope, revisions }
}

struct Stream {
    encoder: Encoder,
    decoder: Decoder,
    bytes: usize,
}

impl Stream {
    fn new() -> Self {
        Self { encoder: Encoder::new("activator-0"), decoder: Decoder::default(), bytes: 0 }
    }

    fn send(&mut self, report: &Report) -> Report {
        let lines = String::from_utf8(self.encoder.encode(report)).unwrap();
        self.bytes += lines.len();
        let mut whole = None;
        for line in lines.lines() {
            assert!(line.len() <= LINE_BYTES_MAX && whole.is_none(), "{}", line.len());
            whole = self.decoder.decode(line).unwrap();
        }
        assert_eq!(self.decoder.lines(), self.encoder.lines());
        whole.unwrap()
    }
}

#[test]
fn what_is_said_arrives_and_what_is_known_is_left_out() {
    let mut stream = Stream::new();
    let full = report(Scope::Full, vec![idle(0, 2), idle(1, 0), idle(2, 1)]);
    assert_eq!(stream.send(&full), full);
    assert_eq!(stream.send(&full), report(Scope::Changes, Vec::new()));
    let mut busy = idle(0, 2);
    busy.concurrency_mean = 1.5;
    busy.requests_per_second = 0.25;
    busy.queued = 7;
    busy.obeyed = OrderId { epoch: 3, number: 9 };
    busy.pods[1] = PodReport { in_flight: 2, draining: true, ..busy.pods[1].clone() };
    let changed = report(Scope::Full, vec![busy.clone(), idle(1, 0), idle(2, 1)]);
    assert_eq!(stream.send(&changed), report(Scope::Changes, vec![busy.clone()]));
    // A revision with load is named again although nothing is new; the end of its load is told
    // once.
    assert_eq!(stream.send(&changed).revisions, [busy.clone()]);
    let over = RevisionReport { obeyed: busy.obeyed, ..idle(0, 2) };
    let quiet = report(Scope::Full, vec![over.clone(), idle(1, 0), idle(2, 1)]);
    assert_eq!(stream.send(&quiet).revisions, [over]);
    assert_eq!(stream.send(&quiet).revisions, []);
    // A revision that is not named any more is reported once, without pods.
    let fewer = report(Scope::Full, vec![quiet.revisions[0].clone(), idle(1, 0)]);
    assert_eq!(stream.send(&fewer).revisions, [RevisionReport { pods: Vec::new(), ..idle(2, 0) }]);
    assert_eq!(stream.send(&quiet).revisions, [idle(2, 1)]);
}

#[test]
fn after_a_moment_the_next_interval_says_how_it_is_now() {
    let mut stream = Stream::new();
    let full = report(Scope::Full, vec![idle(0, 1)]);
    stream.send(&full);
    let now = RevisionReport { queued: 1, interval_s: 0.0, ..idle(0, 1) };
    let moment = report(Scope::Moment, vec![now]);
    assert_eq!(stream.send(&moment), moment);
    assert_eq!(stream.send(&full).revisions, full.revisions);
    assert_eq!(stream.send(&full).revisions, []);
}

/// The bound: 60 bytes for each revision and report, where 10,000 revisions of ten pods each idle.
#[test]
fn an_idle_revision_costs_next_to_nothing() {
    let mut stream = Stream::new();
    let revisions: Vec<_> = (0..10_000).map(|number| idle(number, 10)).collect();
    let full = report(Scope::Full, revisions);
    let reports = 60;
    assert_eq!(stream.send(&full).revisions, full.revisions);
    let first = stream.bytes;
    for _ in 1..reports {
        stream.send(&full);
    }
    let mean = stream.bytes / reports / full.revisions.len();
    println!("{first} bytes at first, {mean} a revision and report over {reports} reports");
    assert!(mean <= 60, "{mean}");
    assert!(stream.bytes - first <= 100 * reports, "an idle report is one short line");
    // And with one request in flight in each pod of each revision.
    let mut busy = full.clone();
    for revision in &mut busy.revisions {
        revision.concurrency_mean = 9.876_543_21;
        revision.pods.iter_mut().for_each(|pod| pod.in_flight = 1);
    }
    let before = stream.bytes;
    stream.send(&busy);
    let each = (stream.bytes - before) / busy.revisions.len();
    println!("{each} bytes of each busy revision");
    assert!(each <= 120, "{each}");
}

#[test]
fn entries_beyond_the_bounds_are_left_out_and_reported() {
    let mut stream = Stream::new();
    let many = report(Scope::Full, vec![idle(0, PODS_MAX + 1)]);
    let heard = stream.send(&many);
    assert_eq!((heard.revisions[0].pods.len(), heard.revisions[0].is_cut), (PODS_MAX, true));
    let all: Vec<_> = (0..=REVISIONS_MAX).map(|number| idle(number, 0)).collect();
    let mut stream = Stream::new();
    assert_eq!(stream.send(&report(Scope::Full, all)).revisions.len(), REVISIONS_MAX);
    assert_eq!(stream.encoder.left_out(), 1);
}

#[test]
fn a_line_that_is_lost_or_comes_twice_ends_the_stream() {
    let mut encoder = Encoder::new("activator-0");
    let lines: Vec<_> = (0..3)
        .map(|queued| {
            let one = RevisionReport { queued, ..idle(0, 1) };
            String::from_utf8(encoder.encode(&report(Scope::Full, vec![one]))).unwrap()
        })
        .collect();
    for order in [[0, 2], [0, 0], [1, 2]] {
        let mut decoder = Decoder::default();
        let outcome = order.map(|index| decoder.decode(&lines[index]));
        assert!(outcome.iter().any(Result::is_err), "{order:?}");
    }
}

/// An invalid line from the network is refused with an error, and costs no more than its bytes.
#[test]
fn nonsense_is_refused() {
    let long = "x".repeat(254);
    let first = r#"{"n":1,"activator":"a","scope":"full","interval":1,"known":1,"revisions":["#;
    let named = format!(r#"{first}{{"i":0,"key":["n","r"],"add":["u"]}}]}}"#);
    assert!(Decoder::default().decode(&named).unwrap().is_some());
    for text in [
        String::new(),
        "[]".to_owned(),
        "{}".to_owned(),
        r#"{"n":1,"scope":"full","known":0}"#.to_owned(),
        r#"{"n":1,"activator":"","scope":"full","known":0}"#.to_owned(),
        format!(r#"{{"n":1,"activator":"{long}","scope":"full","known":0}}"#),
        r#"{"n":1,"activator":"a","scope":"all","known":0}"#.to_owned(),
        r#"{"n":1,"activator":"a","interval":-1,"known":0}"#.to_owned(),
        r#"{"n":1,"activator":"a","interval":1e9,"known":0}"#.to_owned(),
        r#"{"n":1,"activator":"a","interval":1e999,"known":0}"#.to_owned(),
        r#"{"n":1,"activator":"a","known":1}"#.to_owned(),
        r#"{"n":1,"activator":"a","known":0,"gone":[0]}"#.to_owned(),
        format!(r#"{first}{{"i":0}}]}}"#),
        format!(r#"{first}{{"i":-1,"key":["n","r"]}}]}}"#),
        format!(r#"{first}{{"i":20000,"key":["n","r"]}}]}}"#),
        format!(r#"{first}{{"i":4294967295,"key":["n","r"]}}]}}"#),
        format!(r#"{first}{{"i":0,"key":["n",""]}}]}}"#),
        format!(r#"{first}{{"i":0,"key":["{long}","r"]}}]}}"#),
        format!(r#"{first}{{"i":0,"key":["n","{long}"]}}]}}"#),
        format!(r#"{first}{{"i":0,"key":["n","r"],"c":-0.1}}]}}"#),
        format!(r#"{first}{{"i":0,"key":["n","r"],"c":NaN}}]}}"#),
        format!(r#"{first}{{"i":0,"key":["n","r"],"r":-1e-9}}]}}"#),
        format!(r#"{first}{{"i":0,"key":["n","r"],"r":1e400}}]}}"#),
        format!(r#"{first}{{"i":0,"key":["n","r"],"q":-1}}]}}"#),
        format!(r#"{first}{{"i":0,"key":["n","r"],"q":4294967296}}]}}"#),
        format!(r#"{first}{{"i":0,"key":["n","r"],"add":["{long}"]}}]}}"#),
        format!(r#"{first}{{"i":0,"key":["n","r"],"cut":[0]}}]}}"#),
        format!(r#"{first}{{"i":0,"key":["n","r"],"busy":[[0,1]]}}]}}"#),
        format!(r#"{first}{{"i":0,"key":["n","r"],"drain":[3]}}]}}"#),
        format!(r#"{first}{{"i":0,"key":["n","r"]}},{{"i":0}}]}}"#),
        format!(r#"{first}{{"i":0,"key":["n","r"]}},{{"i":0,"key":["n","r"]}}]}}"#),
    ] {
        assert!(Decoder::default().decode(&text).is_err(), "{text}");
    }
}

/// A report holds no more pods than a stream has numbers for, however many lines it has.
#[test]
fn a_number_is_not_given_twice_in_a_report() {
    let begin =
        r#"{"n":1,"activator":"a","more":true,"known":1,"revisions":[{"i":0,"key":["n","r"]}]}"#;
    let mut decoder = Decoder::default();
    assert_eq!(decoder.decode(begin), Ok(None));
    let freed = decoder.decode(r#"{"n":2,"more":true,"gone":[0],"known":0}"#);
    assert_eq!(freed, Err(WireError::Senseless { line: 2, field: "gone" }));
}

#[test]
fn an_answer_is_bounded_too() {
    let order = DrainOrder {
        revision: RevisionKey::new("models", "digits-00001"),
        id: OrderId { epoch: 4, number: 17 },
        pods: vec!["a".to_owned(), "b".to_owned()],
        called: Some("c".to_owned()),
    };
    let answer = Answer { ack: Some(3), order: Some(order.clone()) };
    let line = String::from_utf8(answer.encode()).unwrap();
    assert_eq!(Answer::decode(line.trim_end()), Ok(answer));
    assert_eq!(Answer::decode("{}"), Ok(Answer::default()));
    // As autoscalers wrote it before there was a pod to call.
    let before = line.replace(r#","called":"c""#, "");
    assert_ne!(before, line);
    assert_eq!(Answer::decode(before.trim_end()).unwrap().order.unwrap().called, None);
    for bad in [
        DrainOrder { pods: vec!["a".to_owned(); PODS_MAX + 1], ..order.clone() },
        DrainOrder { pods: vec![String::new()], ..order.clone() },
        DrainOrder { called: Some(String::new()), ..order.clone() },
        DrainOrder { pods: vec!["x".repeat(64)], ..order.clone() },
        DrainOrder { revision: RevisionKey::new("", "r"), ..order.clone() },
        DrainOrder { revision: RevisionKey::new("n", "x".repeat(254)), ..order },
    ] {
        let line = Answer { ack: None, order: Some(bad) }.encode();
        assert!(Answer::decode(std::str::from_utf8(&line).unwrap().trim_end()).is_err());
    }
}

/// What an autoscaler holds after these reports.
fn apply(held: &mut BTreeMap<RevisionKey, RevisionReport>, report: &Report) {
    if report.scope == Scope::Full {
        held.clear();
    }
    for revision in &report.revisions {
        held.insert(revision.revision.clone(), revision.clone());
    }
    let says_nothing = |report: &RevisionReport| {
        report.pods.is_empty() && report.queued == 0 && report.concurrency_mean <= 0.0
    };
    held.retain(|_, report| !says_nothing(report));
}

fn any_revision() -> impl Strategy<Value = RevisionReport> {
    let pods = prop::collection::btree_map(0..6_usize, (0..3_u32, any::<bool>()), 0..5);
    // Loads in whole parts, so that rounding changes none.
    (0..4_usize, 0..3_u32, 0..3_u32, 0..2_u64, pods).prop_map(
        |(number, load, queued, order, pods)| RevisionReport {
            concurrency_mean: f64::from(load) / 4.0,
            queued,
            obeyed: OrderId { epoch: order, number: order },
            pods: pods
                .into_iter()
                .map(|(pod, (in_flight, draining))| PodReport {
                    uid: uid(pod),
                    in_flight,
                    draining,
                })
                .collect(),
            ..idle(number, 0)
        },
    )
}

proptest! {
    /// Whatever is left out, both ends believe the same after each report of an interval.
    #[test]
    fn the_other_end_knows_what_was_said(
        reports in prop::collection::vec(
            (prop::collection::vec(any_revision(), 0..5), any::<bool>()),
            1..20,
        ),
    ) {
        let mut stream = Stream::new();
        let (mut meant, mut heard) = (BTreeMap::new(), BTreeMap::new());
        for (revisions, is_moment) in reports {
            let mut once = BTreeMap::new();
            for mut revision in revisions {
                revision.interval_s = if is_moment { 0.0 } else { 1.0 };
                // Whether pods drain follows from the order that is obeyed and from nothing else.
                let is_ordered = revision.obeyed.number > 0;
                revision.pods.iter_mut().for_each(|pod| pod.draining = is_ordered);
                once.insert(revision.revision.clone(), revision);
            }
            let scope = if is_moment { Scope::Moment } else { Scope::Full };
            let said = report(scope, once.into_values().collect());
            apply(&mut meant, &said);
            let got = stream.send(&said);
            apply(&mut heard, &got);
            if !is_moment {
                let sorted = |held: &BTreeMap<_, RevisionReport>| {
                    held.values()
                        .map(|one| {
                            let mut pods = one.pods.clone();
                            pods.sort_unstable_by(|a, b| a.uid.cmp(&b.uid));
                            RevisionReport { pods, ..one.clone() }
                        })
                        .collect::<Vec<_>>()
                };
                prop_assert_eq!(sorted(&heard), sorted(&meant));
            }
        }
    }
}
