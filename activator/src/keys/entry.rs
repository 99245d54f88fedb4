//! An entry of the Secret of API keys: what one key may do, in JSON.
//!
//! Not YAML: there a hash that happens to look like a number would be one. What a value is never comes
//! back in an error: it may be the key itself, put where its hash belongs.

use std::num::NonZeroU32;

use ebb_api::models::NAME_BYTES_MAX;
use serde_json::{Map, Value};

/// Bytes of a SHA-256.
pub(crate) const DIGEST_BYTES: usize = 32;
/// Largest entry: as many of the longest names as one may have, and the rest of it.
const ENTRY_BYTES_MAX: usize = 32 * 1024;
/// Most models that an entry names; more are written with `*`, or as no `models` at all.
const MODELS_MAX: usize = 64;

/// What one key may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRules {
    /// The SHA-256 of the key.
    pub(crate) digest: [u8; DIGEST_BYTES],
    /// The models that it may use; `None` for all.
    models: Option<Vec<Pattern>>,
    pub(crate) requests_per_minute: Option<NonZeroU32>,
    pub(crate) tokens_per_minute: Option<NonZeroU32>,
}

/// Names of models.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    /// This one.
    Name(String),
    /// All that begin so.
    Beginning(String),
}

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EntryError {
    #[error("it has more than {ENTRY_BYTES_MAX} bytes")]
    Long,
    #[error("it is no JSON object such as {{\"sha256\": \"...\", \"models\": [\"smol\"]}}")]
    Object,
    #[error(
        "it may have sha256, models, requests-per-minute and tokens-per-minute, and nothing else"
    )]
    Field,
    #[error("sha256 must be the SHA-256 of the key, in 64 hexadecimal digits")]
    Digest,
    #[error("models must be a list of 1 to {MODELS_MAX} names; leave it out for all models")]
    Models,
    #[error(
        "item {0} of models must be a name of a model, or the beginning of one and \"*\" after it"
    )]
    Model(usize),
    #[error("{0} must be a whole number from 1 to 4294967295; leave it out for no limit")]
    Number(&'static str),
}

// === impl KeyRules ===

impl KeyRules {
    /// Reads an entry.
    pub(crate) fn parse(entry: &[u8]) -> Result<Self, EntryError> {
        if entry.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::Long);
        }
        let Ok(Value::Object(mut fields)) = serde_json::from_slice(entry) else {
            return Err(EntryError::Object);
        };
        let rules = Self {
            digest: fields.remove("sha256").as_ref().and_then(digest).ok_or(EntryError::Digest)?,
            models: match fields.remove("models") {
                Some(models) => Some(patterns(&models)?),
                None => None,
            },
            requests_per_minute: number(&mut fields, "requests-per-minute")?,
            tokens_per_minute: number(&mut fields, "tokens-per-minute")?,
        };
        // A limit that is misspelt must not mean that there is none.
        if fields.is_empty() { Ok(rules) } else { Err(EntryError::Field) }
    }

    /// Whether the key may use the model that a client calls so. What the client says counts, and not
    /// where it leads: another namespace's `smol` is another model.
    pub(crate) fn may_use(&self, model: &str) -> bool {
        let Some(patterns) = &self.models else { return true };
        patterns.iter().any(|pattern| match pattern {
            Pattern::Name(name) => name == model,
            Pattern::Beginning(beginning) => model.starts_with(beginning.as_str()),
        })
    }
}

fn digest(value: &Value) -> Option<[u8; DIGEST_BYTES]> {
    let text = value.as_str()?.as_bytes();
    let mut digest = [0; DIGEST_BYTES];
    if text.len() != 2 * DIGEST_BYTES {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(digest)
}

fn patterns(value: &Value) -> Result<Vec<Pattern>, EntryError> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() || items.len() > MODELS_MAX {
        return Err(EntryError::Models);
    }
    let read = |(place, item): (usize, &Value)| {
        item.as_str().and_then(pattern).ok_or(EntryError::Model(place + 1))
    };
    items.iter().enumerate().map(read).collect()
}

fn pattern(text: &str) -> Option<Pattern> {
    let is_name = |name: &str| {
        // A namespace and a tag may come with the name.
        name.len() <= 2 * NAME_BYTES_MAX
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "._:/@+-".contains(c))
    };
    match text.strip_suffix('*') {
        Some(beginning) => is_name(beginning).then(|| Pattern::Beginning(beginning.to_owned())),
        None => (!text.is_empty() && is_name(text)).then(|| Pattern::Name(text.to_owned())),
    }
}

