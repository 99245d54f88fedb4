//! The autoscaler's core at the size of a large cluster: time of a tick, of a report, and memory.
//!
//! A tick here is one decision about each revision, with all metrics shown: what an autoscaler does
//! every two seconds, at instants spread over them. It runs in a process of its own, because the
//! memory of that process is one of the figures. Times are CPU time, not wall-clock time, so that
//! other programs on the machine do not matter.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ebb_api::config::Config;
use ebb_api::report::{PodReport, Report, RevisionKey, RevisionReport, Scope};
use ebb_api::{annotations, labels};
use ebb_autoscaler::activators::ReporterPod;
use ebb_autoscaler::measures::Gauges;
use ebb_autoscaler::pods::RevisionPod;
use ebb_autoscaler::scale_target::ScaleTarget;
use ebb_autoscaler::scaler::TICK;
use ebb_autoscaler::{Action, Fleet, FleetEvent};
use ebb_tests::processes;
use nix::time::ClockId;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use crate::figures::{Figure, Paired, median};

const REVISIONS: usize = 10_000;
const PODS: usize = 10;
const ACTIVATORS: usize = 5;
/// Load of each revision at each activator: 6.5 in all, for which a target of 0.7 asks for exactly
/// the existing pods.
const LOAD: f64 = 1.3;
/// Seconds of reports before anything is measured: then the windows are full.
const WARM_UP_S: u64 = 70;
/// A tenth of one core in the worst case, when all decisions fall together.
const TICK_GOAL_MS: f64 = 20.0;
/// Half of what the chart allows an autoscaler, which also decodes lists and reports.
const MEMORY_GOAL_MIB: f64 = 128.0;

/// The figures that the process prints.
#[derive(serde::Serialize, serde::Deserialize)]
struct Said {
    tick_ms: f64,
    report_ms: f64,
    memory_mib: f64,
    empty_mib: f64,
}

/// Runs the process and returns the figures that it prints.
pub(crate) async fn measure() -> anyhow::Result<Vec<Figure>> {
    let program = std::env::current_exe()?;
    let said = tokio::process::Command::new(program).arg("tick").output().await?;
    let said: Said = serde_json::from_slice(&said.stdout).context("no figures of the tick")?;
    let paired = |name, value, unit| Some(Paired { name, value, unit });
    Ok(vec![
        Figure {
            name: "autoscaler's tick, 10,000 revisions of 10 pods",
            value: said.tick_ms,
            unit: "ms",
            goal: Some(TICK_GOAL_MS),
            paired: paired("to take in one report", said.report_ms, "ms"),
        },
        Figure {
            name: "memory of its core for them, 5 activators",
            value: said.memory_mib,
            unit: "MiB",
            goal: Some(MEMORY_GOAL_MIB),
            paired: paired("without any", said.empty_mib, "MiB"),
        },
    ])
}

/// The process: measures `rounds` times and prints the medians as JSON.
pub(crate) fn run(rounds: usize) -> anyhow::Result<String> {
    let empty_mib = resident_mib();
    let mut autoscaler = Autoscaler::new();
    for _ in 0..WARM_UP_S {
        autoscaler.second();
    }
    let (mut ticks, mut reports) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        for _ in 0..TICK.as_secs() {
            reports.push(autoscaler.second());
        }
        ticks.push(autoscaler.tick());
    }
    let said = Said {
        tick_ms: median(&mut ticks),
        report_ms: median(&mut reports),
        memory_mib: resident_mib(),
        empty_mib,
    };
    Ok(serde_json::to_string(&said)?)
}

struct Autoscaler {
    fleet: Fleet,
    gauges: Gauges,
    now: Instant,
    decisions: usize,
}

impl Autoscaler {
    fn new() -> Self {
        let now = Instant::now();
        let fleet = Fleet::new(Arc::new(Config::default()), Duration::from_mins(10), now);
        let gauges = Gauges::register(&mut Registry::default());
        let mut autoscaler = Self { fleet, gauges, now, decisions: 0 };
        let activators = (0..ACTIVATORS).map(|index| (activator(index), ReporterPod::Running));
        autoscaler.step(FleetEvent::Activators(activators.collect()));
        autoscaler.step(FleetEvent::PodsListed(
            (0..REVISIONS)
                .flat_map(|index| (0..PODS).map(move |number| pod(index, number)))
                .collect(),
        ));
        autoscaler.step(FleetEvent::TargetsListed((0..REVISIONS).map(target).collect()));
        autoscaler
    }

