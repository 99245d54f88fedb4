//! A container's environment: inherited variables, `envFrom`, `env` with references.
//!
//! The objects that the references name are fetched first ([`fetch`], the only part that asks the
//! API); the rest is a pure function of them. A container without references asks nothing.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVarSource, ObjectFieldSelector, Pod, Secret,
};
use kube::{Api, Client, ResourceExt};

use super::devices::Devices;
use super::expansion::{START_BYTES_MAX, TooLong, expand};
use super::status::LOOPBACK;

/// Names of ConfigMaps and Secrets that a container's environment refers to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct References {
    config_maps: BTreeSet<String>,
    secrets: BTreeSet<String>,
}

/// The contents of the objects that the references name; one that does not exist is absent.
#[derive(Debug, Default)]
pub(super) struct Sources {
    config_maps: BTreeMap<String, BTreeMap<String, String>>,
    secrets: BTreeMap<String, BTreeMap<String, String>>,
}

/// Why an environment cannot be built; in kubelet's words where it has some.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnvironmentError {
    #[error("{kind} \"{name}\" not found")]
    NoObject { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey { kind: &'static str, namespace: String, name: String, key: String },
    #[error("variable {name}: {what} is not supported in local mode: set a value instead")]
    Unsupported { name: String, what: String },
    #[error("variable {name}: the key {key} of secret \"{secret}\" is not text")]
    NotText { name: String, secret: String, key: String },
    #[error("variable {name} is {source}: shorten it")]
    TooLong { name: String, source: TooLong },
    #[error(
        "the environment is larger than {START_BYTES_MAX} bytes, which no program can be \
         started with: use fewer or shorter variables"
    )]
    TooLarge,
    #[error("cannot read {kind} \"{name}\"")]
    Api {
        kind: &'static str,
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
}

const CONFIG_MAP: &str = "configmap";
const SECRET: &str = "secret";

// === impl References ===

impl References {
    pub(super) fn of(container: &Container) -> Self {
        let mut references = Self::default();
        for source in container.env_from.iter().flatten() {
            let config_map = source.config_map_ref.as_ref().map(|r| r.name.clone());
            let secret = source.secret_ref.as_ref().map(|r| r.name.clone());
            references.config_maps.extend(config_map);
            references.secrets.extend(secret);
        }
        let variables = container.env.iter().flatten();
        for source in variables.filter_map(|variable| variable.value_from.as_ref()) {
            let config_map = source.config_map_key_ref.as_ref().map(|r| r.name.clone());
            let secret = source.secret_key_ref.as_ref().map(|r| r.name.clone());
            references.config_maps.extend(config_map);
            references.secrets.extend(secret);
        }
        references
    }
}

/// Asks the API for the objects that `references` name.
pub(super) async fn fetch(
    client: &Client,
    namespace: &str,
    references: &References,
) -> Result<Sources, EnvironmentError> {
    let mut sources = Sources::default();
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    for name in &references.config_maps {
        let found = api.get_opt(name).await.map_err(unread(CONFIG_MAP, name))?;
        if let Some(object) = found {
            let data = object.data.unwrap_or_default();
            sources.config_maps.insert(name.clone(), data);
        }
    }
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    for name in &references.secrets {
        let found = api.get_opt(name).await.map_err(unread(SECRET, name))?;
        if let Some(object) = found {
            sources.secrets.insert(name.clone(), text_of(object)?);
        }
    }
    Ok(sources)
}

fn unread(kind: &'static str, name: &str) -> impl FnOnce(kube::Error) -> EnvironmentError {
    let name = name.to_owned();
    move |source| EnvironmentError::Api { kind, name, source: Box::new(source) }
}

/// A secret's values, which have to be text to be variables.
fn text_of(secret: Secret) -> Result<BTreeMap<String, String>, EnvironmentError> {
    let name = secret.name_any();
    let values = secret.data.unwrap_or_default();
    values
        .into_iter()
        .map(|(key, value)| {
            let text = String::from_utf8(value.0).map_err(|_| EnvironmentError::NotText {
                name: key.clone(),
                secret: name.clone(),
                key: key.clone(),
            })?;
            Ok((key, text))
        })
        .collect()
}

