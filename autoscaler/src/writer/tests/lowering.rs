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
    writer.submit(write(2, &[], false));
    assert_eq!(finish(&mut writer).await, 1);
    let requests = api.requests().join("\n");
    assert!(requests.contains(&shown(2)) && !requests.contains(&shown(1)), "{requests}");
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

/// A scale that is higher than the last decision, and still lower than what Kubernetes knows.
#[tokio::test(start_paused = true)]
async fn a_smaller_step_down_waits_for_the_marks_as_the_larger_one_did() {
    let api = Api::default();
    let mut writer = DecisionWriter::new(api.client());
    api.answers.lock().push_back(500);
    writer.submit(write(1, &[("pod-a", Some(-1000)), ("pod-b", Some(-1000))], true));
    let attempt = writer.next().await.unwrap();
    assert_eq!(writer.settle(attempt), Outcome::Failed);
    api.requests();
    writer.submit(Write { known: Some(1), ..write(3, &[], false) });
    let begin = Instant::now();
    finish(&mut writer).await;
    let requests = api.requests();
    assert!(begin.elapsed() >= MARKS_SEEN_AFTER, "{:?}", begin.elapsed());
    assert_eq!(requests.len(), 3, "{requests:?}");
    assert!(requests[..2].iter().all(|line| line.contains("/pods/pod-")), "{requests:?}");
    assert!(requests[2].contains(&shown(3)), "{requests:?}");
    // A scale as high as the known one takes no pod away, and waits for nothing.
    writer.submit(write(1, &[("pod-a", Some(-1000))], true));
    writer.submit(Write { known: Some(1), ..write(9, &[], false) });
    finish(&mut writer).await;
    let requests = api.requests();
    let scale = requests.iter().position(|line| line.contains(&shown(9))).unwrap();
    assert!(scale <= 1, "{requests:?}");
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
