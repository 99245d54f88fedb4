//! Knative's defaulting, as pure functions: fills in what an object's author left out.
//!
//! Source: knative/serving pkg/apis/serving/v1/*_defaults.go. The result depends only on the
//! object, the settings and the [`Occasion`], so that a default can be computed anywhere: in a
//! webhook, in the embedded API, in a test.
//!
//! Invariants: defaulting changes no value that was set, except zeros that Knative reads as unset
//! (`timeoutSeconds`, and the thresholds and timeout of a readiness probe), mounts that become
//! read-only, and the annotations that name the author. Defaulting twice is the same as defaulting
//! once.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

mod revision;
#[cfg(test)]
mod tests;

use crate::annotations::{CREATOR, LAST_MODIFIER};
use crate::config::Config;
use crate::serving::{
    Configuration, ConfigurationSpec, Revision, RevisionTemplateSpec, Route, RouteSpec, Service,
    ServiceSpec, TrafficTarget,
};

/// Why an object is defaulted.
#[derive(Debug)]
pub enum Occasion<'a, T> {
    /// The object is created.
    Create {
        /// Name of the user who creates it, if known.
        by: Option<&'a str>,
    },
    /// The object replaces an older version.
    Update {
        /// The version that it replaces.
        old: &'a T,
        /// Name of the user who changes it, if known.
        by: Option<&'a str>,
    },
}

// Derived implementations would require `T: Copy`.
impl<T> Clone for Occasion<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Occasion<'_, T> {}

// === impl Occasion ===

impl<'a, T> Occasion<'a, T> {
    fn old(self) -> Option<&'a T> {
        match self {
            Self::Update { old, .. } => Some(old),
            Self::Create { .. } => None,
        }
    }
}

/// Defaults a Service: its template, its traffic and the annotations that name its author.
pub fn service(object: &mut Service, occasion: Occasion<'_, Service>, config: &Config) {
    let previous = occasion.old().map(|old| &old.spec.template);
    let ServiceSpec { template, traffic } = &mut object.spec;
    next_template(template, previous, config);
    service_traffic(traffic);
    let changed = |old: &Service| service_changed(old, object, config);
    let author = Author::of(occasion, changed);
    author.write(&mut object.metadata);
}

/// Defaults a Configuration: its template, and the annotations that name its author unless it is
/// owned by another object.
pub fn configuration(
    object: &mut Configuration,
    occasion: Occasion<'_, Configuration>,
    config: &Config,
) {
    let previous = occasion.old().map(|old| &old.spec.template);
    let ConfigurationSpec { template } = &mut object.spec;
    next_template(template, previous, config);
    if object.metadata.owner_references.is_none() {
        let changed = |old: &Configuration| configuration_changed(old, object, config);
        let author = Author::of(occasion, changed);
        author.write(&mut object.metadata);
    }
}

/// Defaults a Route: its targets, and the annotations that name its author unless it is owned by
/// another object.
pub fn route(object: &mut Route, occasion: Occasion<'_, Route>) {
    let RouteSpec { traffic } = &mut object.spec;
    latest_revision(traffic);
    if object.metadata.owner_references.is_none() {
        let changed = |old: &Route| route_changed(old, object);
        let author = Author::of(occasion, changed);
        author.write(&mut object.metadata);
    }
}

/// Defaults a Revision when it is created; later its spec may not change, not even by a default.
pub fn revision(object: &mut Revision, occasion: Occasion<'_, Revision>, config: &Config) {
    match occasion {
        Occasion::Create { .. } => revision::spec(&mut object.spec, true, config),
        Occasion::Update { .. } => {}
    }
}

/// Whether the specs of two versions of a Service differ once both have today's defaults.
pub(crate) fn service_changed(old: &Service, new: &Service, config: &Config) -> bool {
    let traffic = |object: &Service| {
        let mut traffic = object.spec.traffic.clone();
        service_traffic(&mut traffic);
        traffic
    };
    let (before, after) = comparable(&old.spec.template, &new.spec.template, config);
    before != after || traffic(old) != traffic(new)
}

