//! Which Revision is the latest, and whether the name of the next one is free. Source:
//! knative/serving pkg/reconciler/configuration/configuration.go (CheckNameAvailability).

use std::sync::Arc;

use ebb_api::labels;
use ebb_api::serving::{Configuration, Revision};
use ebb_api::starts::Starts;
use kube::ResourceExt as _;

use super::build;
use crate::owner;

/// The Revision of the current generation.
#[derive(Debug, PartialEq)]
pub(super) enum Latest {
    /// The Revision exists.
    Exists(Arc<Revision>),
    /// The Revision must be made.
    Missing,
    /// Another Revision has its name; the message for the status.
    Taken(String),
}

/// The outcome of making the newest Revision.
pub(super) enum Newest {
    /// The Revision exists now.
    Made(Arc<Revision>),
    /// The Revision cannot be made, for this reason.
    Impossible(String),
}

/// The generation of the Configuration that stamped this Revision out.
pub(super) fn generation(revision: &Revision) -> Option<i64> {
    revision.labels().get(labels::CONFIGURATION_GENERATION)?.parse().ok()
}

/// Finds the Revision of the current generation among `revisions`.
pub(super) fn latest(configuration: &Configuration, revisions: &[Arc<Revision>]) -> Latest {
    let current = configuration.metadata.generation;
    let name = build::name(configuration);
    if let Some(revision) = revisions.iter().find(|revision| revision.name_any() == name) {
        // Under the author's own name, an equal spec is the same Revision at a later generation
        // (say, a traffic change came with it).
        let same =
            generation(revision) == current || revision.spec == configuration.spec.template.spec;
        return if owner::controls(configuration, &**revision) && same {
            Latest::Exists(revision.clone())
        } else {
            Latest::Taken(format!("revisions.serving.knative.dev {name:?} already exists"))
        };
    }
    if build::chosen_name(configuration).is_some() {
        return Latest::Missing;
    }
    // A Revision of this generation under another name: the template had a name, then lost it
    // by an edit of the stored object, or an older version named it otherwise.
    revisions
        .iter()
        .find(|revision| {
            owner::controls(configuration, &***revision) && generation(revision) == current
        })
        .map_or(Latest::Missing, |revision| Latest::Exists(revision.clone()))
}

/// What the newest Revision that knows of starts tells of them.
pub(super) fn starts(revisions: &[Arc<Revision>]) -> Starts {
    let known = revisions.iter().filter(|revision| Starts::of(revision).p90().is_some());
    // One that never started knows less than the one before it.
    let newest = known.max_by_key(|revision| (Starts::has_own(revision), generation(revision)));
    newest.map(|revision| Starts::of(revision)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(generation: i64, chosen: Option<&str>) -> Configuration {
        let mut configuration = Configuration::default();
        configuration.metadata.name = Some("digits".to_owned());
        configuration.metadata.uid = Some("u".to_owned());
        configuration.metadata.generation = Some(generation);
        let metadata = configuration.spec.template.metadata.get_or_insert_default();
        metadata.name = chosen.map(str::to_owned);
        configuration
    }

    fn revision(of: &Configuration) -> Arc<Revision> {
        Arc::new(build::revision(
            of,
            "",
            &Starts::default(),
            k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
        ))
    }

    #[test]
    fn each_generation_has_its_own_revision() {
        let first = revision(&configuration(1, None));
        let found = latest(&configuration(1, None), std::slice::from_ref(&first));
        assert_eq!(found, Latest::Exists(first.clone()));
        assert_eq!(latest(&configuration(2, None), &[first]), Latest::Missing);
    }

    #[test]
    fn a_chosen_name_is_free_ours_or_taken() {
        let blue = configuration(1, Some("digits-blue"));
        let made = revision(&blue);
        let all = [made.clone()];
        assert_eq!(latest(&blue, &[]), Latest::Missing);
        assert_eq!(latest(&blue, &all), Latest::Exists(made.clone()));
        // The same template at a later generation is the same Revision.
        let later = configuration(2, Some("digits-blue"));
        assert_eq!(latest(&later, &all), Latest::Exists(made));

        let mut changed = later;
        changed.spec.template.spec.container_concurrency = Some(1);
        let said = "revisions.serving.knative.dev \"digits-blue\" already exists".to_owned();
        assert_eq!(latest(&changed, &all), Latest::Taken(said.clone()));

        let mut foreign = configuration(1, Some("digits-blue"));
        foreign.metadata.uid = Some("other".to_owned());
        assert_eq!(latest(&foreign, &all), Latest::Taken(said));
    }

    #[test]
    fn a_revision_deleted_by_hand_is_made_again() {
        let second = configuration(2, None);
        let first = revision(&configuration(1, None));
        assert_eq!(latest(&second, &[first]), Latest::Missing);
    }
}
