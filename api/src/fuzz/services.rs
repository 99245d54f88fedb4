//! Services as nobody would write them, through defaults and validation: from any JSON, or from a
//! sound Service with some fields replaced.

mod edits;

use arbitrary::{Result, Unstructured};
use serde_json::Value;

use self::edits::{EDITS_MAX, edit, sound};
use crate::config::{Config, Feature, Flag};
use crate::defaults::{self, Occasion};
use crate::serving::{
    Configuration, ConfigurationSpec, Revision, Route, RouteSpec, Service, TrafficTarget,
};
use crate::validation;

/// Longest answer that a client should get, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Features behind which most of the code lies that judges pods.
const FEATURES: [Feature; 10] = [
    Feature::InitContainers,
    Feature::MultiContainerProbing,
    Feature::SecurityContext,
    Feature::PersistentVolumeClaim,
    Feature::VolumesEphemeral,
    Feature::VolumesCsi,
    Feature::HostPath,
    Feature::FieldRef,
    Feature::AddCapabilities,
    Feature::MountPropagation,
];

/// An input is the JSON of a Service, or choices: settings, and the edits that make two Services.
///
/// # Panics
/// If the input shows a fault.
pub fn services(input: &[u8]) {
    if input.first() == Some(&b'{') {
        if let Ok(service) = serde_json::from_slice::<Service>(input) {
            check(&service, &service, &Config::default());
        }
        return;
    }
    edited(&mut Unstructured::new(input)).unwrap_or_default();
}

fn edited(choices: &mut Unstructured<'_>) -> Result<()> {
    let config = config(choices)?;
    let mut value = sound();
    for _ in 0..choices.int_in_range(0..=EDITS_MAX)? {
        edit(choices, &mut value)?;
    }
    let old = read(&value);
    for _ in 0..choices.int_in_range(0..=EDITS_MAX)? {
        edit(choices, &mut value)?;
    }
    if let (Some(old), Some(new)) = (old, read(&value)) {
        check(&old, &new, &config);
    }
    Ok(())
}

fn config(choices: &mut Unstructured<'_>) -> Result<Config> {
    let mut config = Config::default();
    if choices.ratio(1_u8, 2)? {
        for feature in FEATURES {
            config.features = config.features.with(feature, Flag::Enabled);
        }
    }
    config.defaults.idle_timeout_s = *choices.choose(&[0, 0, 100, 600])?;
    config.defaults.response_start_timeout_s = *choices.choose(&[300, 0, 100])?;
    if choices.ratio(1_u8, 8)? {
        config.defaults.allow_container_concurrency_zero = false;
        config.defaults.container_concurrency = 1;
    }
    Ok(config)
}

fn read(value: &Value) -> Option<Service> {
    serde_json::from_value(value.clone()).ok()
}

fn check(old: &Service, new: &Service, config: &Config) {
    let old = created(old, config);
    let new = created(new, config);
    let is_sound = |service: &Service| {
        let errors = validation::service(service, None, config);
        assert!(errors.to_string().len() <= ANSWER_BYTES_MAX, "{errors}");
        errors.is_empty()
    };
    if is_sound(&old) {
        stays_sound(&old, config);
        children_are_sound(&old, config);
    }
    let mut next = new.clone();
    next.metadata.annotations.clone_from(&old.metadata.annotations);
    let update = Occasion::Update { old: &old, by: Some("bob") };
    defaults::service(&mut next, update, config);
    let once = next.clone();
    defaults::service(&mut next, update, config);
    assert_eq!(next, once, "an update is defaulted twice");
    let errors = validation::service(&next, Some(&old), config);
    assert!(errors.to_string().len() <= ANSWER_BYTES_MAX, "{errors}");
}

/// The Service as admission stores it.
fn created(service: &Service, config: &Config) -> Service {
    let create = Occasion::Create { by: Some("alice") };
    let mut once = service.clone();
    defaults::service(&mut once, create, config);
    let mut twice = once.clone();
    defaults::service(&mut twice, create, config);
    assert_eq!(twice, once, "a new Service is defaulted twice");
    if validation::service(service, None, config).is_empty() {
        let errors = validation::service(&once, None, config);
        assert!(errors.is_empty(), "defaults broke a sound Service: {errors}");
    }
    once
}

/// A stored Service can be written again as it is, and reads back as it was written.
fn stays_sound(service: &Service, config: &Config) {
    let value = serde_json::to_value(service).expect("a Service is JSON");
    assert_eq!(read(&value).as_ref(), Some(service), "read back");
    let mut same = service.clone();
    defaults::service(&mut same, Occasion::Update { old: service, by: Some("bob") }, config);
    assert_eq!(same, *service, "an update without a change");
    let errors = validation::service(service, Some(service), config);
    assert!(errors.is_empty(), "an update without a change: {errors}");
}

/// What the controller makes of a sound Service is sound: otherwise the webhook would refuse it.
fn children_are_sound(service: &Service, config: &Config) {
    let name = service.metadata.name.as_deref();
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return;
    };
    let template = service.spec.template.clone();
    let mut configuration = Configuration::new(name, ConfigurationSpec { template });
    defaults::configuration(&mut configuration, Occasion::Create { by: None }, config);
    let errors = validation::configuration(&configuration, None, config);
    assert!(errors.is_empty(), "its Configuration: {errors}");

    let template = configuration.spec.template;
    let own = template.metadata.unwrap_or_default();
    let chosen = own.name.filter(|name| !name.is_empty());
    let name_of_revision = chosen.unwrap_or_else(|| crate::names::revision(name, 1));
    let mut revision = Revision::new(&name_of_revision, template.spec);
    revision.metadata.annotations = own.annotations;
    defaults::revision(&mut revision, Occasion::Create { by: None }, config);
    let errors = validation::revision(&revision, None, config);
    assert!(errors.is_empty(), "its Revision: {errors}");

    let of_route = |target: &TrafficTarget| {
        let mut target = target.clone();
        if target.revision_name.as_deref().is_none_or(str::is_empty) {
            target.configuration_name = Some(name.to_owned());
        }
        target.url = None;
        target
    };
    let traffic = service.spec.traffic.iter().map(of_route).collect();
    let mut route = Route::new(name, RouteSpec { traffic });
    defaults::route(&mut route, Occasion::Create { by: None });
    let errors = validation::route(&route, None);
    assert!(errors.is_empty(), "its Route: {errors}");
}
