//! Containers, probes, volumes and limits of a Revision.

use super::*;

/// Prefix of the paths in the first container.
const C: &str = "spec.template.spec.containers[0]";

#[test]
fn limits_have_bounds() {
    check_specs(
        &Config::default(),
        &[
            (
                "{containers: [{image: busybox}], timeoutSeconds: 600, containerConcurrency: 1000}",
                "",
            ),
            (
                "{containers: [{image: busybox}], containerConcurrency: -1}",
                "expected 0 <= -1 <= 1000: spec.template.spec.containerConcurrency",
            ),
            (
                "{containers: [{image: busybox}], timeoutSeconds: 601}",
                "expected 0 <= 601 <= 600: spec.template.spec.timeoutSeconds",
            ),
            (
                "{containers: [{image: busybox}], idleTimeoutSeconds: -5}",
                "expected 0 <= -5 <= 600: spec.template.spec.idleTimeoutSeconds",
            ),
        ],
    );
    let mut config = Config::default();
    config.defaults.allow_container_concurrency_zero = false;
    check_specs(
        &config,
        &[(
            "{containers: [{image: busybox}]}",
            "expected 1 <= 0 <= 1000: spec.template.spec.containerConcurrency",
        )],
    );
}

#[test]
fn a_container_has_an_image_that_can_be_named() {
    check_specs(
        &Config::default(),
        &[
            ("{}", "missing field(s): spec.template.spec.containers"),
            ("{containers: [{}]}", "missing field(s): spec.template.spec.containers[0].image"),
            (
                "{containers: [{image: 'foo:bar:baz'}]}",
                "Failed to parse image reference: spec.template.spec.containers[0].image\n\
                 image: \"foo:bar:baz\", error: could not parse reference: foo:bar:baz",
            ),
            (
                "{containers: [{image: busybox, name: queue-proxy}]}",
                "\"queue-proxy\" is a reserved container name: \
                 spec.template.spec.containers[0].name",
            ),
            (
                "{containers: [{image: busybox, terminationMessagePolicy: Maybe}]}",
                "invalid value: Maybe: \
                 spec.template.spec.containers[0].terminationMessagePolicy",
            ),
            (
                "{containers: [{image: busybox, resources: {limits: {memory: 1 GB}}}]}",
                "invalid value: 1 GB: \
                 spec.template.spec.containers[0].resources.limits[memory]\n\
                 quantities must match the regular expression \
                 '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
            (
                "{containers: [{image: busybox}], serviceAccountName: A}",
                "invalid value: A: spec.template.spec.serviceAccountName\n\
                 a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
                 characters, '-' or '.', and must start and end with an alphanumeric character \
                 (e.g. 'example.com', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ),
        ],
    );
}

#[test]
fn fields_that_knative_does_not_allow_are_refused_together() {
    check_specs(
        &Config::default(),
        &[
            (
                "{containers: [{image: busybox, tty: true, stdin: false, lifecycle: {}, \
                 securityContext: {privileged: true, procMount: Default, capabilities: {add: [A]}}}], \
                 hostNetwork: true, nodeName: node-1, automountServiceAccountToken: false, \
                 nodeSelector: {a: b}, restartPolicy: Always}",
                &format!(
                    "must not set the field(s): {C}.lifecycle, \
                     {C}.securityContext.capabilities.add, {C}.securityContext.privileged, \
                     {C}.securityContext.procMount, {C}.tty, spec.template.spec.hostNetwork, \
                     spec.template.spec.nodeName, spec.template.spec.nodeSelector, \
                     spec.template.spec.restartPolicy"
                ),
            ),
            (
                "{containers: [{image: busybox, env: [{name: A, valueFrom: {fieldRef: \
                 {fieldPath: x}}}]}]}",
                &format!("must not set the field(s): {C}.env[0].valueFrom.fieldRef"),
            ),
        ],
    );
    check_specs(
        &allowing(&[Feature::NodeSelector, Feature::FieldRef]),
        &[(
            "{containers: [{image: busybox, env: [{name: A, valueFrom: {fieldRef: \
             {fieldPath: x}}}]}], nodeSelector: {a: b}}",
            "",
        )],
    );
}

#[test]
fn ports_are_one_and_not_reserved() {
    check_specs(
        &Config::default(),
        &[
            ("{containers: [{image: busybox, ports: [{containerPort: 0, name: h2c}]}]}", ""),
            (
                "{containers: [{image: busybox, ports: [{containerPort: 8012}]}]}",
                &format!(
                    "invalid value: 8012 is a reserved port: {C}.ports.containerPort\n\
                     8012 is a reserved port, please use a different value"
                ),
            ),
            (
                "{containers: [{image: busybox, ports: [{containerPort: 65536}]}]}",
                &format!("expected 0 <= 65536 <= 65535: {C}.ports.containerPort"),
            ),
            (
                "{containers: [{image: busybox, ports: [{containerPort: 80, name: web, \
                 protocol: UDP}]}]}",
                &format!(
                    "Port name web is not allowed: {C}.ports\n\
                     Name must be empty, or one of: 'h2c', 'http1'\n\
                     invalid value: UDP: {C}.ports.protocol"
                ),
            ),
            (
                "{containers: [{image: busybox, ports: [{containerPort: 80}, \
                 {containerPort: 81, hostPort: 82}]}]}",
                &format!(
                    "more than one container port is set: spec.template.spec.containers[*].ports\n\
                     Only a single port is allowed across all containers\n\
                     must not set the field(s): {C}.ports[1].hostPort"
                ),
            ),
            (
                "{containers: [{image: busybox}, {image: busybox}]}",
                "missing field(s): spec.template.spec.containers[*].ports",
            ),
        ],
    );
}

#[test]
fn containers_beside_the_serving_one_are_named_once_and_not_probed() {
    let both = "{containers: [{image: busybox, ports: [{containerPort: 80}], name: a}, \
                {image: busybox, name: a, env: [{name: PORT, value: x}], \
                readinessProbe: {exec: {command: [x]}, successThreshold: 1}}]}";
    check_specs(
        &Config::default(),
        &[(
            both,
            "duplicate container name \"a\": spec.template.spec.containers[1].name\n\
             must not set the field(s): spec.template.spec.containers[1].readinessProbe",
        )],
    );
    let mut off = Config::default();
    off.features = off.features.with(Feature::MultiContainer, Flag::Disabled);
    check_specs(
        &off,
        &[(
            "{containers: [{image: busybox, ports: [{containerPort: 80}]}, {image: busybox}]}",
            "multi-container is off, but found 2 containers: spec.template.spec.containers",
        )],
    );
}

#[test]
fn the_environment_of_the_platform_is_reserved() {
    check_specs(
        &Config::default(),
        &[
            (
                "{containers: [{image: busybox, env: [{name: PORT}, {name: K_SERVICE}, {value: x}]}]}",
                &format!(
                    "\"K_SERVICE\" is a reserved environment variable: {C}.env[1].name\n\
                     \"PORT\" is a reserved environment variable: {C}.env[0].name\n\
                     missing field(s): {C}.env[2].name"
                ),
            ),
            (
                "{containers: [{image: busybox, envFrom: [{}, {secretRef: {name: s}}]}]}",
                &format!(
                    "expected exactly one, got neither: {C}.envFrom[0].configMapRef, \
                     {C}.envFrom[0].secretRef"
                ),
            ),
        ],
    );
}

#[test]
fn probes_do_one_thing_and_their_numbers_mean_something() {
    check_specs(
        &Config::default(),
        &[
            (
                "{containers: [{image: busybox, livenessProbe: {}}]}",
                &format!(
                    "expected exactly one, got neither: {C}.livenessProbe.exec, \
                     {C}.livenessProbe.grpc, {C}.livenessProbe.httpGet, \
                     {C}.livenessProbe.tcpSocket"
                ),
            ),
            (
                "{containers: [{image: busybox, readinessProbe: {httpGet: {path: /}, \
                 tcpSocket: {}, failureThreshold: 3, timeoutSeconds: 1}}]}",
                &format!(
                    "expected exactly one, got both: {C}.readinessProbe.httpGet, \
                     {C}.readinessProbe.tcpSocket\n\
                     failureThreshold is disallowed when periodSeconds is zero: \
                     {C}.readinessProbe.failureThreshold\n\
                     timeoutSeconds is disallowed when periodSeconds is zero: \
                     {C}.readinessProbe.timeoutSeconds"
                ),
            ),
            (
                "{containers: [{image: busybox, readinessProbe: {httpGet: {port: admin}, \
                 periodSeconds: 1}}]}",
                &format!(
                    "invalid value: admin: {C}.readinessProbe.httpGet.port\n\
                     Probe port must match container port"
                ),
            ),
            (
                "{containers: [{image: busybox, readinessProbe: {periodSeconds: -1, \
                 successThreshold: -1}}]}",
                &format!(
                    "expected 0 <= -1 <= 2147483647: {C}.readinessProbe.periodSeconds\n\
                     expected 1 <= -1 <= 2147483647: {C}.readinessProbe.successThreshold"
                ),
            ),
            ("{containers: [{image: busybox, readinessProbe: {httpGet: {port: http}}}]}", ""),
        ],
    );
}

#[test]
fn volumes_are_mounted_once_and_where_they_may_be() {
    let v = "spec.template.spec.volumes[0]";
    check_specs(
        &Config::default(),
        &[
            (
                "{containers: [{image: busybox, volumeMounts: [{name: a, mountPath: /a}, \
                 {name: b, mountPath: /b}]}], volumes: [{name: a, secret: {secretName: s}}, \
                 {name: b, emptyDir: {medium: Memory, sizeLimit: 1Gi}}]}",
                "",
            ),
            (
                "{containers: [{image: busybox, volumeMounts: [{name: a, mountPath: /dev/}, \
                 {name: a, mountPath: x}, {name: a, mountPath: /b}, {name: c, mountPath: /b/.}, \
                 {name: a}]}], volumes: [{name: a, secret: {}}]}",
                &format!(
                    "invalid value: \"/b/.\" must be unique: {C}.volumeMounts[3].mountPath\n\
                     invalid value: x: {C}.volumeMounts[1].mountPath\n\
                     missing field(s): {C}.volumeMounts[4].mountPath\n\
                     mountPath \"/dev\" is a reserved path: {C}.volumeMounts[0].mountPath\n\
                     volumeMount has no matching volume: {C}.volumeMounts[3].name"
                ),
            ),
            (
                "{containers: [{image: busybox}], volumes: [{name: A}]}",
                &format!(
                    "expected exactly one, got neither: {v}.configMap, {v}.emptyDir, \
                     {v}.projected, {v}.secret\n\
                     invalid value: A: {v}.name\n\
                     volume with name \"A\" not mounted: {v}.name"
                ),
            ),
            (
                "{containers: [{image: busybox, volumeMounts: [{name: a, mountPath: /a}]}], \
                 volumes: [{name: a, persistentVolumeClaim: {claimName: models}}]}",
                &format!(
                    "Persistent volume claim support is disabled, but found persistent volume \
                     claim models: {v}\n\
                     Persistent volume write support is disabled, but found persistent volume \
                     claim models that is not read-only: {v}\n\
                     must not set the field(s): {v}.persistentVolumeClaim"
                ),
            ),
        ],
    );
    check_specs(
        &allowing(&[Feature::PersistentVolumeClaim]),
        &[(
            "{containers: [{image: busybox, volumeMounts: [{name: a, mountPath: /a}]}], \
             volumes: [{name: a, persistentVolumeClaim: {claimName: models, readOnly: true}}]}",
            &format!("volume is readOnly but volume mount is not: {C}.volumeMounts[0].readOnly"),
        )],
    );
}

#[test]
fn unsafe_defaults_of_kubernetes_are_warnings() {
    let config = Config::default();
    let verdict = created(&with_spec("{containers: [{image: busybox}]}"), &config);
    assert_eq!(
        verdict.warnings(),
        [format!(
            "Kubernetes default value is insecure, Knative may default this to secure in a \
             future release: {C}.securityContext.allowPrivilegeEscalation, \
             {C}.securityContext.capabilities, {C}.securityContext.runAsNonRoot, \
             {C}.securityContext.seccompProfile"
        )]
    );
    let safe = "{containers: [{image: busybox, securityContext: {runAsNonRoot: true, \
                allowPrivilegeEscalation: false, seccompProfile: {type: RuntimeDefault}, \
                capabilities: {drop: [ALL]}, runAsUser: -1}}]}";
    let verdict = created(&with_spec(safe), &config);
    assert_eq!(verdict.warnings(), Vec::<String>::new());
    assert_eq!(
        verdict.to_string(),
        format!("expected 0 <= -1 <= 2147483647: {C}.securityContext.runAsUser")
    );
}
