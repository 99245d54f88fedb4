//! Annotations of a template and of a Service.

use super::*;

/// Prefix of the paths of template annotations.
const AT: &str = "spec.template.metadata.annotations.autoscaling.knative.dev";

fn check(table: &[(&str, String)]) {
    let table: Vec<_> = table.iter().map(|(a, want)| (*a, want.as_str())).collect();
    check_annotations(&Config::default(), &table);
}

#[test]
fn annotations_within_their_bounds_are_accepted() {
    for good in [
        "{}",
        "{autoscaling.knative.dev/min-scale: '1', autoscaling.knative.dev/max-scale: '3'}",
        "{autoscaling.knative.dev/minScale: '-0', autoscaling.knative.dev/maxScale: '0'}",
        "{autoscaling.knative.dev/class: foo.example.com, autoscaling.knative.dev/metric: x}",
        "{autoscaling.knative.dev/class: hpa.autoscaling.knative.dev, \
          autoscaling.knative.dev/metric: memory}",
        "{autoscaling.knative.dev/metric: rps, autoscaling.knative.dev/target: '0.01'}",
        "{autoscaling.knative.dev/target-burst-capacity: '-1'}",
        "{autoscaling.knative.dev/window: 6s, autoscaling.knative.dev/scale-down-delay: 1h}",
        "{autoscaling.knative.dev/scale-to-zero-pod-retention-period: 1m1.5s}",
        "{autoscaling.knative.dev/activation-scale: '2'}",
        "{autoscaling.knative.dev/metric-aggregation-algorithm: anything}",
        "{serving.knative.dev/progress-deadline: 20m, networking.knative.dev/disableAutoTLS: t}",
        "{queue.sidecar.serving.knative.dev/cpu-resource-limit: 1500m}",
        "{example.com/anything: goes}",
    ] {
        check_annotations(&Config::default(), &[(good, "")]);
    }
}

#[test]
fn scales_are_counts_that_fit_together() {
    check(&[
        (
            "{autoscaling.knative.dev/min-scale: '-1'}",
            format!("expected 0 <= -1 <= 2147483647: {AT}/min-scale"),
        ),
        (
            "{autoscaling.knative.dev/maxScale: '3000000000'}",
            format!("expected 0 <= 3000000000 <= 2147483647: {AT}/maxScale"),
        ),
        ("{autoscaling.knative.dev/min-scale: few}", format!("invalid value: few: {AT}/min-scale")),
        (
            "{autoscaling.knative.dev/min-scale: '5', autoscaling.knative.dev/max-scale: '2'}",
            format!("max-scale=2 is less than min-scale=5: {AT}/max-scale, {AT}/min-scale"),
        ),
        (
            "{autoscaling.knative.dev/activation-scale: '1'}",
            format!("activation-scale=1 must be greater than 1: {AT}/activation-scale"),
        ),
        (
            "{autoscaling.knative.dev/activation-scale: '2', autoscaling.knative.dev/minScale: '3'}",
            format!("min-scale=3 is greater than activation-scale=2: {AT}/activation-scale"),
        ),
        (
            "{autoscaling.knative.dev/activation-scale: '4', autoscaling.knative.dev/maxScale: '3'}",
            format!("max-scale=3 is less than activation-scale=4: {AT}/activation-scale"),
        ),
        (
            "{autoscaling.knative.dev/initial-scale: '0'}",
            format!("invalid value: 0: {AT}/initial-scale=0 not allowed by cluster"),
        ),
        (
            "{autoscaling.knative.dev/initial-scale: '-1'}",
            format!("invalid value: -1: {AT}/initial-scale must be greater than 0"),
        ),
    ]);
}

#[test]
fn a_max_scale_keeps_to_the_limit_of_the_cluster() {
    let mut config = Config::default();
    config.autoscaler.max_scale_limit = 10;
    config.autoscaler.allow_zero_initial_scale = true;
    check_annotations(
        &config,
        &[
            ("{autoscaling.knative.dev/initial-scale: '0'}", ""),
            (
                "{autoscaling.knative.dev/max-scale: '11'}",
                &format!("expected 1 <= 11 <= 10: {AT}/max-scale"),
            ),
            (
                "{autoscaling.knative.dev/max-scale: '0'}",
                &format!("max-scale=0 (unlimited), must be less than 10: {AT}/max-scale"),
            ),
        ],
    );
}

