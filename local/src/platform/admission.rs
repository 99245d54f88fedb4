//! The platform's admission rules, called in-process where a cluster calls a webhook.

use std::sync::Arc;

use ebb_api::config::Config;
use ebb_apiserver::admission::{Admission, Operation, Phase, Review, Verdict};
use ebb_controller::admission as rules;
use tokio::sync::watch;

/// Knative's defaulting and validation, under the settings of the moment.
#[derive(Debug)]
pub struct Rules {
    config: watch::Receiver<Arc<Config>>,
}

impl Rules {
    /// Rules that follow these settings.
    pub fn new(config: watch::Receiver<Arc<Config>>) -> Self {
        Self { config }
    }
}

impl Admission for Rules {
    fn review(&self, review: &Review<'_>) -> Verdict {
        let config = Arc::clone(&self.config.borrow());
        let request = rules::Request {
            group: review.group,
            version: review.version,
            kind: review.kind,
            operation: match review.operation {
                Operation::Create => rules::Operation::Create,
                Operation::Update => rules::Operation::Update,
                Operation::Delete => rules::Operation::Delete,
            },
            subresource: review.subresource,
            object: review.object,
            old: review.old,
            username: Some(review.user),
        };
        let verdict = match review.phase {
            Phase::Mutate => rules::mutate(&request, &config).passed_on(rules::MUTATING_WEBHOOK),
            Phase::Validate => {
                rules::validate(&request, &config).passed_on(rules::validating_webhook(&request))
            }
        };
        match verdict {
            rules::Verdict::Allowed { object, warnings } => Verdict::Allowed { object, warnings },
            rules::Verdict::Denied { code, message } => Verdict::Denied { code, message },
        }
    }
}
