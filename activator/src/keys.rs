//! API keys of the models host: who has them, what each may use and how much of it.
//!
//! Pure. The Secret has one entry for each key ([`KeyRules`]); its name is the key's name, which logs
//! and metrics tell. Ebb knows the keys by their SHA-256 alone. A key is long and random, so a hash
//! without salt and without stretching cannot be turned back; and it is looked up in a map by its
//! hash, not compared: how long that takes says nothing about a key, for nobody can choose a key
//! whose hash comes close to another's.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::ByteString;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::entry::{DIGEST_BYTES, EntryError, KeyRules};
use self::rate::{Rate, Used};

mod entry;
mod rate;

/// Most keys: with the names of models they bound the series of metrics, and a Secret of 1 MiB has no
/// room for many more.
const KEYS_MAX: usize = 1000;
/// Longest name of a key, which is a label of metrics.
const NAME_BYTES_MAX: usize = 63;
/// Longest key: those of `OpenAI` have some 160 characters. A longer one is not hashed at all.
const KEY_BYTES_MAX: usize = 512;

/// All keys.
#[derive(Debug, Default)]
pub(crate) struct ApiKeys {
    by_digest: HashMap<[u8; DIGEST_BYTES], Arc<ApiKey>>,
}

/// One key.
#[derive(Debug)]
pub(crate) struct ApiKey {
    name: Arc<str>,
    rules: KeyRules,
    /// Shared by all versions of the key's entry, so that a change of the Secret gives nothing back.
    spent: Arc<Mutex<Spent>>,
}

/// What was used of both limits of a key.
#[derive(Debug, Default)]
struct Spent {
    requests: Used,
    tokens: Used,
}

/// Which limit of a key is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quota {
    Requests,
    Tokens,
}

/// Why a key may not be used now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exhausted {
    pub(crate) quota: Quota,
    /// The limit, as the Secret has it.
    pub(crate) per_minute: NonZeroU32,
    /// How long until it may be used again.
    pub(crate) wait: Duration,
}

/// An entry that is left out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeyFault {
    /// Its name.
    pub(crate) name: String,
    /// What is wrong with it.
    pub(crate) problem: KeyProblem,
}

/// What is wrong with an entry, by itself or among the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyProblem {
    #[error(transparent)]
    Entry(#[from] EntryError),
    #[error("its name has more than {NAME_BYTES_MAX} characters")]
    Long,
    #[error("its key is that of {0:?}")]
    Twice(Arc<str>),
    #[error("there are more than {KEYS_MAX} keys; the first by name are taken")]
    Many,
}

// === impl ApiKeys ===

impl ApiKeys {
    /// The keys of a Secret with these entries, and the entries that are left out. What was used of
    /// the keys `before` counts on.
    pub(crate) fn of(
        entries: &BTreeMap<String, ByteString>,
        before: &Self,
    ) -> (Self, Vec<KeyFault>) {
        let before: HashMap<_, _> = before.all().map(|key| (&*key.name, key)).collect();
        let (mut keys, mut faults) = (Self::default(), Vec::new());
        for (name, entry) in entries {
            match keys.rules(name, &entry.0) {
                Ok(rules) => {
                    let known = before.get(name.as_str());
                    let spent = known.map(|key| Arc::clone(&key.spent)).unwrap_or_default();
                    let key = ApiKey { name: name.as_str().into(), rules, spent };
                    keys.by_digest.insert(key.rules.digest, Arc::new(key));
                }
                Err(problem) => faults.push(KeyFault { name: name.clone(), problem }),
            }
        }
        (keys, faults)
    }

    fn rules(&self, name: &str, entry: &[u8]) -> Result<KeyRules, KeyProblem> {
        if self.by_digest.len() == KEYS_MAX {
            return Err(KeyProblem::Many);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(KeyProblem::Long);
        }
        let rules = KeyRules::parse(entry)?;
        match self.by_digest.get(&rules.digest) {
            Some(other) => Err(KeyProblem::Twice(Arc::clone(&other.name))),
            None => Ok(rules),
        }
    }

    /// The key that a client shows.
    pub(crate) fn find(&self, shown: &[u8]) -> Option<&Arc<ApiKey>> {
        if shown.len() > KEY_BYTES_MAX {
            return None;
        }
        self.by_digest.get(digest(&SHA256, shown).as_ref())
    }

    /// All keys, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &ApiKey> {
        self.by_digest.values().map(|key| &**key)
    }
}

// === impl ApiKey ===

impl ApiKey {
    /// Its name in the Secret.
    pub(crate) const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether it may use the model that a client calls so.
    pub(crate) fn may_use(&self, model: &str) -> bool {
        self.rules.may_use(model)
    }

