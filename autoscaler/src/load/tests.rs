//! What reports add up to, and what silence means.

use std::collections::BTreeMap;
use std::time::Duration;

use ebb_api::config::Config;
use ebb_api::report::Scope;
use proptest::prelude::*;

use super::*;
use crate::activators::GONE_AFTER;

struct Scene {
    load: RevisionLoad,
    activators: Activators,
    spec: ScalingSpec,
    start: Instant,
}

impl Scene {
    fn new() -> Self {
        let spec = ScalingSpec::resolve(0, true, &BTreeMap::new(), &Config::default());
        Self {
            load: RevisionLoad::new(&spec),
            activators: Activators::default(),
            spec,
            start: Instant::now(),
        }
    }

    fn report(&mut self, name: &str, second: u64, report: RevisionReport) -> u64 {
        let now = self.start + Duration::from_secs(second);
        let scope = if is_full(&report) { Scope::Full } else { Scope::Moment };
        let heard = self.activators.heard(name, scope, now).unwrap();
        let moment = Moment { instant: now, second };
        self.load.record(heard, report, &self.activators, &Pods::default(), moment)
    }

    fn silent_on_it(&mut self, name: &str, second: u64) {
        let now = self.start + Duration::from_secs(second);
        self.activators.heard(name, Scope::Full, now).unwrap();
    }

    fn stable(&mut self, second: u64) -> Option<f64> {
        let now = self.start + Duration::from_secs(second);
        self.load.settle(&self.activators, now, second, true);
        Some(self.load.averages(&self.spec, second)?.stable)
    }
}

fn mean(concurrency_mean: f64) -> RevisionReport {
    RevisionReport { concurrency_mean, interval_s: 1.0, ..RevisionReport::default() }
}

fn waiting(queued: u32) -> RevisionReport {
    RevisionReport { queued, ..RevisionReport::default() }
}

#[test]
fn the_load_is_the_sum_over_activators() {
    let mut scene = Scene::new();
    scene.report("a", 1, mean(3.0));
    scene.report("b", 1, mean(4.0));
    assert_eq!(scene.stable(1), Some(7.0));
    // Only a has reported again: b's last report stands. (7 + 9) / 2
    scene.report("a", 2, mean(5.0));
    assert_eq!(scene.stable(2), Some(8.0));
}

#[test]
fn a_full_report_without_the_revision_takes_the_load_back() {
    let mut scene = Scene::new();
    scene.report("a", 1, mean(6.0));
    scene.silent_on_it("a", 2);
    // (6 + 0) / 2
    assert_eq!(scene.stable(2), Some(3.0));
    assert!(!scene.load.is_demanded());
}

#[test]
fn a_silent_activator_keeps_its_load_until_it_is_given_up() {
    let mut scene = Scene::new();
    scene.report("a", 0, mean(6.0));
    let gone = GONE_AFTER.as_secs() + 1;
    for second in 0..gone {
        scene.report("b", second, mean(0.0));
        assert_eq!(scene.stable(second), Some(6.0), "{second}");
    }
    scene.report("b", gone, mean(0.0));
    assert!(scene.stable(gone).unwrap() < 6.0);
}

#[test]
fn when_nobody_reports_there_is_no_average() {
    let mut scene = Scene::new();
    scene.report("a", 0, mean(6.0));
    assert_eq!(scene.stable(5), Some(6.0));
    assert_eq!(scene.stable(11), None);
}

#[test]
fn an_immediate_report_raises_and_never_lowers() {
    let mut scene = Scene::new();
    scene.report("a", 1, waiting(1));
    assert_eq!(scene.stable(1), Some(1.0));
    assert!(scene.load.is_queued());
    scene.report("a", 2, mean(9.0));
    scene.report("a", 2, waiting(2));
    // (1 + 9) / 2
    assert_eq!(scene.stable(2), Some(5.0));
}

#[test]
fn a_value_that_is_no_number_leaves_the_last_one_in_force() {
    let mut scene = Scene::new();
    scene.report("a", 1, mean(5.0));
    for bad in [f64::NAN, f64::INFINITY, -3.0] {
        assert_eq!(scene.report("a", 1, mean(bad)), 1, "{bad}");
        assert_eq!(scene.stable(1), Some(5.0), "{bad}");
    }
    assert_eq!(scene.report("a", 1, mean(1e300)), 1);
    assert_eq!(scene.stable(1), Some(LOAD_MAX));
}

#[test]
fn a_revision_at_zero_leaves_no_zeros_behind() {
    let mut scene = Scene::new();
    for second in 0..30 {
        scene.silent_on_it("a", second);
        let now = scene.start + Duration::from_secs(second);
        scene.load.settle(&scene.activators, now, second, false);
    }
    scene.report("a", 30, waiting(70));
    assert_eq!(scene.stable(30), Some(70.0));
}

proptest! {
    #[test]
    fn whatever_is_reported_the_averages_are_loads(
        reports in prop::collection::vec(
            (0u8..4, prop::num::f64::ANY, prop::num::f64::ANY, prop::num::f64::ANY, any::<u32>()),
            1..40,
        ),
    ) {
        let mut scene = Scene::new();
        for (second, report) in reports.iter().enumerate() {
            let (activator, concurrency, rps, interval, queued) = report;
            let report = RevisionReport {
                concurrency_mean: *concurrency,
                requests_per_second: *rps,
                interval_s: *interval,
                queued: *queued,
                ..RevisionReport::default()
            };
            let second = second as u64;
            scene.report(&activator.to_string(), second, report);
            let average = scene.stable(second).unwrap();
            prop_assert!((0.0..=4.0 * LOAD_MAX).contains(&average), "{average}");
        }
    }
}
