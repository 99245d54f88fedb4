//! Security contexts: bounds of users and groups, and warnings about unsafe defaults.

use k8s_openapi::api::core::v1::{PodSecurityContext, PodSpec, SecurityContext};

use crate::field_error::FieldErrors;

/// Largest user or group id.
const ID_MAX: i64 = i32::MAX as i64;

/// What is wrong with the security context of a pod, and what is unsafe in its containers.
pub(super) fn validate_pod(pod: &PodSpec) -> FieldErrors {
    let mut errors = FieldErrors::default();
    let shared = pod.security_context.as_ref();
    if let Some(context) = shared {
        errors.add(validate_shared(context).via_field("securityContext"));
    }
    let init = pod.init_containers.iter().flatten();
    let containers = pod.containers.iter();
    let all = containers
        .enumerate()
        .map(|one| ("containers", one))
        .chain(init.enumerate().map(|one| ("initContainers", one)));
    for (list, (index, container)) in all {
        let unsafe_defaults = warnings(shared, container.security_context.as_ref());
        errors.add(unsafe_defaults.via_field("securityContext").via_field_index(list, index));
    }
    errors
}

/// What is wrong with the security context of a container.
pub(super) fn validate(context: &SecurityContext) -> FieldErrors {
    id(context.run_as_user, "runAsUser").also(id(context.run_as_group, "runAsGroup"))
}

fn validate_shared(context: &PodSecurityContext) -> FieldErrors {
    let mut errors = id(context.run_as_user, "runAsUser")
        .also(id(context.run_as_group, "runAsGroup"))
        .also(id(context.fs_group, "fsGroup"));
    for (index, group) in context.supplemental_groups.iter().flatten().enumerate() {
        errors.add(id(Some(*group), "").via_field_index("supplementalGroups", index));
    }
    errors
}

fn id(value: Option<i64>, field: &str) -> FieldErrors {
    match value {
        Some(id) if !(0..=ID_MAX).contains(&id) => FieldErrors::out_of_bounds(id, 0, ID_MAX, field),
        _ => FieldErrors::default(),
    }
}

/// Warns of fields that are insecure by Kubernetes' default and set in neither the pod nor the
/// container, in Knative's words. A dangerous setting that is written down is its author's
/// decision.
fn warnings(shared: Option<&PodSecurityContext>, own: Option<&SecurityContext>) -> FieldErrors {
    let mut unset = Vec::new();
    let shared_non_root = shared.and_then(|c| c.run_as_non_root);
    let own_non_root = own.and_then(|c| c.run_as_non_root);
    if shared_non_root.is_none() && own_non_root.is_none() {
        unset.push("runAsNonRoot");
    }
    if own.and_then(|c| c.allow_privilege_escalation).is_none() {
        unset.push("allowPrivilegeEscalation");
    }
    let profiles = [
        shared.and_then(|c| c.seccomp_profile.as_ref()),
        own.and_then(|c| c.seccomp_profile.as_ref()),
    ];
    let profiles: Vec<_> = profiles.into_iter().flatten().collect();
    if profiles.is_empty() {
        unset.push("seccompProfile");
    } else if profiles.iter().all(|profile| profile.type_.is_empty()) {
        unset.push("seccompProfile.type");
    }
    let mut errors = FieldErrors::default();
    match own.and_then(|c| c.capabilities.as_ref()) {
        None => unset.push("capabilities"),
        Some(capabilities) => match capabilities.drop.as_deref() {
            None => unset.push("capabilities.drop"),
            Some([first, ..]) if first == "all" => errors.add(FieldErrors::invalid_because(
                "all",
                "capabilities.drop",
                "Must be spelled as 'ALL'",
            )),
            Some(_) => {}
        },
    }
    for field in unset {
        errors.add(FieldErrors::generic(
            "Kubernetes default value is insecure, Knative may default this to secure in a \
             future release",
            &[field],
        ));
    }
    errors.as_warnings()
}
