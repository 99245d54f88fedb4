//! The rights, doors and network policies of the chart, read from what it renders.

mod values;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use ebb_daemon::identity;
use ebb_tests::binaries::source;
use serde_json::{Value, json};

/// Every right that the chart gives: role, groups, resources, names if they are limited, verbs. A
/// right that is not here is a mistake, or belongs in here with the reason in the role.
const RIGHTS: &str = "\
ClusterRole ebb-activator: authentication.k8s.io tokenreviews: create
ClusterRole ebb-activator: core pods: list watch
ClusterRole ebb-activator: serving.knative.dev revisions routes: list watch
ClusterRole ebb-activator: serving.knative.dev revisions/status: patch
ClusterRole ebb-autoscaler: authentication.k8s.io tokenreviews: create
ClusterRole ebb-autoscaler: core pods: list patch watch
ClusterRole ebb-autoscaler: events.k8s.io events: create patch
ClusterRole ebb-autoscaler: serving.knative.dev revisions: list watch
ClusterRole ebb-autoscaler: serving.knative.dev revisions/status: patch
ClusterRole ebb-controller: admissionregistration.k8s.io mutatingwebhookconfigurations \
[webhook.serving.knative.dev]: get list patch watch
ClusterRole ebb-controller: admissionregistration.k8s.io validatingwebhookconfigurations \
[config.webhook.serving.knative.dev validation.webhook.serving.knative.dev]: \
get list patch watch
ClusterRole ebb-controller: apps deployments/scale: patch
ClusterRole ebb-controller: apps deployments: create get list patch watch
ClusterRole ebb-controller: core pods: list watch
ClusterRole ebb-controller: core services: create delete get list patch watch
ClusterRole ebb-controller: events.k8s.io events: create patch
ClusterRole ebb-controller: serving.knative.dev configurations revisions routes: \
create list patch watch
ClusterRole ebb-controller: serving.knative.dev configurations/finalizers revisions/finalizers \
routes/finalizers services/finalizers: update
ClusterRole ebb-controller: serving.knative.dev configurations/status revisions/status \
routes/status services/status: patch
ClusterRole ebb-controller: serving.knative.dev revisions: delete
ClusterRole ebb-controller: serving.knative.dev services: list watch
Role ebb-activator: core configmaps: list watch
Role ebb-activator: core secrets [ebb-api-keys]: list watch
Role ebb-autoscaler: coordination.k8s.io leases [ebb-autoscaler]: get update
Role ebb-autoscaler: coordination.k8s.io leases: create
Role ebb-autoscaler: core configmaps: list watch
Role ebb-controller: coordination.k8s.io leases [ebb-controller]: get update
Role ebb-controller: coordination.k8s.io leases: create
Role ebb-controller: core configmaps: list watch
Role ebb-controller: core secrets [ebb-webhook-certs]: get update
";

/// The only API group of the roles for people, which aggregate to admin, edit and view.
const PEOPLES_GROUP: &str = "serving.knative.dev";

/// Every object of deploy/ebb.yaml, which is what the chart renders.
fn objects() -> Vec<Value> {
    let text = std::fs::read_to_string(source().join("deploy/ebb.yaml")).unwrap();
    serde_saphyr::from_multiple::<Value>(&text).unwrap()
}

fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

