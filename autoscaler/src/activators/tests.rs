//! Which activators count, and when all of them are heard.

use super::*;

struct Scene {
    activators: Activators,
    start: Instant,
}

fn scene(pods: &[(&str, ReporterPod)]) -> Scene {
    let mut scene = Scene { activators: Activators::default(), start: Instant::now() };
    scene.pods(pods, 0);
    scene
}

impl Scene {
    fn at(&self, second: u64) -> Instant {
        self.start + Duration::from_secs(second)
    }

    fn pods(&mut self, pods: &[(&str, ReporterPod)], second: u64) {
        let now = self.at(second);
        let pods = pods.iter().map(|(name, state)| ((*name).to_owned(), *state)).collect();
        assert_eq!(self.activators.follow(&pods, now), 0);
    }

    /// A full report of each, every second of the range.
    fn heard(&mut self, names: &[&str], seconds: std::ops::RangeInclusive<u64>) {
        for second in seconds {
            for name in names {
                self.activators.heard(name, Scope::Full, self.at(second)).unwrap();
            }
        }
    }

    fn complete(&self, second: u64) -> Option<u64> {
        self.activators.complete_age(self.at(second)).map(|age| age.as_secs())
    }

    fn counting(&self, second: u64) -> usize {
        self.activators.iter(self.at(second)).count()
    }
}

/// One of two activators that serves and is not heard keeps the picture incomplete for as long as
/// its container runs, however long that is.
#[test]
fn a_part_of_the_activators_is_never_all_of_them() {
    let mut scene = scene(&[("a", ReporterPod::Running), ("b", ReporterPod::Running)]);
    scene.heard(&["a", "b"], 1..=10);
    assert_eq!(scene.complete(10), Some(9));
    scene.heard(&["a"], 11..=900);
    assert_eq!((scene.complete(900), scene.counting(900)), (None, 2));
    let silent = vec![("b".to_owned(), Duration::from_secs(890))];
    assert_eq!(scene.activators.unheard(scene.at(900)), Some(Unheard::Activators(silent)));
    scene.heard(&["a", "b"], 901..=904);
    assert_eq!((scene.complete(904), scene.activators.unheard(scene.at(904))), (Some(3), None));
}

/// After a start, and after all were silent, the first activator that is heard is not all of them.
#[test]
fn an_activator_that_was_never_heard_is_waited_for() {
    let mut scene = scene(&[("a", ReporterPod::Running), ("b", ReporterPod::Running)]);
    assert_eq!(scene.complete(0), None);
    scene.heard(&["a"], 1..=100);
    assert_eq!(scene.complete(100), None);
    scene.heard(&["a", "b"], 101..=102);
    assert_eq!(scene.complete(102), Some(1));
    scene.heard(&["b"], 600..=602);
    assert_eq!(scene.complete(602), None);
}

/// Without a list of the pods it is not known which activators are missing.
#[test]
fn before_the_pods_are_listed_nothing_is_complete() {
    let mut scene = Scene { activators: Activators::default(), start: Instant::now() };
    scene.heard(&["a"], 1..=100);
    assert_eq!(scene.complete(100), None);
    assert_eq!(scene.activators.unheard(scene.at(100)), Some(Unheard::Pods));
    scene.pods(&[("a", ReporterPod::Running)], 100);
    assert_eq!(scene.complete(100), Some(0));
}

#[test]
fn a_break_between_two_reports_is_noticed_although_nobody_looked() {
    let mut scene = scene(&[("a", ReporterPod::Running)]);
    scene.heard(&["a"], 1..=10);
    scene.heard(&["a"], 16..=17);
    assert_eq!(scene.complete(17), Some(1));
}

/// A report of changes says nothing without the state that they changed.
#[test]
fn news_is_no_full_report() {
    let mut scene = scene(&[("a", ReporterPod::Running)]);
    for scope in [Scope::Moment, Scope::Changes] {
        scene.activators.heard("a", scope, scene.at(1)).unwrap();
        assert_eq!(scene.complete(1), None, "{scope:?}");
    }
    assert!(scene.activators.is_any_heard(scene.at(6)));
    assert!(!scene.activators.is_any_heard(scene.at(7)));
}