#[test]
fn numbers_must_be_numbers_that_can_be_computed_with() {
    check(&[
        ("{autoscaling.knative.dev/target: NaN}", format!("invalid value: NaN: {AT}/target")),
        ("{autoscaling.knative.dev/target: '1e309'}", format!("invalid value: 1e309: {AT}/target")),
        (
            "{autoscaling.knative.dev/target: '-0'}",
            format!("target -0 should be at least 0.01: {AT}/target"),
        ),
        (
            "{autoscaling.knative.dev/targetUtilizationPercentage: '101'}",
            format!("expected 1 <= 101 <= 100: {AT}/targetUtilizationPercentage"),
        ),
        (
            "{autoscaling.knative.dev/panic-window-percentage: '0.5'}",
            format!("expected 1 <= 0.5 <= 100: {AT}/panic-window-percentage"),
        ),
        (
            "{autoscaling.knative.dev/panic-threshold-percentage: '100'}",
            format!("expected 110 <= 100 <= 1000: {AT}/panic-threshold-percentage"),
        ),
        (
            "{autoscaling.knative.dev/target-burst-capacity: '-2'}",
            format!("invalid value: -2: {AT}/target-burst-capacity"),
        ),
    ]);
}

#[test]
fn durations_have_bounds_and_whole_seconds() {
    check(&[
        (
            "{autoscaling.knative.dev/window: 5s}",
            format!("expected 6s <= 5s <= 1h0m0s: {AT}/window"),
        ),
        ("{autoscaling.knative.dev/window: '10'}", format!("invalid value: 10: {AT}/window")),
        (
            "{autoscaling.knative.dev/window: 6500ms}",
            format!("must be specified with at most second precision: {AT}/window"),
        ),
        (
            "{autoscaling.knative.dev/scale-down-delay: -1s}",
            format!("expected 0s <= -1s <= 1h0m0s: {AT}/scale-down-delay"),
        ),
        (
            "{autoscaling.knative.dev/scaleToZeroPodRetentionPeriod: 61m}",
            format!("expected 0s <= 61m <= 1h0m0s: {AT}/scaleToZeroPodRetentionPeriod"),
        ),
        (
            "{serving.knative.dev/progress-deadline: soon}",
            "invalid value: soon: \
             spec.template.metadata.annotations.serving.knative.dev/progress-deadline"
                .to_owned(),
        ),
        (
            "{serving.knative.dev/progress-deadline: 1500ms}",
            "progress-deadline=1500ms is not at second precision: \
             spec.template.metadata.annotations.serving.knative.dev/progress-deadline"
                .to_owned(),
        ),
        (
            "{serving.knative.dev/progress-deadline: -1s}",
            "progress-deadline=-1s must be positive: \
             spec.template.metadata.annotations.serving.knative.dev/progress-deadline"
                .to_owned(),
        ),
    ]);
}

#[test]
fn classes_metrics_and_algorithms_are_known_ones() {
    check(&[
        (
            "{autoscaling.knative.dev/class: kpb.autoscaling.knative.dev}",
            format!("invalid value: kpb.autoscaling.knative.dev: {AT}/class"),
        ),
        ("{autoscaling.knative.dev/metric: cpu}", format!("invalid value: cpu: {AT}/metric")),
        (
            "{autoscaling.knative.dev/class: kpa.autoscaling.knative.dev, \
              autoscaling.knative.dev/metric-aggregation-algorithm: guess}",
            format!("invalid value: guess: {AT}/metric-aggregation-algorithm"),
        ),
        (
            "{networking.knative.dev/wrong: x}",
            "invalid key name \"networking.knative.dev/wrong\": \
             spec.template.metadata.annotations"
                .to_owned(),
        ),
        (
            "{queue.sidecar.serving.knative.dev/memory-resource-limit: much}",
            "invalid value: much: spec.template.metadata.annotations.\
             [queue.sidecar.serving.knative.dev/memory-resource-limit]"
                .to_owned(),
        ),
    ]);
}

#[test]
fn a_deprecated_annotation_is_a_warning_and_still_has_bounds() {
    let key = "queue.sidecar.serving.knative.dev/resource-percentage";
    let of = |value: &str| {
        created(&with_annotations(&format!("{{{key}: '{value}'}}")), &Config::default())
    };
    let warned = of("40");
    assert_eq!(warned.to_string(), "");
    assert!(
        warned.warnings().iter().any(|w| w.starts_with("Queue proxy resource percentage")),
        "{:?}",
        warned.warnings()
    );
    assert_eq!(
        of("0.05").to_string(),
        format!("expected 0.1 <= 0.05 <= 100: spec.template.metadata.annotations.[{key}]")
    );
}

#[test]
fn autoscaling_annotations_on_the_service_itself_are_refused() {
    let service: Service = read(
        "{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: digits, \
         annotations: {autoscaling.knative.dev/min-scale: '1', \
         serving.knative.dev/rollout-duration: 1500ms}}, \
         spec: {template: {spec: {containers: [{image: busybox}]}}}}",
    );
    assert_eq!(
        created(&service, &Config::default()).to_string(),
        "invalid key name \"autoscaling.knative.dev/min-scale\": metadata.annotations\n\
         autoscaling annotations must be put under \"spec.template.metadata.annotations\" to \
         work\n\
         rollout-duration=1500ms is not at second precision: \
         metadata.annotations.serving.knative.dev/rollout-duration"
    );
}

