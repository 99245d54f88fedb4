//! Splits of a Service and of a Route.

use super::*;

fn check(table: &[(&str, &str)]) {
    for (traffic, want) in table {
        let service: Service = read(&format!(
            "{{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {{name: digits}}, \
             spec: {{template: {{spec: {{containers: [{{image: busybox}}]}}}}, \
             traffic: {traffic}}}}}"
        ));
        let verdict = created(&service, &Config::default()).to_string();
        assert_eq!(verdict, *want, "{traffic}");
    }
}

#[test]
fn a_split_names_each_target_once_and_sums_to_a_hundred() {
    check(&[
        ("[]", ""),
        ("[{percent: 100}]", ""),
        ("[{percent: 90}, {revisionName: digits-00001, percent: 10, tag: blue}]", ""),
        ("[{percent: 100}, {revisionName: digits-00001, tag: blue}]", ""),
        ("[{percent: 99}]", "Traffic targets sum to 99, want 100: spec.traffic"),
        (
            "[{percent: 9223372036854775807}, {percent: 9223372036854775807}]",
            "Traffic targets sum to 9223372036854775807, want 100: spec.traffic\n\
             expected 0 <= 9223372036854775807 <= 100: spec.traffic[0].percent, \
             spec.traffic[1].percent",
        ),
        (
            "[{percent: -1}, {percent: 101}]",
            "expected 0 <= -1 <= 100: spec.traffic[0].percent\n\
             expected 0 <= 101 <= 100: spec.traffic[1].percent",
        ),
        (
            "[{percent: 50, tag: blue}, {percent: 50, tag: blue}]",
            "Multiple definitions for \"blue\": spec.traffic[0].tag, spec.traffic[1].tag",
        ),
        (
            "[{percent: 100, tag: Blue_1}]",
            "invalid value: not a DNS 1035 label: [a DNS-1035 label must consist of lower case \
             alphanumeric characters or '-', start with an alphabetic character, and end with \
             an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
             validation is '[a-z]([-a-z0-9]*[a-z0-9])?')]: spec.traffic.tag[0]",
        ),
    ]);
}

#[test]
fn a_target_of_a_service_is_its_own_revision() {
    check(&[
        (
            "[{percent: 100, configurationName: digits}]",
            "must not set the field(s): spec.traffic[0].configurationName",
        ),
        (
            "[{percent: 100, latestRevision: true, revisionName: digits-00001}]",
            "may not set revisionName \"digits-00001\" when latestRevision is true: \
             spec.traffic[0].latestRevision",
        ),
        (
            "[{percent: 100, latestRevision: false}]",
            "may not set revisionName \"\" when latestRevision is false: \
             spec.traffic[0].latestRevision",
        ),
        (
            "[{percent: 100, tag: a, url: 'http://a.example.com'}]",
            "must not set the field(s): spec.traffic[0].url",
        ),
        (
            "[{percent: 100, revisionName: a b}]",
            "invalid key name \"a b\": spec.traffic[0].revisionName\n\
             name part must consist of alphanumeric characters, '-', '_' or '.', and must start \
             and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
             '123-abc', regex used for validation is \
             '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        ),
    ]);
}

#[test]
fn a_target_of_a_route_names_a_configuration_or_a_revision() {
    for (traffic, want) in [
        ("[{percent: 100, configurationName: digits}]", ""),
        ("[{percent: 100, revisionName: digits-00001}]", ""),
        (
            "[{percent: 100}]",
            "expected exactly one, got neither: spec.traffic[0].configurationName, \
             spec.traffic[0].revisionName",
        ),
        (
            "[{percent: 100, configurationName: digits, revisionName: digits-00001}]",
            "expected exactly one, got both: spec.traffic[0].configurationName, \
             spec.traffic[0].revisionName",
        ),
        ("[]", "Traffic targets sum to 0, want 100: spec.traffic"),
    ] {
        let mut object: Route = read(&format!(
            "{{apiVersion: serving.knative.dev/v1, kind: Route, metadata: {{name: digits}}, \
             spec: {{traffic: {traffic}}}}}"
        ));
        defaults::route(&mut object, Occasion::Create { by: None });
        assert_eq!(route(&object, None).to_string(), want, "{traffic}");
    }
}