#[test]
fn one_that_is_being_deleted_counts_for_its_grace_period_and_not_after_it_is_gone() {
    let mut scene = scene(&[("a", ReporterPod::Running), ("b", ReporterPod::Running)]);
    scene.heard(&["a", "b"], 1..=10);
    let going = ReporterPod::Terminating(Duration::from_mins(5));
    scene.pods(&[("a", ReporterPod::Running), ("b", going)], 10);
    scene.heard(&["a"], 11..=200);
    // The same deletion is told again: the time it has left does not begin anew.
    scene.pods(&[("a", ReporterPod::Running), ("b", going)], 200);
    assert_eq!(scene.complete(200), None);
    scene.heard(&["a"], 201..=309);
    assert_eq!((scene.complete(309), scene.counting(309)), (None, 2));
    scene.heard(&["a"], 310..=320);
    assert_eq!((scene.complete(320), scene.counting(320)), (Some(10), 1));
    scene.pods(&[("a", ReporterPod::Running)], 320);
    assert_eq!(scene.counting(320), 1);
}

#[test]
fn one_whose_pod_is_gone_is_not_waited_for() {
    let mut scene = scene(&[("a", ReporterPod::Running), ("b", ReporterPod::Running)]);
    scene.heard(&["a", "b"], 1..=10);
    scene.pods(&[("a", ReporterPod::Running)], 11);
    scene.heard(&["a"], 11..=20);
    assert_eq!((scene.complete(20), scene.counting(20)), (Some(19), 1));
}

#[test]
fn one_that_no_pod_vouches_for_counts_for_the_named_time_only() {
    let mut scene = scene(&[("a", ReporterPod::Stopped)]);
    assert_eq!(scene.counting(0), 0);
    scene.heard(&["a", "by hand"], 1..=1);
    let gone = 1 + GONE_AFTER.as_secs();
    assert_eq!((scene.counting(gone), scene.complete(gone)), (2, None));
    assert!(scene.activators.forget_gone(scene.at(gone)).is_empty());
    assert_eq!(scene.activators.forget_gone(scene.at(gone + 1)), ["by hand"]);
    assert_eq!(scene.counting(gone + 1), 0);
}

#[test]
fn there_are_never_more_than_the_limit_and_pods_come_first() {
    let mut scene = scene(&[]);
    for number in 0..ACTIVATORS_MAX {
        scene.heard(&[&number.to_string()], 0..=0);
    }
    let now = scene.at(0);
    assert!(scene.activators.heard("one more", Scope::Full, now).is_none());
    assert!(scene.activators.heard("0", Scope::Full, now).is_some());
    let mut pods: BTreeMap<_, _> =
        (0..ACTIVATORS_MAX).map(|number| (format!("pod-{number}"), ReporterPod::Running)).collect();
    assert_eq!(scene.activators.follow(&pods, now), 0);
    assert!(scene.activators.heard("pod-0", Scope::Full, now).is_some());
    pods.insert("pod-x".to_owned(), ReporterPod::Running);
    assert_eq!(scene.activators.follow(&pods, now), 1);
    // Nothing is ever known of the activator that had no room.
    assert_eq!(scene.activators.unheard(now), Some(Unheard::Pods));
}

/// An activator that is not Ready any more still has its connections.
#[test]
fn one_whose_container_runs_is_waited_for_and_one_that_starts_again_and_again_is_not() {
    let mut scene = scene(&[("a", ReporterPod::Running), ("b", ReporterPod::Running)]);
    scene.heard(&["a", "b"], 1..=10);
    scene.heard(&["a"], 11..=100);
    assert_eq!((scene.complete(100), scene.counting(100)), (None, 2));
    // It crashes, and runs for a second every now and then, in which it says nothing.
    for second in [101, 160, 300] {
        scene.pods(&[("a", ReporterPod::Running), ("b", ReporterPod::Running)], second);
        assert_eq!(scene.complete(second), None);
        scene.pods(&[("a", ReporterPod::Running), ("b", ReporterPod::Stopped)], second + 1);
        scene.heard(&["a"], second + 1..=second + 50);
        assert_eq!((scene.complete(second + 50), scene.counting(second + 50)), (Some(49), 1));
    }
}
