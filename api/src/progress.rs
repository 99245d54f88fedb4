//! How long a Revision's pods may take to become ready, kept in one place because two parts need
//! it: the controller writes it into the Deployment, and the autoscaler gives up an activation by
//! it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::annotations::PROGRESS_DEADLINE;
use crate::config::Config;
use crate::duration;

/// The deadline by annotation or setting, in whole seconds, as Kubernetes counts it. Any other
/// annotation counts as absent, since admission refuses it.
pub fn deadline(annotations: Option<&BTreeMap<String, String>>, config: &Config) -> Duration {
    PROGRESS_DEADLINE
        .get(annotations)
        .and_then(duration::parse)
        .filter(|deadline| !deadline.is_zero() && deadline.subsec_nanos() == 0)
        .unwrap_or(config.deployment.progress_deadline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_that_admission_refuses_counts_as_absent() {
        let config = Config::default();
        let of = |text: &str| {
            let key = "serving.knative.dev/progress-deadline".to_owned();
            deadline(Some(&BTreeMap::from([(key, text.to_owned())])), &config)
        };
        assert_eq!(of("90s"), Duration::from_secs(90));
        for refused in ["500ms", "1500ms", "0s", "-1s", "soon", ""] {
            assert_eq!(of(refused), config.deployment.progress_deadline, "{refused}");
        }
        assert_eq!(deadline(None, &config), config.deployment.progress_deadline);
    }
}
