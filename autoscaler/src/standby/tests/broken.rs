//! Replicas that do not wake.

use super::*;

/// A case whose pod does not wake, while this much is wanted.
fn broken(want: u32) -> Case {
    let mut case = case().asleep();
    (case.is_wanted, case.want) = (true, want);
    case.follow();
    case.answer(StandbyOrder::Wake, false);
    case
}

#[test]
fn those_that_serve_stay_beside_one_that_does_not_wake() {
    let mut case = broken(3);
    case.current = 3;
    case.pods.insert(pod("b"));
    assert_eq!(case.follow(), (4, true, None), "it counts for nothing");
    case.current = 4;
    case.pods.insert(pod("c"));
    case.pods.insert(RevisionPod { is_ready: false, ..pod("d") });
    assert_eq!(case.follow(), (4, true, None), "Kubernetes would take the one that starts");
    case.pods.insert(pod("d"));
    assert_eq!(case.follow(), (3, false, None), "others serve, so that it goes");
    assert_eq!(case.goes().as_deref(), Some("a"));
    case.current = 3;
    assert_eq!(case.follow(), (3, true, None), "it gets nothing until it is gone");
    case.ask(false);
    assert_eq!(case.follow(), (0, false, None));
}

#[test]
fn one_that_does_not_wake_takes_no_replica_beyond_the_bounds() {
    let mut case = broken(3);
    (case.current, case.max) = (3, 3);
    case.pods.insert(pod("b"));
    case.pods.insert(RevisionPod { is_ready: false, ..pod("c") });
    assert_eq!(case.follow(), (3, true, None));
    case.pods.insert(pod("c"));
    assert_eq!(case.follow(), (2, false, None), "another one starts in its place");
    case.current = 2;
    assert_eq!(case.follow(), (2, true, None), "once it is gone");
    case.pods.remove("a");
    assert_eq!(case.follow(), (3, false, None));
}
