use k8s_openapi::api::core::v1::{ExecAction, GRPCAction, HTTPGetAction};

use super::*;

fn revision(containers: Vec<Container>) -> Revision {
    let mut revision = Revision::default();
    revision.metadata.name = Some("digits-00001".to_owned());
    revision.metadata.labels = Some(
        [(labels::SERVICE, "digits"), (labels::CONFIGURATION, "digits")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    );
    revision.spec.pod.containers = containers;
    revision
}

fn pod(revision: &Revision) -> PodSpec {
    build(revision, &Config::default(), None, None).expect("nothing stands in the way")
}

fn env(container: &Container) -> BTreeMap<String, String> {
    let variables = container.env.clone().unwrap_or_default();
    variables
        .into_iter()
        .map(|variable| (variable.name, variable.value.unwrap_or_default()))
        .collect()
}

#[test]
fn the_runtime_contract_is_added_to_a_bare_container() {
    let pod = pod(&revision(vec![Container::default()]));
    let container = &pod.containers[0];
    assert_eq!(container.name, "user-container");
    let expected = [
        ("K_CONFIGURATION", "digits"),
        ("K_REVISION", "digits-00001"),
        ("K_SERVICE", "digits"),
        ("PORT", "8080"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(env(container), expected.into());
    let port = &container.ports.as_ref().unwrap()[0];
    assert_eq!((port.name.as_deref(), port.container_port), (Some("user-port"), 8080));
    let probe = container.readiness_probe.as_ref().unwrap();
    assert_eq!(probe.tcp_socket.as_ref().unwrap().port, IntOrString::Int(8080));
    assert_eq!(probe.period_seconds, Some(1));
    let stop = container.lifecycle.as_ref().unwrap().pre_stop.as_ref().unwrap();
    assert_eq!(stop.sleep.as_ref().unwrap().seconds, 3);
    assert_eq!(pod.termination_grace_period_seconds, Some(300));
    assert_eq!(pod.enable_service_links, Some(false));
    assert_eq!(container.termination_message_policy.as_deref(), Some("FallbackToLogsOnError"));
    assert_eq!(container.security_context, None);
}

#[test]
fn the_sleep_fits_into_a_short_grace_period() {
    let mut revision = revision(vec![Container::default()]);
    revision.spec.timeout_seconds = Some(1);
    let pod = pod(&revision);
    let stop = pod.containers[0].lifecycle.clone().unwrap().pre_stop.unwrap();
    assert_eq!(stop.sleep.unwrap().seconds, 1);
    assert_eq!(pod.termination_grace_period_seconds, Some(1));
}

#[test]
fn probes_keep_their_kind_and_get_the_port() {
    let http = |port: IntOrString| Probe {
        http_get: Some(HTTPGetAction { port, ..HTTPGetAction::default() }),
        period_seconds: Some(0),
        timeout_seconds: Some(0),
        ..Probe::default()
    };
    let mut container = Container {
        ports: Some(vec![ContainerPort {
            name: Some("h2c".to_owned()),
            container_port: 9000,
            ..ContainerPort::default()
        }]),
        readiness_probe: Some(http(IntOrString::String("h2c".to_owned()))),
        liveness_probe: Some({
            let mut probe = http(IntOrString::Int(0));
            probe.http_get.as_mut().unwrap().scheme = Some("https".to_owned());
            probe
        }),
        startup_probe: Some(http(IntOrString::Int(9999))),
        ..Container::default()
    };
    let made = pod(&revision(vec![container.clone()])).containers.remove(0);
    let port = |probe: &Option<Probe>| probe.clone().unwrap().http_get.unwrap().port;
    assert_eq!(port(&made.readiness_probe), IntOrString::Int(9000));
    assert_eq!(port(&made.liveness_probe), IntOrString::Int(9000));
    assert_eq!(port(&made.startup_probe), IntOrString::Int(9999));
    assert_eq!(made.readiness_probe.unwrap().period_seconds, Some(1));
    let liveness = made.liveness_probe.unwrap();
    let scheme = liveness.http_get.unwrap().scheme;
    assert_eq!(scheme.as_deref(), Some("HTTPS"), "Kubernetes refuses it in small letters");
    assert_eq!((liveness.period_seconds, liveness.timeout_seconds), (None, None));

    container.readiness_probe = Some(Probe {
        grpc: Some(GRPCAction::default()),
        period_seconds: Some(5),
        ..Probe::default()
    });
    let made = pod(&revision(vec![container.clone()])).containers.remove(0);
    let probe = made.readiness_probe.unwrap();
    assert_eq!((probe.grpc.unwrap().port, probe.period_seconds), (9000, Some(5)));

    container.readiness_probe =
        Some(Probe { exec: Some(ExecAction::default()), ..Probe::default() });
    let made = pod(&revision(vec![container])).containers.remove(0);
    assert_eq!(made.readiness_probe.unwrap().tcp_socket, None);
}

#[test]
fn only_the_serving_container_of_several_is_opened() {
    let serving = Container {
        ports: Some(vec![ContainerPort { container_port: 9000, ..ContainerPort::default() }]),
        ..Container::default()
    };
    let revision = revision(vec![Container::default(), serving]);
    let pod = pod(&revision);
    assert_eq!(pod.containers[0].name, "user-container-0");
    assert_eq!(pod.containers[0].ports, None);
    assert_eq!(pod.containers[0].readiness_probe, None);
    assert!(!env(&pod.containers[0]).contains_key("PORT"));
    assert!(pod.containers[0].lifecycle.is_some());
    assert_eq!(env(&pod.containers[1])["PORT"], "9000");
    let notes = annotations(&revision, BTreeMap::new());
    assert_eq!(notes["kubectl.kubernetes.io/default-container"], "user-container-1");
}

/// As in Knative, where only `secure-pod-defaults` adds to a security context.
#[test]
fn a_container_that_asks_for_non_root_keeps_its_capabilities() {
    let mut asked = Container::default();
    asked.security_context.get_or_insert_default().run_as_non_root = Some(true);
    let wanted = asked.security_context.clone();
    let mut revision = revision(vec![asked]);
    revision.spec.pod.security_context.get_or_insert_default().run_as_non_root = Some(true);
    assert_eq!(pod(&revision).containers[0].security_context, wanted);
}
