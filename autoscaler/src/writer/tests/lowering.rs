//! Marks of pods, and the lower scale after them.

use super::*;

#[tokio::test(start_paused = true)]
async fn pods_are_marked_before_the_scale_is_lowered() {
    let api = Api::default();
    let mut writer = DecisionWriter::new(api.client());
    writer.submit(write(1, &[("pod-a", Some(-1000))], true));
    let begin = Instant::now();
    assert_eq!(finish(&mut writer).await, 1);
    let requests = api.requests();
    assert_eq!((requests.len(), begin.elapsed() >= MARKS_SEEN_AFTER), (2, true));
    assert!(requests[0].starts_with("/api/v1/namespaces/models/pods/pod-a "));
    assert!(requests[0].contains(r#""controller.kubernetes.io/pod-deletion-cost":"-1000""#));
    assert!(requests[1].contains("/revisions/digits-00001/status "));
    assert!(requests[1].contains(&shown(1)));
}

#[tokio::test(start_paused = true)]
async fn a_raise_is_one_request_and_waits_for_no_marks() {
    let api = Api::default();
    let mut writer = DecisionWriter::new(api.client());
    writer.submit(write(2, &[("pod-a", None)], false));
    finish(&mut writer).await;
    let requests = api.requests();
    assert!(requests[0].contains(&shown(2)), "{requests:?}");
    assert!(requests[1].contains(r#""controller.kubernetes.io/pod-deletion-cost":null"#));
}

#[tokio::test(start_paused = true)]
async fn demand_that_returns_during_the_marking_replaces_the_lower_scale() {
    let api = Api::default();
    let mut writer = DecisionWriter::new(api.client());
    writer.submit(write(1, &[("pod-a", Some(-1000))], true));
    writer.submit(write(9, &[], false));
    assert_eq!(finish(&mut writer).await, 1);
    let requests = api.requests().join("\n");
    assert!(requests.contains(&shown(9)) && !requests.contains(&shown(1)), "{requests}");
}

/// Thousands of pods are marked a few at a time.
#[tokio::test(start_paused = true)]
async fn marks_are_written_in_parts() {
    let api = Api::default();
    let mut writer = DecisionWriter::new(api.client());
    let pods: Vec<_> = (0..40).map(|number| format!("pod-{number}")).collect();
    let marks: Vec<_> = pods.iter().map(|pod| (pod.as_str(), Some(-1000))).collect();
    for name in ["a", "b", "c", "d", "e", "f"] {
        let mut write = write(1, &marks, true);
        write.key.name = name.to_owned();
        writer.submit(write);
    }
    assert_eq!(writer.tasks.len(), 4);
    let attempt = writer.next().await.unwrap();
    assert_eq!(writer.settle(attempt), Outcome::Pending);
    assert_eq!(finish(&mut writer).await, 6);
    assert_eq!(api.requests().len(), 6 * 41);
}

/// A step down from 9 that failed once, and now waits for its next attempt.
async fn pending(api: &Api, down: Write) -> DecisionWriter {
    let mut writer = DecisionWriter::new(api.client());
    api.answers.lock().push_back(500);
    writer.submit(down);
    let attempt = writer.next().await.unwrap();
    assert_eq!(writer.settle(attempt), Outcome::Failed);
    api.requests();
    writer
}

/// The write that wakes from a zero which Kubernetes may not know yet.
fn woken() -> Write {
    Write { known: Some(0), urgency: Urgency::Wake, ..write(3, &[], false) }
}

/// Some of the pods are needed again, and the scale could not tell them from the others.
#[tokio::test(start_paused = true)]
async fn a_step_that_is_partly_taken_back_is_taken_back_wholly() {
    for (low, marks) in [(0, &[][..]), (1, &[("pod-a", Some(-1000)), ("pod-b", Some(-1000))])] {
        let api = Api::default();
        let mut writer = pending(&api, write(low, marks, true)).await;
        api.answers.lock().push_back(500);
        writer.submit(Write { known: Some(low), ..woken() });
        // Once more, after the first two have become one.
        writer.submit(Write { known: Some(3), ..write(5, &[], false) });
        finish(&mut writer).await;
        let requests = api.requests();
        let scales: Vec<_> = requests.iter().filter(|line| line.contains("Replicas")).collect();
        assert_eq!(scales.len(), requests.len(), "no mark is needed: {requests:?}");
        assert!(!scales.is_empty() && scales.iter().all(|line| line.contains(&shown(9))));
    }
}

/// No pod serves, and a request waits.
#[tokio::test(start_paused = true)]
async fn a_wake_is_as_urgent_while_the_step_to_zero_is_pending() {
    let api = Api::default();
    let mut writer = pending(&api, write(0, &[], true)).await;
    // The budget that is kept for wakes is all that is left.
    for number in 0..UNDER_WAY_MAX {
        writer.submit(write_of(&number.to_string(), Urgency::Lower));
    }
    writer.submit(woken());
    let slot = &writer.slots[&RevisionKey::new("models", "digits-00001")];
    assert!(slot.attempt.is_some(), "it neither rests nor waits: {slot:?}");
}

/// A step down after one that was taken back takes the pods of both, and marks them all.
#[tokio::test(start_paused = true)]
async fn the_next_step_starts_from_the_known_scale() {
    let api = Api::default();
    let mut writer = pending(&api, write(0, &[], true)).await;
    api.answers.lock().push_back(500);
    writer.submit(woken());
    let attempt = writer.next().await.unwrap();
    assert_eq!(writer.settle(attempt), Outcome::Failed);
    api.requests();
    let marks = [("pod-a", Some(-1000)), ("pod-b", Some(-1000))];
    writer.submit(Write { known: Some(3), ..write(2, &marks, true) });
    finish(&mut writer).await;
    let requests = api.requests();
    assert_eq!(requests.len(), 3, "{requests:?}");
    assert!(requests[..2].iter().all(|line| line.contains("/pods/pod-")), "{requests:?}");
    assert!(requests[2].contains(r#"Replicas","value":9"#), "{requests:?}");
    assert!(requests[2].contains(&shown(2)), "{requests:?}");
}

/// Pods that end one after another, each before the marks of the one before have been seen.
#[tokio::test(start_paused = true)]
async fn a_lower_scale_is_not_put_off_by_the_next_one() {
    let api = Api::default();
    let mut writer = DecisionWriter::new(api.client());
    let begin = Instant::now();
    let (mut first, mut next) = (None, 9);
    while first.is_none() && next > 0 {
        let known = Some(next);
        next -= 1;
        let pod = format!("pod-{next}");
        writer.submit(Write { known, ..write(next, &[(&pod, Some(-1000))], true) });
        let until = begin + Duration::from_millis(300) * (9 - next);
        while let Ok(Some(attempt)) = tokio::time::timeout_at(until, writer.next()).await {
            writer.settle(attempt);
        }
        tokio::time::sleep_until(until).await;
        let is_shown = |line: &String| line.contains("/status/desiredReplicas");
        first = api.requests().iter().any(is_shown).then(|| begin.elapsed());
    }
    assert!(first.is_some_and(|first| first < 2 * MARKS_SEEN_AFTER), "{first:?}");
    writer.submit(Write { known: Some(next), ..write(next - 1, &[("last", Some(-1000))], true) });
    finish(&mut writer).await;
    let requests = api.requests();
    assert!(requests.last().unwrap().contains(&shown(next - 1)), "{requests:?}");
}
