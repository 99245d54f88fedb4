//! `config-models`, a map of Ebb's own: the models host.

use std::collections::BTreeMap;

use super::{ConfigError, Reader};
use crate::names::is_subdomain;

pub(super) const MAP: &str = "config-models";

/// Settings of the models host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelsConfig {
    /// Name of the Secret, in the namespace that Ebb runs in, with the API keys that the models host
    /// asks for. Without it the models host asks for none.
    pub api_keys_secret: Option<String>,
    /// Whether the map cannot be read and never could: then nobody knows which keys are asked for, and
    /// the models host lets nobody in.
    pub is_unreadable: bool,
}

impl ModelsConfig {
    pub(super) fn parse(data: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let read = Reader { map: MAP, data };
        // A misspelt key must not mean that no key is asked for. Knative's maps have an `_example`.
        let name = read.text("api-keys-secret");
        let others = data.keys().filter(|key| *key != "api-keys-secret" && !key.starts_with('_'));
        if let Some(other) = others.min() {
            return Err(read.error(other, "is not a setting: api-keys-secret is the only one"));
        }
        read.require(
            name.is_none_or(is_subdomain),
            "api-keys-secret",
            "must be the name of a Secret, such as ebb-api-keys",
        )?;
        Ok(Self { api_keys_secret: name.map(str::to_owned), is_unreadable: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_named_or_none_is_asked_for() {
        let parsed = |value: &str| {
            ModelsConfig::parse(&[("api-keys-secret".to_owned(), value.to_owned())].into())
        };
        assert_eq!(ModelsConfig::parse(&BTreeMap::new()), Ok(ModelsConfig::default()));
        assert_eq!(parsed(" "), Ok(ModelsConfig::default()));
        for name in ["ebb-api-keys", "a", "a.b-1"] {
            assert_eq!(parsed(name).unwrap().api_keys_secret.as_deref(), Some(name));
        }
        let misspelt = ModelsConfig::parse(&[("api-key-secret".to_owned(), "a".to_owned())].into());
        assert_eq!(
            misspelt.unwrap_err().to_string(),
            "ConfigMap config-models: api-key-secret: is not a setting: api-keys-secret is the only one"
        );
        for bad in ["A", "a/b", "-a", "a-", "a..b", "a b", &"a".repeat(254)] {
            assert_eq!(
                parsed(bad).unwrap_err().to_string(),
                "ConfigMap config-models: api-keys-secret: must be the name of a Secret, such as \
                 ebb-api-keys",
                "{bad}"
            );
        }
    }
}