    fn step(&mut self, event: FleetEvent) {
        for action in self.fleet.step(event, self.now) {
            if let Action::Measure(key, measures) = action {
                self.decisions += 1;
                self.gauges.show(&key, &measures, || self.fleet.labels(&key));
            }
        }
    }

    /// Lets a second pass, in which every activator reports and no tick comes. Returns the mean
    /// time for one report, in milliseconds.
    fn second(&mut self) -> f64 {
        self.now += Duration::from_secs(1);
        let mut took = 0.0;
        for index in 0..ACTIVATORS {
            // A report is made by another process and decoded before it comes here.
            let event = FleetEvent::Report(report(index));
            let begun = core_ms();
            self.step(event);
            took += core_ms() - begun;
        }
        took / f64::from(u32::try_from(ACTIVATORS).unwrap_or(u32::MAX))
    }

    /// Makes one decision about each revision. Returns the time that it took, in milliseconds.
    fn tick(&mut self) -> f64 {
        let before = self.decisions;
        let begun = core_ms();
        while self.fleet.deadline().is_some_and(|at| at <= self.now) {
            self.step(FleetEvent::Tick);
        }
        let took = core_ms() - begun;
        assert_eq!(self.decisions - before, REVISIONS, "every revision was looked at once");
        took
    }
}

fn key(index: usize) -> RevisionKey {
    RevisionKey::new(format!("team-{:02}", index % 50), format!("model-{index:05}-00001"))
}

fn activator(index: usize) -> String {
    format!("ebb-activator-7c9d8b6f5d-x{index:04}")
}

/// A UID as Kubernetes makes them.
fn uid(kind: usize, index: usize, number: usize) -> String {
    format!("{kind:08x}-{number:04x}-4000-8000-{index:012x}")
}

fn pod(index: usize, number: usize) -> (RevisionKey, RevisionPod) {
    let revision = key(index);
    let name = format!("{}-deployment-6d4b75cb6d-{number:05}", revision.name).into();
    let uid = uid(1, index, number).into();
    (revision, RevisionPod { uid, name, is_ready: true, ..RevisionPod::default() })
}

/// A Revision as the watch keeps it.
fn target(index: usize) -> ScaleTarget {
    let key = key(index);
    let service = key.name.trim_end_matches("-00001").to_owned();
    let labels: BTreeMap<_, _> =
        [(labels::SERVICE, service.clone()), (labels::CONFIGURATION, service)]
            .map(|(name, value)| (name.to_owned(), value))
            .into();
    let target = (annotations::TARGET.name().to_owned(), "1".to_owned());
    ScaleTarget {
        key: key.into(),
        uid: uid(4, index, 0),
        is_reachable: true,
        annotations: [target].into(),
        labels,
        is_initialized: true,
        desired: u32::try_from(PODS).ok(),
        ..ScaleTarget::default()
    }
}

/// One activator's report of all revisions: a load that asks for the existing pods.
fn report(activator_index: usize) -> Report {
    let revisions = (0..REVISIONS).map(|index| RevisionReport {
        revision: key(index),
        concurrency_mean: LOAD,
        requests_per_second: LOAD,
        interval_s: 1.0,
        pods: (0..PODS)
            .map(|number| PodReport {
                uid: uid(1, index, number).into(),
                in_flight: 1,
                draining: false,
            })
            .collect(),
        ..RevisionReport::default()
    });
    Report {
        activator: activator(activator_index),
        scope: Scope::Full,
        revisions: revisions.collect(),
    }
}

/// CPU time of this thread so far, in milliseconds.
fn core_ms() -> f64 {
    let clock = ClockId::CLOCK_THREAD_CPUTIME_ID;
    let took = clock.now().map_or(f64::NAN, |spent| Duration::from(spent).as_secs_f64());
    took * 1e3
}

#[allow(clippy::cast_precision_loss, reason = "bytes of one machine")]
fn resident_mib() -> f64 {
    let own = i32::try_from(std::process::id()).ok().and_then(processes::proportional_bytes);
    own.unwrap_or(0) as f64 / f64::from(1 << 20)
}