/// The container's environment, on top of what it inherits: `envFrom` first, then `env` in its
/// order, each value seeing those before it.
pub(super) fn build(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    inherited: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, EnvironmentError> {
    let mut variables = inherited.clone();
    let mut bytes = 0;
    variables.insert("HOSTNAME".to_owned(), pod.name_any());
    variables.extend(Devices::variables(pod, container));
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let (kind, name, optional, objects) = match (&source.config_map_ref, &source.secret_ref) {
            (Some(r), _) => (CONFIG_MAP, &r.name, r.optional, &sources.config_maps),
            (None, Some(r)) => (SECRET, &r.name, r.optional, &sources.secrets),
            (None, None) => continue,
        };
        match objects.get(name) {
            Some(values) => {
                for (key, value) in values {
                    bytes += prefix.len() + key.len() + value.len();
                    if bytes > START_BYTES_MAX {
                        return Err(EnvironmentError::TooLarge);
                    }
                    variables.insert(format!("{prefix}{key}"), value.clone());
                }
            }
            None if optional == Some(true) => {}
            None => {
                let name = name.clone();
                return Err(EnvironmentError::NoObject { kind, name });
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = if let Some(source) = &variable.value_from {
            refer(pod, &variable.name, source, sources)?
        } else {
            let value = variable.value.as_deref().unwrap_or_default();
            let name = || variable.name.clone();
            let expanded = expand(value, &variables);
            Some(expanded.map_err(|source| EnvironmentError::TooLong { name: name(), source })?)
        };
        bytes += variable.name.len() + value.as_ref().map_or(0, String::len);
        if bytes > START_BYTES_MAX {
            return Err(EnvironmentError::TooLarge);
        }
        variables.extend(value.map(|value| (variable.name.clone(), value)));
    }
    Ok(variables)
}

/// The value that a reference names; `None` if an optional reference names nothing.
fn refer(
    pod: &Pod,
    variable: &str,
    source: &EnvVarSource,
    sources: &Sources,
) -> Result<Option<String>, EnvironmentError> {
    let (kind, name, key, optional, objects) = if let Some(r) = source.config_map_key_ref.as_ref() {
        (CONFIG_MAP, &r.name, &r.key, r.optional, &sources.config_maps)
    } else if let Some(r) = source.secret_key_ref.as_ref() {
        (SECRET, &r.name, &r.key, r.optional, &sources.secrets)
    } else if let Some(field) = source.field_ref.as_ref() {
        return field_of(pod, variable, field).map(Some);
    } else {
        return Err(EnvironmentError::Unsupported {
            name: variable.to_owned(),
            what: "this kind of valueFrom".to_owned(),
        });
    };
    let object = objects.get(name);
    let value = object.and_then(|values| values.get(key));
    if value.is_some() || optional == Some(true) {
        return Ok(value.cloned());
    }
    let name = name.clone();
    Err(if object.is_none() {
        EnvironmentError::NoObject { kind, name }
    } else {
        EnvironmentError::NoKey {
            kind,
            namespace: pod.namespace().unwrap_or_default(),
            name,
            key: key.clone(),
        }
    })
}

/// What a field of the pod says; `variable` names who asks.
pub(super) fn field_of(
    pod: &Pod,
    variable: &str,
    field: &ObjectFieldSelector,
) -> Result<String, EnvironmentError> {
    let path = field.field_path.as_str();
    let spec = pod.spec.as_ref();
    let entry = |map: &BTreeMap<String, String>, key: &str| map.get(key).cloned();
    let value = match path {
        "metadata.name" => Some(pod.name_any()),
        "metadata.namespace" => pod.namespace(),
        "metadata.uid" => pod.uid(),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()),
        "spec.serviceAccountName" => {
            Some(spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default())
        }
        "status.podIP" | "status.podIPs" | "status.hostIP" | "status.hostIPs" => {
            Some(LOOPBACK.to_owned())
        }
        _ => match subscript(path) {
            Some(("metadata.labels", key)) => Some(entry(pod.labels(), key).unwrap_or_default()),
            Some(("metadata.annotations", key)) => {
                Some(entry(pod.annotations(), key).unwrap_or_default())
            }
            _ => None,
        },
    };
    value.ok_or_else(|| EnvironmentError::Unsupported {
        name: variable.to_owned(),
        what: format!("the field {path}"),
    })
}

/// Splits `metadata.labels['app']` into its two parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(env: &serde_json::Value) -> Pod {
        let mut container = json!({"name": "c"});
        for (key, value) in env.as_object().expect("an object") {
            container[key] = value.clone();
        }
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "m"}},
            "spec": {"containers": [container]},
        }))
        .expect("a pod")
    }

    fn built(env: &serde_json::Value) -> Result<BTreeMap<String, String>, EnvironmentError> {
        let pod = pod(env);
        let container = pod.spec.clone().unwrap_or_default().containers.remove(0);
        let values = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let sources = Sources {
            config_maps: BTreeMap::from([("settings".to_owned(), values("mode", "fast"))]),
            secrets: BTreeMap::from([("keys".to_owned(), values("TOKEN", "s3cret"))]),
        };
        let inherited = values("PATH", "/bin");
        build(&pod, &container, &sources, &inherited)
    }

    #[test]
    fn every_kind_of_variable_is_resolved() {
        let variables = built(&json!({
            "envFrom": [{"prefix": "K_", "secretRef": {"name": "keys"}}],
            "env": [
                {"name": "PORT", "value": "41001"},
                {"name": "URL", "value": "http://$(IP):$(PORT)"},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "URL2", "value": "http://$(IP):$(PORT)"},
                {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "mode"}}},
                {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y", "optional": true}}},
            ],
        }))
        .expect("all of it exists");
        let value = |name: &str| variables.get(name).map(String::as_str);
        assert_eq!(value("PATH"), Some("/bin"));
        assert_eq!(value("HOSTNAME"), Some("p"));
        assert_eq!(value("K_TOKEN"), Some("s3cret"));
        assert_eq!(value("URL"), Some("http://$(IP):41001"), "only what came before is known");
        assert_eq!(value("URL2"), Some("http://127.0.0.1:41001"));
        assert_eq!(value("MODE"), Some("fast"));
        assert_eq!(value("APP"), Some("m"));
        assert_eq!(value("NONE"), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let cases = [
            (
                json!({"envFrom": [{"configMapRef": {"name": "nope"}}]}),
                "configmap \"nope\" not found",
            ),
            (
                json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "k"}}}]}),
                "couldn't find key k in secret ns/keys",
            ),
            (
                json!({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]}),
                "variable A: this kind of valueFrom is not supported in local mode: set a value instead",
            ),
        ];
        for (env, expected) in cases {
            assert_eq!(built(&env).expect_err("something is missing").to_string(), expected);
        }
    }

    /// Thirty variables of a few bytes each could make a gibibyte, and again at each start.
    #[test]
    fn a_chain_of_variables_that_doubles_is_refused() {
        let chain = |links: u32, length: usize| {
            let first = json!({"name": "V0", "value": "x".repeat(length)});
            let others = (1..links).map(|link| {
                let before = link - 1;
                json!({"name": format!("V{link}"), "value": format!("$(V{before})$(V{before})")})
            });
            json!({"env": std::iter::once(first).chain(others).collect::<Vec<_>>()})
        };
        assert_eq!(built(&chain(11, 1)).expect("a kilobyte")["V10"].len(), 1 << 10);
        assert_eq!(
            built(&chain(30, 1)).expect_err("a gibibyte").to_string(),
            "variable V18 is longer than 131072 bytes once its $(NAME) references are expanded: \
             shorten it"
        );
        let many = (0..100).map(|number| json!({"name": format!("M{number}"), "value": "$(V16)"}));
        let mut wide = chain(17, 1);
        wide["env"].as_array_mut().expect("a list").extend(many);
        let error = built(&wide).expect_err("6.5 MB");
        assert!(error.to_string().starts_with("the environment is larger than "), "{error}");
        // The same map under many names.
        let prefix = |number| format!("{}{number}", "P".repeat(200));
        let same = |number| json!({"prefix": prefix(number), "configMapRef": {"name": "settings"}});
        let error = built(&json!({"envFrom": (0..20_000).map(same).collect::<Vec<_>>()}));
        let error = error.expect_err("4 MB");
        assert!(error.to_string().starts_with("the environment is larger than "), "{error}");
    }

    #[test]
    fn a_container_without_references_needs_no_lookup() {
        let container = Container { env: Some(Vec::new()), ..Container::default() };
        assert_eq!(References::of(&container), References::default());
    }
}
