//! Who may use the models host: everybody, or whoever shows an API key of the Secret.
//!
//! While keys are asked for and cannot be known, nobody is let in.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::header::{self, HeaderMap, HeaderName};
use k8s_openapi::api::core::v1::Secret;
use parking_lot::Mutex;

use crate::error::ModelError;
use crate::keys::{ApiKey, ApiKeys};
use crate::revision::RevisionContext;

/// Anthropic's header for a key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The scheme of `Authorization` with which `OpenAI`'s SDKs show a key.
const SCHEME: &[u8] = b"bearer";

/// Lets requests in.
pub(crate) struct Gate {
    context: Arc<RevisionContext>,
    access: ArcSwap<Access>,
    /// The name of the Secret, if keys are asked for. This lock is held for each change.
    secret: Mutex<Option<String>>,
}

#[derive(Debug)]
enum Access {
    /// No key is asked for.
    Open,
    /// Keys are asked for, and the Secret is not there or was not read yet.
    Shut,
    Keys(ApiKeys),
}

// === impl Gate ===

impl Gate {
    /// A gate that asks for no key.
    pub(crate) fn new(context: Arc<RevisionContext>) -> Self {
        Self { context, access: ArcSwap::from_pointee(Access::Open), secret: Mutex::default() }
    }

    /// Lets a request to the models host in by the key that it shows; `None` where no key is asked for.
    /// The key does not go on: it is not for the model's server. Nor does a wish for a compressed answer,
    /// whose tokens could not be read.
    pub(crate) fn enter(&self, headers: &mut HeaderMap) -> Result<Option<Arc<ApiKey>>, ModelError> {
        let access = self.access.load();
        let keys = match &**access {
            Access::Open => return Ok(None),
            Access::Shut => return Err(ModelError::KeysUnread),
            Access::Keys(keys) => keys,
        };
        let shown = shown(headers)?;
        let key = keys.find(shown).ok_or(ModelError::KeyUnknown)?;
        headers.remove(header::AUTHORIZATION);
        headers.remove(API_KEY);
        headers.remove(header::ACCEPT_ENCODING);
        Ok(Some(Arc::clone(key)))
    }

    /// Lets nobody in from now on: which keys are asked for cannot be read.
    pub(crate) fn shut(&self) {
        let mut secret = self.secret.lock();
        *secret = Some(String::new());
        tracing::error!("config-models cannot be read: the models host lets nobody in");
        self.publish(Access::Shut, 0);
    }

    /// Asks for the keys of this Secret from now on, or for none. Until [`Gate::change`] tells of
    /// another Secret, nobody is let in.
    pub(crate) fn ask_for(&self, name: Option<&str>) {
        let mut secret = self.secret.lock();
        if secret.as_deref() == name {
            return;
        }
        *secret = name.map(str::to_owned);
        tracing::info!(
            secret.name = name.unwrap_or_default(),
            "The models host {}",
            if name.is_some() { "asks for API keys" } else { "asks for no API key" }
        );
        self.publish(if name.is_some() { Access::Shut } else { Access::Open }, 0);
    }

    /// Takes the Secret as it is now, or that it is not there.
    pub(crate) fn change(&self, found: Option<&Secret>) {
        let secret = self.secret.lock();
        let Some(name) = &*secret else { return };
        let Some(found) = found else {
            tracing::warn!(
                secret.name = name,
                "The Secret of API keys is missing: the models host refuses all requests"
            );
            return self.publish(Access::Shut, 0);
        };
        let nothing = ApiKeys::default();
        let before = self.access.load();
        let before = match &**before {
            Access::Keys(keys) => keys,
            Access::Open | Access::Shut => &nothing,
        };
        let (keys, faults) = match &found.data {
            Some(entries) => ApiKeys::of(entries, before),
            None => Default::default(),
        };
        for fault in &faults {
            let (name, problem) = (&fault.name, &fault.problem);
            tracing::warn!(key.name = name, %problem, "An API key is left out");
        }
        self.publish(Access::Keys(keys), faults.len());
    }

    fn publish(&self, access: Access, faults: usize) {
        let names = match &access {
            Access::Keys(keys) => keys.all().map(ApiKey::name).collect(),
            Access::Open | Access::Shut => HashSet::new(),
        };
        self.context.meters.tokens.keys(&names, faults);
        self.access.store(Arc::new(access));
    }
}

/// The key that a request shows. `Authorization` counts before Anthropic's header; two of one name are
/// none, for a server might take either.
fn shown(headers: &HeaderMap) -> Result<&[u8], ModelError> {
    let only = |name: HeaderName| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(_), Some(_)) => Err(ModelError::KeyUnknown),
            (value, _) => Ok(value.map(|value| value.as_bytes().trim_ascii())),
        }
    };
    if let Some(value) = only(header::AUTHORIZATION)? {
        let (scheme, key) = value.split_at_checked(SCHEME.len()).unwrap_or((value, b""));
        let is_bearer = scheme.eq_ignore_ascii_case(SCHEME) && key.starts_with(b" ");
        let key = key.trim_ascii();
        return if is_bearer && !key.is_empty() { Ok(key) } else { Err(ModelError::KeyMissing) };
    }
    only(API_KEY)?.filter(|key| !key.is_empty()).ok_or(ModelError::KeyMissing)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_is_shown_in_one_of_two_ways() {
        let told = |lines: &[(HeaderName, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(name, HeaderValue::from_static(value));
            }
            shown(&headers).map(|key| String::from_utf8(key.to_vec()).unwrap())
        };
        let (auth, own) = (header::AUTHORIZATION, API_KEY);
        for value in ["Bearer abc", "bearer abc", "BEARER   abc "] {
            assert_eq!(told(&[(auth.clone(), value)]).as_deref(), Ok("abc"), "{value}");
        }
        assert_eq!(told(&[(own.clone(), "abc")]).as_deref(), Ok("abc"));
        assert_eq!(
            told(&[(own.clone(), "no"), (auth.clone(), "Bearer abc")]).as_deref(),
            Ok("abc")
        );
        for value in ["", "Bearer", "Bearer ", "Bearerabc", "Basic abc", "abc"] {
            assert_eq!(told(&[(auth.clone(), value)]), Err(ModelError::KeyMissing), "{value}");
        }
        assert_eq!(told(&[]), Err(ModelError::KeyMissing));
        assert_eq!(told(&[(own.clone(), "")]), Err(ModelError::KeyMissing));
        for name in [auth, own] {
            let twice = [(name.clone(), "Bearer abc"), (name, "Bearer abc")];
            assert_eq!(told(&twice), Err(ModelError::KeyUnknown));
        }
    }
}
