//! The Revision of a Configuration's template. Source: knative/serving
//! pkg/reconciler/configuration/resources/revision.go.

use ebb_api::serving::{Configuration, ROUTING_ACTIVE, ROUTING_PENDING, Revision};
use ebb_api::start_timeout::START_TIMEOUT;
use ebb_api::starts::{STARTS, Starts};
use ebb_api::{annotations, labels, names};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use crate::owner;

/// The name that the author gave to the next Revision.
pub(super) fn chosen_name(configuration: &Configuration) -> Option<&str> {
    let metadata = configuration.spec.template.metadata.as_ref()?;
    metadata.name.as_deref().filter(|name| !name.is_empty())
}

/// The name of the Revision of this generation.
pub(super) fn name(configuration: &Configuration) -> String {
    chosen_name(configuration).map_or_else(
        || {
            let generation = configuration.metadata.generation.unwrap_or(1);
            names::revision(&configuration.name_any(), generation)
        },
        str::to_owned,
    )
}

/// The Revision of this generation: the template's metadata and spec. Of the Configuration's own
/// metadata it takes only the labels of the Service, the Routes and the user who changed it last.
/// `start_timeout` is that of a template that names none: written here and not by admission, so that
/// a new default makes no new Revisions. `starts` is what is known of those of earlier Revisions.
pub(super) fn revision(
    configuration: &Configuration,
    start_timeout: &str,
    starts: &Starts,
    now: Timestamp,
) -> Revision {
    let name = name(configuration);
    let template = configuration.spec.template.clone();
    let metadata = template.metadata.unwrap_or_default();
    let mut own = metadata.labels.unwrap_or_default();
    let mut notes = metadata.annotations.unwrap_or_default();

    let theirs = configuration.labels();
    own.extend([
        (labels::CONFIGURATION.to_owned(), configuration.name_any()),
        (
            labels::CONFIGURATION_GENERATION.to_owned(),
            configuration.metadata.generation.unwrap_or(1).to_string(),
        ),
        (labels::CONFIGURATION_UID.to_owned(), configuration.uid().unwrap_or_default()),
    ]);
    // Empty for a Configuration without a Service, as Knative has it: tools select on it.
    for key in [labels::SERVICE, labels::SERVICE_UID] {
        own.insert(key.to_owned(), theirs.get(key).cloned().unwrap_or_default());
    }
    let routes = configuration.annotations().get(annotations::ROUTES);
    let state = match routes {
        Some(routes) => {
            notes.insert(annotations::ROUTES.to_owned(), routes.clone());
            ROUTING_ACTIVE
        }
        None => ROUTING_PENDING,
    };
    own.insert(labels::ROUTING_STATE.to_owned(), state.to_owned());
    notes.insert(
        annotations::ROUTING_STATE_MODIFIED.to_owned(),
        now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    );
    if let Some(creator) = configuration.annotations().get(annotations::LAST_MODIFIER) {
        notes.insert(annotations::CREATOR.to_owned(), creator.clone());
    }

    if !start_timeout.is_empty() && START_TIMEOUT.get(Some(&notes)).is_none() {
        notes.insert(START_TIMEOUT.name().to_owned(), start_timeout.to_owned());
    }
    notes.remove(STARTS);
    if starts.p90().is_some() {
        notes.insert(STARTS.to_owned(), starts.to_string());
    }

    let mut revision = Revision::new(&name, template.spec);
    revision.metadata = owner::child(configuration, &name, own, notes);
    revision
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(routes: Option<&str>) -> Configuration {
        let mut configuration = Configuration::default();
        let metadata = &mut configuration.metadata;
        metadata.name = Some("digits".to_owned());
        metadata.namespace = Some("default".to_owned());
        metadata.uid = Some("u".to_owned());
        metadata.generation = Some(7);
        metadata.labels = Some(
            [(labels::SERVICE, "digits"), ("not-for-revisions", "x")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        );
        let notes = metadata.annotations.get_or_insert_default();
        notes.insert(annotations::LAST_MODIFIER.to_owned(), "ann".to_owned());
        if let Some(routes) = routes {
            notes.insert(annotations::ROUTES.to_owned(), routes.to_owned());
        }
        let template = configuration.spec.template.metadata.get_or_insert_default();
        template.labels = Some([("team".to_owned(), "a".to_owned())].into());
        configuration
    }

    #[test]
    fn a_revision_has_the_templates_metadata_and_says_where_it_came_from() {
        let revision =
            revision(&configuration(Some("digits")), "", &Starts::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(revision.name_any(), "digits-00007");
        let expected = [
            (labels::CONFIGURATION, "digits"),
            (labels::CONFIGURATION_GENERATION, "7"),
            (labels::CONFIGURATION_UID, "u"),
            (labels::ROUTING_STATE, "active"),
            (labels::SERVICE, "digits"),
            (labels::SERVICE_UID, ""),
            ("team", "a"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(revision.labels().clone(), expected.into());
        let expected = [
            (annotations::CREATOR, "ann"),
            (annotations::ROUTES, "digits"),
            (annotations::ROUTING_STATE_MODIFIED, "1970-01-01T00:00:00Z"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(revision.annotations().clone(), expected.into());
    }

    #[test]
    fn without_a_known_route_a_revision_is_pending() {
        let revision =
            revision(&configuration(None), "", &Starts::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(revision.labels()[labels::ROUTING_STATE], "pending");
    }

    #[test]
    fn a_default_start_timeout_is_for_templates_that_name_none() {
        let named = |of: &Configuration| {
            let revision = revision(of, "10m", &Starts::default(), Timestamp::UNIX_EPOCH);
            START_TIMEOUT.get(Some(revision.annotations())).map(str::to_owned)
        };
        let mut configuration = configuration(None);
        assert_eq!(named(&configuration).as_deref(), Some("10m"));
        let template = configuration.spec.template.metadata.get_or_insert_default();
        let own = (START_TIMEOUT.name().to_owned(), String::new());
        template.annotations = Some([own].into());
        assert_eq!(named(&configuration).as_deref(), Some(""), "none is meant");
    }

    #[test]
    fn a_revision_takes_over_what_is_known_of_starts() {
        let starts = Starts::parse("4,5");
        let revision = revision(&configuration(None), "", &starts, Timestamp::UNIX_EPOCH);
        assert_eq!(Starts::of(&revision), starts);
    }

    #[test]
    fn a_chosen_name_is_taken_as_it_is() {
        let mut configuration = configuration(None);
        configuration.spec.template.metadata.get_or_insert_default().name =
            Some("digits-blue".to_owned());
        assert_eq!(name(&configuration), "digits-blue");
    }
}
