//! Metrics of the models host: requests and tokens by API key and model, and the pace of streams.
//!
//! Labels are names of keys, which are bounded, and names that Routes declare, which are not. So there
//! are at most [`MODELS_MAX`] models and [`PAIRS_MAX`] pairs of key and model; whatever comes beyond
//! counts as the model [`OTHER`].

use std::collections::HashSet;
use std::sync::Arc;

use http::StatusCode;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::classes;

/// The model of a request that named none that is declared, and of those beyond the bounds.
const OTHER: &str = "other";
/// Most models that are told apart; each has some 40 series of histograms.
const MODELS_MAX: usize = 256;
/// Most pairs of a key and a model that are told apart; each has up to seven series.
const PAIRS_MAX: usize = 4096;
/// From an answer that was there to the start of a large model, in seconds.
const FIRST_BUCKETS: [f64; 16] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 120.0, 300.0];
/// From a small model to one that is crowded, in seconds; those of vLLM.
const BETWEEN_BUCKETS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 1.0, 2.5, 10.0];

/// All metrics of the models host.
#[derive(Debug)]
pub(crate) struct TokenMeters {
    requests: Family<KeyClassLabels, Counter>,
    prompt: Family<KeyLabels, Counter>,
    completion: Family<KeyLabels, Counter>,
    first: Family<ModelLabels, Histogram, fn() -> Histogram>,
    between: Family<ModelLabels, Histogram, fn() -> Histogram>,
    faults: Gauge,
    told_apart: Mutex<ToldApart>,
}

/// What has series of its own.
#[derive(Debug, Default)]
struct ToldApart {
    models: HashSet<Arc<str>>,
    /// Keys and models.
    pairs: HashSet<(Arc<str>, Arc<str>)>,
}

