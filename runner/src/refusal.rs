//! Features of a pod that need real containers, found before anything starts.
//!
//! A field that is silently ignored would make a program behave here as it does nowhere else; so a
//! field that changes what a program does is refused with a message. `resources`, `securityContext`
//! and scheduling are left out and named (`omissions`): they bound a program and never change what it
//! does.

use k8s_openapi::api::core::v1::{Container, Probe};

/// Why `container` cannot run here, for `waiting.message`; `None` if it can.
pub(super) fn refusal(container: &Container) -> Option<String> {
    lifecycle(container)
        .or_else(|| sidecar(container))
        .or_else(|| probe("readinessProbe", container.readiness_probe.as_ref()))
        .or_else(|| probe("livenessProbe", container.liveness_probe.as_ref()))
        .or_else(|| probe("startupProbe", container.startup_probe.as_ref()))
}

fn lifecycle(container: &Container) -> Option<String> {
    container.lifecycle.as_ref()?.post_start.as_ref()?;
    Some(
        "lifecycle.postStart is not supported in local mode: do its work in the command, or apply \
         this manifest to a cluster"
            .to_owned(),
    )
}

fn sidecar(container: &Container) -> Option<String> {
    container.restart_policy.as_ref()?;
    Some(
        "restartPolicy of a container is not supported in local mode: make it one of \
         spec.template.spec.containers, or apply this manifest to a cluster"
            .to_owned(),
    )
}

fn probe(field: &str, probe: Option<&Probe>) -> Option<String> {
    let scheme = probe?.http_get.as_ref()?.scheme.as_deref()?;
    (!scheme.eq_ignore_ascii_case("HTTP")).then(|| {
        format!(
            "{field} with scheme {scheme} is not supported in local mode: use HTTP or a \
             tcpSocket probe"
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(container: &serde_json::Value) -> Option<String> {
        refusal(&serde_json::from_value(container.clone()).expect("a container"))
    }

    #[test]
    fn fields_that_only_bound_a_program_are_ignored() {
        let container = json!({
            "name": "c",
            "resources": {"limits": {"cpu": "1"}},
            "securityContext": {"runAsNonRoot": true},
            "readinessProbe": {"httpGet": {"port": 1, "scheme": "HTTP"}},
            "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
        });
        assert_eq!(refused(&container), None);
    }

    #[test]
    fn hooks_and_probes_that_cannot_run_are_refused() {
        let hook = json!({"name": "c", "lifecycle": {"postStart": {"exec": {"command": ["x"]}}}});
        assert!(refused(&hook).is_some());
        let tls =
            json!({"name": "c", "livenessProbe": {"httpGet": {"port": 1, "scheme": "HTTPS"}}});
        assert!(refused(&tls).is_some());
    }
}