    /// Takes one request, of a limit that is divided among `parts`; an error if a limit is used up, and
    /// then nothing is taken.
    pub(crate) fn take_request(&self, parts: NonZeroU32, now: Instant) -> Result<(), Exhausted> {
        let mut spent = self.spent.lock();
        let exhausted = |quota, per_minute, used| {
            let wait = Rate::new(per_minute, parts).wait(used, now)?;
            Some(Exhausted { quota, per_minute, wait })
        };
        let (requests, tokens) = (self.rules.requests_per_minute, self.rules.tokens_per_minute);
        let requests_out =
            requests.and_then(|most| exhausted(Quota::Requests, most, spent.requests));
        let tokens_out = tokens.and_then(|most| exhausted(Quota::Tokens, most, spent.tokens));
        // Whoever comes back after the longer wait is let in.
        if let Some(out) = requests_out.into_iter().chain(tokens_out).max_by_key(|out| out.wait) {
            return Err(out);
        }
        if let Some(most) = requests {
            Rate::new(most, parts).take(&mut spent.requests, 1, now);
        }
        Ok(())
    }

    /// Takes the tokens that an answer has cost.
    pub(crate) fn take_tokens(&self, count: u64, parts: NonZeroU32, now: Instant) {
        if let Some(most) = self.rules.tokens_per_minute {
            Rate::new(most, parts).take(&mut self.spent.lock().tokens, count, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(key: &str) -> String {
        use std::fmt::Write as _;
        digest(&SHA256, key.as_bytes()).as_ref().iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    fn entries(entries: &[(&str, &str, &str)]) -> BTreeMap<String, ByteString> {
        let entry = |(name, key, rest): &(&str, &str, &str)| {
            let text = format!(r#"{{"sha256":"{}"{rest}}}"#, hash(key));
            ((*name).to_owned(), ByteString(text.into_bytes()))
        };
        entries.iter().map(entry).collect()
    }

    fn keys(all: &[(&str, &str, &str)]) -> ApiKeys {
        let (keys, faults) = ApiKeys::of(&entries(all), &ApiKeys::default());
        assert_eq!(faults, []);
        keys
    }

    const ONE: NonZeroU32 = NonZeroU32::MIN;

    #[test]
    fn a_key_is_found_by_its_hash_and_by_nothing_else() {
        assert_eq!(hash("key"), "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683");
        let keys = keys(&[("ann", "key", ""), ("bob", "other", "")]);
        assert_eq!(&**keys.find(b"key").unwrap().name(), "ann");
        assert_eq!(&**keys.find(b"other").unwrap().name(), "bob");
        for wrong in ["", "Key", "key ", &hash("key"), &"k".repeat(KEY_BYTES_MAX + 1)] {
            assert!(keys.find(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_bad_entry_is_left_out_and_the_others_hold() {
        let mut all = entries(&[("ann", "key", ""), ("bob", "key", ""), ("eve", "e", r#","x":1"#)]);
        let long = "n".repeat(NAME_BYTES_MAX + 1);
        all.extend(entries(&[(&long, "l", "")]));
        let (keys, faults) = ApiKeys::of(&all, &ApiKeys::default());
        assert_eq!(keys.all().map(|key| &**key.name()).collect::<Vec<_>>(), ["ann"]);
        let faults: Vec<_> =
            faults.iter().map(|fault| (&*fault.name, fault.problem.to_string())).collect();
        assert_eq!(
            faults,
            [
                ("bob", "its key is that of \"ann\"".to_owned()),
                ("eve", EntryError::Field.to_string()),
                (&*long, "its name has more than 63 characters".to_owned()),
            ]
        );
        let all: Vec<_> = (0..=KEYS_MAX).map(|n| (format!("{n:04}"), n.to_string())).collect();
        let all: Vec<_> = all.iter().map(|(name, key)| (&**name, &**key, "")).collect();
        let (keys, faults) = ApiKeys::of(&entries(&all), &ApiKeys::default());
        assert_eq!(keys.all().count(), KEYS_MAX);
        assert_eq!(faults, [KeyFault { name: "1000".into(), problem: KeyProblem::Many }]);
    }

    #[test]
    fn both_limits_hold_and_a_change_of_the_secret_gives_nothing_back() {
        let rules = r#","requests-per-minute":2,"tokens-per-minute":60"#;
        let before = keys(&[("ann", "key", rules)]);
        let now = Instant::now();
        let key = before.find(b"key").unwrap();
        assert_eq!(key.take_request(ONE, now), Ok(()));
        key.take_tokens(100, ONE, now);
        let out = |quota, per_minute: u32, seconds| {
            let (per_minute, wait) = (per_minute.try_into().unwrap(), Duration::from_secs(seconds));
            Err(Exhausted { quota, per_minute, wait })
        };
        assert_eq!(key.take_request(ONE, now), out(Quota::Tokens, 60, 41));
        let later = now + Duration::from_secs(41);
        assert_eq!(key.take_request(ONE, later), Ok(()));
        assert_eq!(key.take_request(ONE, later), Ok(()), "a refused one took nothing");
        assert_eq!(key.take_request(ONE, later), out(Quota::Requests, 2, 30));
        // Another key of the same name, and a larger limit.
        let rules = r#","requests-per-minute":4"#;
        let (after, _) = ApiKeys::of(&entries(&[("ann", "new", rules)]), &before);
        assert!(after.find(b"key").is_none());
        let key = after.find(b"new").unwrap();
        assert_eq!(key.take_request(ONE, later), out(Quota::Requests, 4, 15));
    }
}