fn number(
    fields: &mut Map<String, Value>,
    name: &'static str,
) -> Result<Option<NonZeroU32>, EntryError> {
    let Some(value) = fields.remove(name) else { return Ok(None) };
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    match number.and_then(NonZeroU32::new) {
        Some(number) => Ok(Some(number)),
        None => Err(EntryError::Number(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The SHA-256 of the text `key`, as `printf key | sha256sum` tells it.
    const DIGEST: &str = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683";

    fn parse(rest: &str) -> Result<KeyRules, EntryError> {
        KeyRules::parse(format!(r#"{{"sha256":"{DIGEST}"{rest}}}"#).as_bytes())
    }

    #[test]
    fn an_entry_says_what_a_key_may_do() {
        let all = parse("").unwrap();
        assert_eq!((all.digest[0], all.digest[31]), (0x2c, 0x83));
        assert_eq!((all.requests_per_minute, all.tokens_per_minute), (None, None));
        assert!(all.may_use("anything"));
        let some = parse(
            r#","models":["smol","qwen*","b/smol"],"requests-per-minute":60,"tokens-per-minute":1"#,
        );
        let some = some.unwrap();
        assert_eq!(some.requests_per_minute, NonZeroU32::new(60));
        assert_eq!(some.tokens_per_minute, NonZeroU32::new(1));
        for (model, may) in [
            ("smol", true),
            ("smol:canary", false),
            ("smollm", false),
            ("Smol", false),
            ("a/smol", false),
            ("b/smol", true),
            ("qwen", true),
            ("qwen:8b", true),
            ("my-qwen", false),
            ("", false),
        ] {
            assert_eq!(some.may_use(model), may, "{model}");
        }
        assert!(parse(r#","models":["*"]"#).unwrap().may_use("anything"));
        let upper = format!(r#"{{"sha256":"{}"}}"#, DIGEST.to_uppercase());
        assert_eq!(KeyRules::parse(upper.as_bytes()).unwrap().digest, all.digest);
    }

    #[test]
    fn what_is_wrong_with_an_entry_is_said_without_what_stands_in_it() {
        let key = "sk-a-key-that-was-put-where-its-hash-belongs";
        let long = "x".repeat(ENTRY_BYTES_MAX + 1);
        let many = format!("[{}]", vec!["\"a\""; MODELS_MAX + 1].join(","));
        for (entry, problem) in [
            (key.to_owned(), EntryError::Object),
            (String::new(), EntryError::Object),
            (format!("[\"{key}\"]"), EntryError::Object),
            (format!("{{\"sha256\":\"{key}\"}}"), EntryError::Digest),
            (format!("{{\"sha256\":\"{}\"}}", "g".repeat(64)), EntryError::Digest),
            (format!("{{\"sha256\":\"{}\"}}", "é".repeat(32)), EntryError::Digest),
            ("{}".to_owned(), EntryError::Digest),
            (format!("{{\"sha256\":\"{DIGEST}\",\"{key}\":1}}"), EntryError::Field),
            (format!("{{\"sha256\":\"{DIGEST}\",\"models\":{many}}}"), EntryError::Models),
            (long, EntryError::Long),
        ] {
            let error = KeyRules::parse(entry.as_bytes()).unwrap_err();
            assert_eq!(error, problem, "{entry}");
            assert!(!error.to_string().contains(key), "{error}");
        }
        for (rest, problem) in [
            (r#","models":[]"#, EntryError::Models),
            (r#","models":"smol""#, EntryError::Models),
            (r#","models":["smol",""]"#, EntryError::Model(2)),
            (r#","models":["a*b"]"#, EntryError::Model(1)),
            (r#","models":["a b"]"#, EntryError::Model(1)),
            (r#","models":[1]"#, EntryError::Model(1)),
            (r#","requests-per-minute":0"#, EntryError::Number("requests-per-minute")),
            (r#","requests-per-minute":"60""#, EntryError::Number("requests-per-minute")),
            (r#","tokens-per-minute":1.5"#, EntryError::Number("tokens-per-minute")),
            (r#","tokens-per-minute":-1"#, EntryError::Number("tokens-per-minute")),
            (r#","tokens-per-minute":4294967296"#, EntryError::Number("tokens-per-minute")),
            (r#","token-per-minute":1"#, EntryError::Field),
        ] {
            assert_eq!(parse(rest), Err(problem), "{rest}");
        }
    }
}
