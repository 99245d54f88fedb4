//! The platform's admission rules, called in-process where a cluster calls a webhook.

use std::sync::Arc;

use ebb_api::config::{Config, SYSTEM_NAMESPACE};
use ebb_apiserver::ApiOptions;
use ebb_apiserver::admission::{Admission, AdmissionOperation, AdmissionVerdict, Phase, Review};
use ebb_controller::admission as rules;
use tokio::sync::watch;

/// The account under which admission sees the platform's own parts, in the platform's namespace.
const SYSTEM_ACCOUNT: &str = "controller";

/// The options that make an embedded API the API of Ebb, in memory: Ebb's kinds, its namespace, and
/// its rules under the settings of the moment.
pub fn api_options(config: watch::Receiver<Arc<Config>>) -> ApiOptions {
    ApiOptions {
        definitions: ebb_api::crd::all(),
        namespaces: vec![SYSTEM_NAMESPACE.to_owned()],
        user: format!("system:serviceaccount:{SYSTEM_NAMESPACE}:{SYSTEM_ACCOUNT}"),
        title: "Ebb".to_owned(),
        admission: Arc::new(Rules { config }),
        ..ApiOptions::memory()
    }
}

/// Knative's defaulting and validation, under the settings of the moment.
#[derive(Debug)]
struct Rules {
    config: watch::Receiver<Arc<Config>>,
}

impl Admission for Rules {
    fn review(&self, review: &Review<'_>) -> AdmissionVerdict {
        let config = Arc::clone(&self.config.borrow());
        let request = rules::Request {
            group: review.group,
            version: review.version,
            kind: review.kind,
            operation: match review.operation {
                AdmissionOperation::Create => rules::Operation::Create,
                AdmissionOperation::Update => rules::Operation::Update,
                AdmissionOperation::Delete => rules::Operation::Delete,
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
            rules::Verdict::Allowed { object, warnings } => {
                AdmissionVerdict::Allowed { object, warnings }
            }
            rules::Verdict::Denied { code, message } => AdmissionVerdict::Denied { code, message },
        }
    }
}
