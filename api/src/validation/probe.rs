//! Probes of a container.

use k8s_openapi::api::core::v1::{ContainerPort, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::field_error::FieldErrors;

/// Name of a port that has none, for probes that refer to it by name.
const UNNAMED_PORT: &str = "http";

/// What is wrong with any probe of a container that has this port.
pub(super) fn validate(probe: &Probe, port: Option<&ContainerPort>) -> FieldErrors {
    let errors = validate_action(probe, port);
    let numbers = [
        ("failureThreshold", probe.failure_threshold),
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("timeoutSeconds", probe.timeout_seconds),
    ];
    numbers.into_iter().fold(errors, |errors, (field, number)| {
        errors.also(at_least(0, number.unwrap_or(0), field))
    })
}

/// What is wrong with the probe that decides whether requests are sent.
pub(super) fn validate_readiness(probe: &Probe, port: Option<&ContainerPort>) -> FieldErrors {
    let period_s = probe.period_seconds.unwrap_or(0);
    let timeout_s = probe.timeout_seconds.unwrap_or(0);
    let failures = probe.failure_threshold.unwrap_or(0);
    let mut errors = validate_action(probe, port)
        .also(at_least(0, period_s, "periodSeconds"))
        .also(at_least(0, probe.initial_delay_seconds.unwrap_or(0), "initialDelaySeconds"))
        .also(at_least(1, probe.success_threshold.unwrap_or(0), "successThreshold"));
    // Without a period the container is probed as often as is useful, and these two mean nothing.
    if period_s == 0 {
        for (field, value) in [("failureThreshold", failures), ("timeoutSeconds", timeout_s)] {
            if value != 0 {
                errors.add(FieldErrors::generic(
                    format!("{field} is disallowed when periodSeconds is zero"),
                    &[field],
                ));
            }
        }
        return errors;
    }
    errors.also(at_least(1, timeout_s, "timeoutSeconds")).also(at_least(
        1,
        failures,
        "failureThreshold",
    ))
}

fn validate_action(probe: &Probe, port: Option<&ContainerPort>) -> FieldErrors {
    let mut actions = Vec::new();
    let mut errors = FieldErrors::default();
    if let Some(get) = &probe.http_get {
        actions.push("httpGet");
        errors.add(validate_port(&get.port, port).via_field("httpGet"));
    }
    if let Some(socket) = &probe.tcp_socket {
        actions.push("tcpSocket");
        errors.add(validate_port(&socket.port, port).via_field("tcpSocket"));
    }
    if probe.exec.is_some() {
        actions.push("exec");
    }
    if let Some(grpc) = &probe.grpc {
        actions.push("grpc");
        errors.add(validate_number(grpc.port).via_field("grpc"));
    }
    match actions.as_slice() {
        [] => errors.add(FieldErrors::missing_one_of(&["httpGet", "tcpSocket", "exec", "grpc"])),
        [_] => {}
        several => errors.add(FieldErrors::multiple_one_of(several)),
    }
    errors
}

fn validate_port(probed: &IntOrString, port: Option<&ContainerPort>) -> FieldErrors {
    match probed {
        IntOrString::Int(number) => validate_number(*number),
        IntOrString::String(name) => {
            let own = port
                .and_then(|port| port.name.as_deref())
                .filter(|name| !name.is_empty())
                .unwrap_or(UNNAMED_PORT);
            if name.is_empty() || name == own {
                FieldErrors::default()
            } else {
                FieldErrors::invalid_because(name, "port", "Probe port must match container port")
            }
        }
    }
}

/// 0 is the port that requests go to.
fn validate_number(port: i32) -> FieldErrors {
    if (0..=i32::from(u16::MAX)).contains(&port) {
        FieldErrors::default()
    } else {
        FieldErrors::out_of_bounds(port, 0, u16::MAX, "port")
    }
}

fn at_least(low: i32, value: i32, field: &str) -> FieldErrors {
    if value >= low {
        FieldErrors::default()
    } else {
        FieldErrors::out_of_bounds(value, low, i32::MAX, field)
    }
}