/// The series of one model's streams.
#[derive(Debug)]
pub(crate) struct StreamMeters {
    pub(crate) first: Histogram,
    pub(crate) between: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabels {
    model: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyLabels {
    key: Arc<str>,
    model: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyClassLabels {
    key: Arc<str>,
    model: Arc<str>,
    code_class: &'static str,
}

// === impl TokenMeters ===

impl TokenMeters {
    /// The metrics, registered under `ebb_activator`.
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let first: fn() -> Histogram = || Histogram::new(FIRST_BUCKETS);
        let between: fn() -> Histogram = || Histogram::new(BETWEEN_BUCKETS);
        let meters = Self {
            requests: Family::default(),
            prompt: Family::default(),
            completion: Family::default(),
            first: Family::new_with_constructor(first),
            between: Family::new_with_constructor(between),
            faults: Gauge::default(),
            told_apart: Mutex::default(),
        };
        let registry = registry.sub_registry_with_prefix("ebb_activator");
        registry.register(
            "key_requests",
            "Requests with an API key, by class of the response",
            meters.requests.clone(),
        );
        registry.register(
            "key_prompt_tokens",
            "Tokens of the prompts of requests with an API key",
            meters.prompt.clone(),
        );
        registry.register(
            "key_completion_tokens",
            "Tokens of the answers to requests with an API key",
            meters.completion.clone(),
        );
        registry.register(
            "key_faults",
            "Entries of the Secret of API keys that are left out",
            meters.faults.clone(),
        );
        registry.register(
            "time_to_first_token_seconds",
            "Time from a request's body to the first piece of its streamed answer",
            meters.first.clone(),
        );
        registry.register(
            "time_between_tokens_seconds",
            "Time between two pieces of a streamed answer",
            meters.between.clone(),
        );
        meters
    }

    /// A request with a key is done; `model` is the one that it was for, if that is known.
    pub(crate) fn request(&self, key: &Arc<str>, model: Option<&Arc<str>>, status: StatusCode) {
        let KeyLabels { key, model } = self.labels(key, model);
        let code_class = classes::of(status);
        self.requests.get_or_create(&KeyClassLabels { key, model, code_class }).inc();
    }

    /// An answer to a request with a key has cost so many tokens.
    pub(crate) fn tokens(
        &self,
        key: &Arc<str>,
        model: Option<&Arc<str>>,
        (prompt, completion): (u64, u64),
    ) {
        let labels = self.labels(key, model);
        self.prompt.get_or_create(&labels).inc_by(prompt);
        self.completion.get_or_create(&labels).inc_by(completion);
    }

    /// The series of a model's streams.
    pub(crate) fn streams(&self, model: &Arc<str>) -> StreamMeters {
        let labels = ModelLabels { model: self.told_apart.lock().model(model) };
        StreamMeters {
            first: self.first.get_or_create_owned(&labels),
            between: self.between.get_or_create_owned(&labels),
        }
    }

    /// There are these keys now, besides entries that are left out; the series of others go.
    pub(crate) fn keys(&self, names: &HashSet<&Arc<str>>, faults: usize) {
        self.faults.set(i64::try_from(faults).unwrap_or(i64::MAX));
        let mut gone = Vec::new();
        self.told_apart.lock().pairs.retain(|(key, model)| {
            let stays = names.contains(key);
            if !stays {
                gone.push(KeyLabels { key: Arc::clone(key), model: Arc::clone(model) });
            }
            stays
        });
        for labels in gone {
            for code_class in classes::ALL {
                let KeyLabels { key, model } = labels.clone();
                self.requests.remove(&KeyClassLabels { key, model, code_class });
            }
            self.prompt.remove(&labels);
            self.completion.remove(&labels);
        }
    }

    fn labels(&self, key: &Arc<str>, model: Option<&Arc<str>>) -> KeyLabels {
        let (key, model) = self.told_apart.lock().pair(key, model);
        KeyLabels { key, model }
    }
}

// === impl ToldApart ===

impl ToldApart {
    fn model(&mut self, model: &Arc<str>) -> Arc<str> {
        if self.models.contains(model) {
            return Arc::clone(model);
        }
        if self.models.len() == MODELS_MAX {
            return OTHER.into();
        }
        self.models.insert(Arc::clone(model));
        Arc::clone(model)
    }

    fn pair(&mut self, key: &Arc<str>, model: Option<&Arc<str>>) -> (Arc<str>, Arc<str>) {
        let model = model.map_or_else(|| OTHER.into(), |model| self.model(model));
        let pair = (Arc::clone(key), model);
        if self.pairs.len() < PAIRS_MAX || self.pairs.contains(&pair) {
            self.pairs.insert(pair.clone());
            return pair;
        }
        // Of these there are no more than keys. They are kept as well, to be removed with their key.
        let rest = (pair.0, Arc::from(OTHER));
        self.pairs.insert(rest.clone());
        rest
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn series(registry: &Registry, name: &str) -> Vec<String> {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        let prefix = format!("ebb_activator_{name}{{");
        let mut lines: Vec<_> =
            text.lines().filter_map(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect();
        lines.sort();
        lines
    }

    #[test]
    fn labels_are_bounded_and_go_with_their_key() {
        let mut registry = Registry::default();
        let meters = TokenMeters::new(&mut registry);
        let (ann, bob): (Arc<str>, Arc<str>) = ("ann".into(), "bob".into());
        meters.request(&ann, None, StatusCode::TOO_MANY_REQUESTS);
        for model in 0..=MODELS_MAX {
            let model = model.to_string().into();
            meters.tokens(&ann, Some(&model), (2, 1));
            drop(meters.streams(&model));
        }
        for key in 0..PAIRS_MAX {
            meters.tokens(&key.to_string().into(), Some(&"1".into()), (1, 1));
        }
        meters.tokens(&bob, Some(&"1".into()), (5, 1));
        meters.tokens(&bob, Some(&"2".into()), (5, 1));
        assert_eq!(
            series(&registry, "key_requests_total"),
            [r#"key="ann",model="other",code_class="4xx"} 1"#]
        );
        let prompt = series(&registry, "key_prompt_tokens_total");
        let of = |key: &str| {
            let label = format!("key=\"{key}\",");
            prompt.iter().filter(|line| line.starts_with(&label)).cloned().collect::<Vec<_>>()
        };
        assert_eq!(of("ann").len(), MODELS_MAX + 1);
        assert!(of("ann").contains(&r#"key="ann",model="other"} 2"#.to_owned()));
        assert_eq!(of("bob"), [r#"key="bob",model="other"} 10"#], "beyond the bound");
        assert!(prompt.len() <= PAIRS_MAX + PAIRS_MAX, "{}", prompt.len());
        assert_eq!(series(&registry, "time_to_first_token_seconds_count").len(), MODELS_MAX + 1);
        meters.keys(&HashSet::from([&bob]), 3);
        let left = series(&registry, "key_prompt_tokens_total");
        assert_eq!(left, [r#"key="bob",model="other"} 10"#]);
        assert_eq!(series(&registry, "key_requests_total"), [""; 0]);
        meters.tokens(&ann, Some(&"1".into()), (1, 0));
        assert_eq!(series(&registry, "key_prompt_tokens_total").len(), 2, "there is room again");
    }
}
