//! Names, labels, owners, and what must not change.

use super::*;

const RULE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', \
                    start with an alphabetic character, and end with an alphanumeric character \
                    (e.g. 'my-name',  or 'abc-123', regex used for validation is \
                    '[a-z]([-a-z0-9]*[a-z0-9])?')";

fn service(metadata: &str, template: &str) -> Service {
    read(&format!(
        "{{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {metadata}, \
         spec: {{template: {template}}}}}"
    ))
}

fn named(name: &str, image: &str) -> Service {
    service(
        "{name: digits}",
        &format!("{{metadata: {{name: {name}}}, spec: {{containers: [{{image: {image}}}]}}}}"),
    )
}

#[test]
fn a_service_has_a_name_that_can_be_a_host() {
    let template = "{spec: {containers: [{image: busybox}]}}";
    let long = "x".repeat(253);
    for (metadata, want) in [
        ("{generateName: digits-}".to_owned(), String::new()),
        ("{}".to_owned(), "name or generateName is required: metadata.name".to_owned()),
        ("{name: a.b}".to_owned(), format!("not a DNS 1035 label: [{RULE}]: metadata.name")),
        (
            format!("{{name: {long}}}"),
            "not a DNS 1035 label: [must be no more than 63 characters]: metadata.name".to_owned(),
        ),
        (
            "{generateName: A-}".to_owned(),
            format!("not a DNS 1035 label prefix: [{RULE}]: metadata.generateName"),
        ),
        (
            "{name: a, labels: {networking.knative.dev/visibility: hidden}}".to_owned(),
            "invalid value: hidden: metadata.labels.networking.knative.dev/visibility".to_owned(),
        ),
    ] {
        let verdict = created(&service(&metadata, template), &Config::default());
        assert_eq!(verdict.to_string(), want, "{metadata}");
    }
}

#[test]
fn a_chosen_revision_name_begins_with_that_of_the_service() {
    let config = Config::default();
    for (name, want) in [
        ("digits-blue", String::new()),
        (
            "letters-blue",
            "invalid value: \"letters-blue\" must have prefix \"digits-\": \
             spec.template.metadata.name"
                .to_owned(),
        ),
        (
            "digits.blue",
            format!("invalid value: not a DNS 1035 label: [{RULE}]: spec.template.metadata.name"),
        ),
    ] {
        assert_eq!(created(&named(name, "busybox"), &config).to_string(), want);
    }
    let generated = service(
        "{generateName: digits-}",
        "{metadata: {name: digits-x}, spec: {containers: [{image: busybox}]}}",
    );
    assert_eq!(
        created(&generated, &config).to_string(),
        "must not set the field(s): spec.template.metadata.name"
    );
}

#[test]
fn a_template_changes_only_with_the_name_that_was_chosen_for_it() {
    let config = Config::default();
    let old = named("digits-a", "busybox:1");
    assert_eq!(
        updated(&old, &named("digits-a", "busybox:2"), &config).to_string(),
        "Saw the following changes without a name change (-old +new): \
         spec.template.metadata.name\n\
         {v1.RevisionTemplateSpec}.spec.containers[0].image:\n\
         \t-: \"busybox:1\"\n\t+: \"busybox:2\"\n"
    );
    assert!(updated(&old, &named("digits-b", "busybox:2"), &config).is_empty());
    assert!(updated(&old, &old, &config).is_empty());
}

#[test]
fn a_default_that_is_new_since_is_nobodys_change() {
    let old = named("digits-a", "busybox");
    let mut stored = old.clone();
    let create = Occasion::Create { by: Some("alice") };
    defaults::service(&mut stored, create, &Config::default());
    let mut config = Config::default();
    config.defaults.idle_timeout_s = 10;
    let mut new = stored.clone();
    let by = Some("bob");
    defaults::service(&mut new, Occasion::Update { old: &stored, by }, &config);
    assert_eq!(new, stored, "defaulting changed an object that keeps its name");
    assert_eq!(super::service(&new, Some(&stored), &config).to_string(), "");
}

#[test]
fn the_recorded_creator_never_changes() {
    let config = Config::default();
    let old = service("{name: digits}", "{spec: {containers: [{image: busybox}]}}");
    let forged = service(
        "{name: digits, annotations: {serving.knative.dev/creator: eve, \
         serving.knative.dev/lastModifier: eve}}",
        "{spec: {containers: [{image: busybox}]}}",
    );
    assert_eq!(
        updated(&old, &forged, &config).to_string(),
        "annotation value is immutable: metadata.annotations.serving.knative.dev/creator\n\
         invalid value: eve: metadata.annotations.serving.knative.dev/lastModifier"
    );
    let changed = service("{name: digits}", "{spec: {containers: [{image: busybox:2}]}}");
    assert_eq!(updated(&old, &changed, &config).to_string(), "");
}

#[test]
fn a_label_that_names_an_owner_needs_that_owner() {
    let owned = |owner: &str| -> Configuration {
        read(&format!(
            "{{apiVersion: serving.knative.dev/v1, kind: Configuration, metadata: {{name: digits, \
             labels: {{serving.knative.dev/service: digits}}, ownerReferences: {owner}}}, \
             spec: {{template: {{spec: {{containers: [{{image: busybox}}]}}}}}}}}"
        ))
    };
    let verdict = |owner: &str| {
        let config = Config::default();
        let mut object = owned(owner);
        defaults::configuration(&mut object, Occasion::Create { by: None }, &config);
        configuration(&object, None, &config).to_string()
    };
    assert_eq!(verdict("[]"), "missing field(s): metadata.labels.serving.knative.dev/service");
    assert_eq!(verdict("[{apiVersion: v1, kind: Service, name: digits, uid: u}]"), "");
}

#[test]
fn a_revision_never_changes() {
    let config = Config::default();
    let mut old: Revision = read(
        "{apiVersion: serving.knative.dev/v1, kind: Revision, metadata: {name: digits-00001}, \
         spec: {containers: [{image: 'busybox:1'}]}}",
    );
    defaults::revision(&mut old, Occasion::Create { by: None }, &config);
    assert_eq!(revision(&old, None, &config).to_string(), "");
    assert_eq!(revision(&old, Some(&old), &config).to_string(), "");
    let mut new = old.clone();
    new.spec.timeout_seconds = Some(5);
    assert_eq!(
        revision(&new, Some(&old), &config).to_string(),
        "Immutable fields changed (-old +new): spec\n\
         {v1.RevisionSpec}.timeoutSeconds:\n\t-: \"300\"\n\t+: \"5\"\n"
    );
}