/// Whether the specs of two versions of a Configuration differ once both have today's defaults.
pub(crate) fn configuration_changed(
    old: &Configuration,
    new: &Configuration,
    config: &Config,
) -> bool {
    let (before, after) = comparable(&old.spec.template, &new.spec.template, config);
    before != after
}

/// Whether the specs of two versions of a Route differ once both have today's defaults.
pub(crate) fn route_changed(old: &Route, new: &Route) -> bool {
    let traffic = |object: &Route| {
        let mut traffic = object.spec.traffic.clone();
        latest_revision(&mut traffic);
        traffic
    };
    traffic(old) != traffic(new)
}

/// Two versions of a template under today's defaults.
pub(crate) fn comparable(
    old: &RevisionTemplateSpec,
    new: &RevisionTemplateSpec,
    config: &Config,
) -> (RevisionTemplateSpec, RevisionTemplateSpec) {
    let links = old.spec.pod.enable_service_links.is_some();
    (filled(old, links, config), filled(new, links, config))
}

/// Defaults a template; `previous` is the template that it replaces, if there is one.
fn next_template(
    template: &mut RevisionTemplateSpec,
    previous: Option<&RevisionTemplateSpec>,
    config: &Config,
) {
    // An object that was stored without `enableServiceLinks`, before this default existed, stays
    // without: with the default, it would ask for a new Revision that nobody wants.
    let links = previous.is_none_or(|old| old.spec.pod.enable_service_links.is_some());
    let next = filled(template, links, config);
    // A template that keeps the name that its author chose stays as it is, unless its defaulted
    // form equals the previous template: a default added since would change the template but not
    // its name.
    let name = template_name(template);
    let keeps_its_name = name.is_some() && name == previous.and_then(template_name);
    if !keeps_its_name || Some(&next) == previous {
        *template = next;
    }
}

fn filled(template: &RevisionTemplateSpec, links: bool, config: &Config) -> RevisionTemplateSpec {
    let mut template = template.clone();
    revision::spec(&mut template.spec, links, config);
    template
}

fn service_traffic(traffic: &mut Vec<TrafficTarget>) {
    if traffic.is_empty() {
        traffic.push(TrafficTarget {
            percent: Some(100),
            latest_revision: Some(true),
            ..TrafficTarget::default()
        });
    }
    latest_revision(traffic);
}

/// The name that a template's author chose for the next Revision.
pub(crate) fn template_name(template: &RevisionTemplateSpec) -> Option<&str> {
    let name = template.metadata.as_ref()?.name.as_deref()?;
    (!name.is_empty()).then_some(name)
}

fn latest_revision(traffic: &mut [TrafficTarget]) {
    for target in traffic {
        if target.latest_revision.is_none() {
            let pinned = target.revision_name.as_ref().is_some_and(|n| !n.is_empty());
            target.latest_revision = Some(!pinned);
        }
    }
}

/// The user to record as creator or last modifier of an object.
enum Author<'a> {
    Creator(&'a str),
    Modifier(&'a str),
    Nobody,
}

impl<'a> Author<'a> {
    fn of<T>(occasion: Occasion<'a, T>, changed: impl FnOnce(&T) -> bool) -> Self {
        match occasion {
            Occasion::Create { by: Some(name) } => Self::Creator(name),
            Occasion::Update { old, by: Some(name) } if changed(old) => Self::Modifier(name),
            Occasion::Create { .. } | Occasion::Update { .. } => Self::Nobody,
        }
    }

    fn write(self, metadata: &mut ObjectMeta) {
        let annotations: &mut BTreeMap<_, _> = match self {
            Self::Nobody => return,
            Self::Creator(_) | Self::Modifier(_) => metadata.annotations.get_or_insert_default(),
        };
        match self {
            Self::Creator(name) => {
                annotations.insert(CREATOR.to_owned(), name.to_owned());
                annotations.insert(LAST_MODIFIER.to_owned(), name.to_owned());
            }
            Self::Modifier(name) => {
                annotations.insert(LAST_MODIFIER.to_owned(), name.to_owned());
            }
            Self::Nobody => {}
        }
    }
}