#[test]
fn requests_that_wake_nothing_are_checked_on_templates() {
    let service: Service = read(
        "{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: digits}, \
         spec: {template: {metadata: {annotations: {serving.ebb.dev/no-wake-paths: health}}, \
         spec: {containers: [{image: busybox}]}}}}",
    );
    assert_eq!(
        created(&service, &Config::default()).to_string(),
        "invalid value: health: \
         spec.template.metadata.annotations.serving.ebb.dev/no-wake-paths\n\
         \"health\" is not a path: it begins with \"/\", and \"*\" may stand at its end alone"
    );
}

#[test]
fn a_start_timeout_is_checked_on_templates() {
    let service: Service = read(
        "{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: digits}, \
         spec: {template: {metadata: {annotations: {serving.ebb.dev/start-timeout: '600'}}, \
         spec: {containers: [{image: busybox}]}}}}",
    );
    assert_eq!(
        created(&service, &Config::default()).to_string(),
        "invalid value: 600: \
         spec.template.metadata.annotations.serving.ebb.dev/start-timeout\n\
         it must be \"auto\", or a duration from 1s to 24h, such as \"10m\""
    );
}

#[test]
fn what_belongs_on_a_template_is_refused_elsewhere() {
    let service: Service = read(
        "{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: digits, \
         annotations: {serving.ebb.dev/start-timeout: 10m}}, \
         spec: {template: {spec: {containers: [{image: busybox}]}}}}",
    );
    assert_eq!(
        created(&service, &Config::default()).to_string(),
        "invalid key name \"serving.ebb.dev/start-timeout\": metadata.annotations\n\
         annotations of a template must be put under \"spec.template.metadata.annotations\" to \
         work"
    );
}

#[test]
fn names_of_models_are_checked_on_services_and_routes() {
    let service: Service = read(
        "{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {name: digits, \
         annotations: {serving.ebb.dev/models: 'a b'}}, \
         spec: {template: {spec: {containers: [{image: busybox}]}}}}",
    );
    assert_eq!(
        created(&service, &Config::default()).to_string(),
        "invalid value: a b: metadata.annotations.serving.ebb.dev/models\n\
         \"a b\" is not a name: letters, digits and . _ : / @ + - only"
    );
}

#[test]
fn model_files_are_checked_on_templates_and_show_no_secret() {
    let told = |annotations: &str, container: &str| {
        let service: Service = read(&format!(
            "{{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {{name: digits}}, \
             spec: {{template: {{metadata: {{annotations: {{{annotations}}}}}, \
             spec: {{containers: [{{image: busybox{container}}}]}}}}}}}}",
        ));
        created(&service, &Config::default()).to_string()
    };
    let hf = "serving.ebb.dev/model: hf://org/name";
    assert_eq!(told(&format!("{hf}, serving.ebb.dev/model-cache: models"), ""), "");
    assert_eq!(
        told("serving.ebb.dev/model: 'https://me:secret@h/x'", ""),
        "invalid value: ...: spec.template.metadata.annotations.serving.ebb.dev/model\n\
         \"https://...@...\" is no URL of a file: write https://HOST/PATH with a name at its end, \
         without user and password, other characters than those of ASCII as %XX"
    );
    assert_eq!(
        told("serving.ebb.dev/model-secret: hub", ""),
        "invalid value: hub: spec.template.metadata.annotations.serving.ebb.dev/model-secret\n\
         it means nothing without serving.ebb.dev/model"
    );
    let taken = told(hf, ", volumeMounts: [{name: v, mountPath: /mnt}]");
    assert!(
        taken.contains(
            "with serving.ebb.dev/model nothing may be mounted at \"/mnt\": the model lies in \
             /mnt/models: spec.template.spec.containers"
        ),
        "{taken}"
    );
}

#[test]
fn standby_is_checked_on_templates() {
    for (annotations, told) in [
        (
            "serving.ebb.dev/standby: 'yes'",
            "invalid value: yes: \
             spec.template.metadata.annotations.serving.ebb.dev/standby\n\
             it must be \"process\", or left out",
        ),
        (
            "serving.ebb.dev/standby-for: 1h",
            "invalid value: 1h: \
             spec.template.metadata.annotations.serving.ebb.dev/standby-for\n\
             it means nothing without serving.ebb.dev/standby: \"process\"",
        ),
        ("serving.ebb.dev/standby: process, serving.ebb.dev/standby-for: forever", ""),
    ] {
        let service: Service = read(&format!(
            "{{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {{name: digits}}, \
             spec: {{template: {{metadata: {{annotations: {{{annotations}}}}}, \
             spec: {{containers: [{{image: busybox}}]}}}}}}}}",
        ));
        assert_eq!(created(&service, &Config::default()).to_string(), told, "{annotations}");
    }
}