fn named<'a>(objects: &'a [Value], kind: &'a str, name: &str) -> &'a Value {
    let found = of_kind(objects, kind).find(|object| object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

fn words(value: &Value) -> Vec<&str> {
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut words: Vec<_> = list.iter().filter_map(Value::as_str).collect();
    words.sort_unstable();
    words
}

/// A rule as a line of [`RIGHTS`].
fn line(role: &Value, right: &Value) -> String {
    let name = |part: &Value| part.as_str().unwrap_or_default().to_owned();
    let groups = words(&right["apiGroups"]).join(" ");
    let groups = if groups.is_empty() { "core" } else { &groups };
    let mut line = format!("{} {}: {groups}", name(&role["kind"]), name(&role["metadata"]["name"]));
    write!(line, " {}", words(&right["resources"]).join(" ")).unwrap();
    if !right["resourceNames"].is_null() {
        write!(line, " [{}]", words(&right["resourceNames"]).join(" ")).unwrap();
    }
    write!(line, ": {}", words(&right["verbs"]).join(" ")).unwrap();
    line
}

/// A further right needs a line here, which a reviewer will read.
#[test]
fn the_chart_grants_the_rights_that_are_listed_and_no_others() {
    let objects = objects();
    let roles = of_kind(&objects, "ClusterRole").chain(of_kind(&objects, "Role"));
    let mut granted = BTreeSet::new();
    for role in roles {
        assert!(role["aggregationRule"].is_null(), "{role}");
        for right in role["rules"].as_array().unwrap() {
            let everything = ["apiGroups", "resources", "verbs"].map(|part| words(&right[part]));
            assert!(!everything.concat().contains(&"*"), "{role}");
            assert!(right["nonResourceURLs"].is_null(), "{role}");
            if role["metadata"]["name"].as_str().unwrap().starts_with("ebb-") {
                assert!(granted.insert(line(role, right)), "twice: {right}");
            } else {
                assert_eq!(right["apiGroups"], json!([PEOPLES_GROUP]), "{role}");
            }
        }
    }
    let listed: BTreeSet<String> = RIGHTS.lines().map(str::to_owned).collect();
    assert_eq!(granted, listed);
}

/// Each account gets the roles of its own name, and nobody else gets any.
#[test]
fn the_roles_are_bound_to_the_account_of_their_name() {
    let objects = objects();
    for kind in ["ClusterRole", "Role"] {
        let binding = format!("{kind}Binding");
        let bindings: Vec<_> = of_kind(&objects, &binding).collect();
        assert_eq!(bindings.len(), 3);
        for binding in bindings {
            let name = &binding["metadata"]["name"];
            let account =
                json!([{"kind": "ServiceAccount", "name": name, "namespace": "knative-serving"}]);
            assert_eq!(binding["subjects"], account);
            let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
            assert_eq!(binding["roleRef"], role);
        }
    }
}

/// The right to patch pods is for one annotation: a policy says so, and a binding enforces it.
#[test]
fn the_autoscalers_patch_of_pods_is_held_to_one_annotation() {
    let objects = objects();
    let policy = named(&objects, "ValidatingAdmissionPolicy", "ebb-autoscaler-pods");
    let spec = &policy["spec"];
    assert_eq!(spec["failurePolicy"], "Fail");
    let rules = json!([{
        "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["UPDATE"],
    }]);
    assert_eq!(spec["matchConstraints"]["resourceRules"], rules);
    let who = "request.userInfo.username == 'system:serviceaccount:knative-serving:ebb-autoscaler'";
    assert_eq!(spec["matchConditions"][0]["expression"], who);
    assert_eq!(spec["matchConditions"].as_array().unwrap().len(), 1);
    let binding = named(&objects, "ValidatingAdmissionPolicyBinding", "ebb-autoscaler-pods");
    let bound = json!({"policyName": "ebb-autoscaler-pods", "validationActions": ["Deny"]});
    assert_eq!(binding["spec"], bound);
}

/// Pods of any namespace reach the inner door, and nothing else does.
#[test]
fn the_inner_door_is_for_pods_alone() {
    let objects = objects();
    let policy = named(&objects, "NetworkPolicy", "ebb-activator");
    let of_port = |port: &str| -> Vec<&Value> {
        let rules = policy["spec"]["ingress"].as_array().unwrap().iter();
        let is_for = |rule: &&Value| {
            rule["ports"].as_array().unwrap().iter().any(|allowed| allowed["port"] == port)
        };
        rules.filter(is_for).collect()
    };
    let inner = json!({"from": [{"namespaceSelector": {}}], "ports": [{"port": "inner"}]});
    assert_eq!(of_port("inner"), [&inner]);
    assert_eq!(of_port("http"), [&json!({"ports": [{"port": "http"}]})]);
    let activators = json!({
        "app.kubernetes.io/name": "ebb", "app.kubernetes.io/component": "activator",
    });
    let from = json!([{"podSelector": {"matchLabels": activators}}]);
    assert_eq!(of_port("peers"), [&json!({"from": from, "ports": [{"port": "peers"}]})]);
    let outer = named(&objects, "Service", "ebb-activator");
    assert_eq!(outer["spec"]["type"], "LoadBalancer");
    assert_eq!(outer["spec"]["ports"][0]["targetPort"], "http");
    let inner = named(&objects, "Service", "ebb-activator-internal");
    assert_eq!(inner["spec"]["type"], "ClusterIP");
    assert_eq!(inner["spec"]["ports"].as_array().unwrap().len(), 1);
    assert_eq!(inner["spec"]["ports"][0]["targetPort"], "inner");
    let gateway = "--gateway=ebb-activator-internal.knative-serving.svc.cluster.local";
    let controller = named(&objects, "Deployment", "ebb-controller");
    let arguments = &controller["spec"]["template"]["spec"]["containers"][0]["args"];
    assert!(words(arguments).contains(&gateway), "{arguments}");
}

/// The token that activators show has an audience of its own, and lies where they look for it.
#[test]
fn activators_have_a_token_for_each_other_and_for_the_autoscaler_alone() {
    let objects = objects();
    let activator = named(&objects, "Deployment", "ebb-activator");
    let pod = &activator["spec"]["template"]["spec"];
    let source = &pod["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(source["audience"], identity::AUDIENCE);
    let mount = &pod["containers"][0]["volumeMounts"][0];
    assert_eq!(mount["name"], pod["volumes"][0]["name"]);
    let file =
        format!("{}/{}", mount["mountPath"].as_str().unwrap(), source["path"].as_str().unwrap());
    assert_eq!(file, identity::TOKEN_FILE);
    assert_eq!(pod["serviceAccountName"], identity::ACTIVATOR_ACCOUNT);
}

/// A selector of a Deployment can never change: one more label in it would break every upgrade.
#[test]
fn every_object_has_the_usual_labels_and_is_found_by_two_of_them() {
    let objects = objects();
    let installed_as_they_are = ["CustomResourceDefinition", "Namespace"];
    let by_helm =
        |object: &&Value| !installed_as_they_are.contains(&object["kind"].as_str().unwrap());
    for object in objects.iter().filter(by_helm) {
        let labels = &object["metadata"]["labels"];
        for label in ["name", "instance", "part-of"] {
            assert_eq!(labels[format!("app.kubernetes.io/{label}")], "ebb", "{label}: {object}");
        }
        assert_eq!(labels["app.kubernetes.io/managed-by"], "Helm", "{object}");
        let version = labels["app.kubernetes.io/version"].as_str().unwrap();
        assert_eq!(labels["helm.sh/chart"], format!("ebb-{version}"), "{object}");
    }
    for deployment in of_kind(&objects, "Deployment") {
        let spec = &deployment["spec"];
        let name = deployment["metadata"]["name"].as_str().unwrap();
        let component = name.strip_prefix("ebb-").unwrap();
        let selector = json!({
            "app.kubernetes.io/name": "ebb", "app.kubernetes.io/component": component,
        });
        assert_eq!(spec["selector"]["matchLabels"], selector);
        assert_eq!(spec["template"]["metadata"]["labels"]["app.kubernetes.io/instance"], "ebb");
    }
}

/// Helm would delete a map of settings that an upgrade no longer names.
#[test]
fn the_release_remembers_which_settings_it_installed() {
    let objects = objects();
    let name = |map: &Value| map["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let installed: Vec<_> = of_kind(&objects, "ConfigMap").map(name).collect();
    assert!(installed.len() > 1, "{installed:?}");
    let account = named(&objects, "ServiceAccount", "ebb-controller");
    assert_eq!(account["metadata"]["annotations"]["ebb.dev/settings"], installed.join(" "));
}
