//! Objects made to break things: the answer is an error, soon and short.

use k8s_openapi::api::core::v1::Container;

use super::*;

/// Longest answer that a client should get, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

#[test]
fn an_enormous_annotation_is_not_echoed() {
    let huge = "9".repeat(300 * 1024);
    for key in [
        "autoscaling.knative.dev/target",
        "autoscaling.knative.dev/min-scale",
        "autoscaling.knative.dev/window",
        "autoscaling.knative.dev/class",
        "autoscaling.knative.dev/metric",
        "serving.knative.dev/progress-deadline",
    ] {
        let mut service = with_annotations("{}");
        let metadata = service.spec.template.metadata.get_or_insert_default();
        metadata.annotations = Some(BTreeMap::from([(key.to_owned(), huge.clone())]));
        let text = created(&service, &Config::default()).to_string();
        assert!(text.contains("Too long: may not be more than 262144 bytes"), "{key}: {text}");
        assert!(text.len() < 4096, "{key}: {} bytes", text.len());
    }
}

#[test]
fn a_thousand_containers_get_one_short_answer() {
    let mut service = with_spec("{containers: []}");
    let broken = Container {
        image: Some("Not An Image".repeat(100)),
        name: "same".into(),
        ..Container::default()
    };
    service.spec.template.spec.pod.containers = vec![broken; 1000];
    let text = created(&service, &Config::default()).to_string();
    assert!(text.contains("missing field(s): spec.template.spec.containers[*].ports"));
    assert!(text.contains("duplicate container name \"same\""));
    assert!(text.len() < ANSWER_BYTES_MAX, "{} bytes", text.len());
}

#[test]
fn unnamed_containers_get_names_of_their_own_however_many_there_are() {
    let mut service = with_spec("{containers: []}");
    let unnamed = Container { image: Some("busybox".into()), ..Container::default() };
    service.spec.template.spec.pod.containers = vec![unnamed; 1000];
    let text = created(&service, &Config::default()).to_string();
    assert_eq!(text, "missing field(s): spec.template.spec.containers[*].ports");
}

#[test]
fn a_long_list_of_targets_gets_one_short_answer() {
    let mut service = with_annotations("{}");
    service.spec.traffic = (0..10_000)
        .map(|index| crate::serving::TrafficTarget {
            tag: Some(format!("T{index}")),
            percent: Some(i64::MIN),
            configuration_name: Some("c".repeat(300)),
            url: Some("u".into()),
            ..crate::serving::TrafficTarget::default()
        })
        .collect();
    let text = created(&service, &Config::default()).to_string();
    assert!(text.contains("Traffic targets sum to -9223372036854775808, want 100"));
    assert!(text.len() < ANSWER_BYTES_MAX, "{} bytes", text.len());
}

#[test]
fn text_that_is_not_ascii_is_cut_between_characters() {
    let mut service = with_annotations("{}");
    service.metadata.name = Some("é".repeat(253));
    let target = crate::serving::TrafficTarget {
        revision_name: Some("ü".repeat(5000)),
        percent: Some(100),
        ..crate::serving::TrafficTarget::default()
    };
    service.spec.traffic = vec![target];
    let text = created(&service, &Config::default()).to_string();
    assert!(text.contains("... (10000 bytes)"), "{text}");
}
