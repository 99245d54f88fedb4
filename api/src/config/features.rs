//! `config-features`. Source: knative/serving pkg/apis/config/features.go.

use std::collections::BTreeMap;

use super::{ConfigError, Reader};

pub(super) const MAP: &str = "config-features";

/// Whether what Knative puts behind a feature flag is allowed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// The feature may not be used.
    Disabled,
    /// The feature may be used.
    Allowed,
    /// The feature may be used, and is used by default where that has a meaning.
    Enabled,
}

/// A part of a pod that can be allowed or not, and what else Knative has such flags for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is the field that it is named after")]
pub enum Feature {
    AddCapabilities,
    Affinity,
    DnsConfig,
    DnsPolicy,
    EmptyDir,
    FieldRef,
    HostAliases,
    HostIpc,
    HostNetwork,
    HostPath,
    HostPid,
    InitContainers,
    MountPropagation,
    MultiContainer,
    MultiContainerProbing,
    NodeSelector,
    PersistentVolumeClaim,
    PersistentVolumeWrite,
    PriorityClassName,
    RuntimeClassName,
    SchedulerName,
    SecurityContext,
    ShareProcessNamespace,
    TagHeaderBasedRouting,
    Tolerations,
    TopologySpreadConstraints,
    VolumesCsi,
    VolumesEphemeral,
    VolumesImage,
}

/// Key of each feature in the ConfigMap.
const KEYS: &[(Feature, &str)] = &[
    (Feature::AddCapabilities, "kubernetes.containerspec-addcapabilities"),
    (Feature::Affinity, "kubernetes.podspec-affinity"),
    (Feature::DnsConfig, "kubernetes.podspec-dnsconfig"),
    (Feature::DnsPolicy, "kubernetes.podspec-dnspolicy"),
    (Feature::EmptyDir, "kubernetes.podspec-volumes-emptydir"),
    (Feature::FieldRef, "kubernetes.podspec-fieldref"),
    (Feature::HostAliases, "kubernetes.podspec-hostaliases"),
    (Feature::HostIpc, "kubernetes.podspec-hostipc"),
    (Feature::HostNetwork, "kubernetes.podspec-hostnetwork"),
    (Feature::HostPath, "kubernetes.podspec-volumes-hostpath"),
    (Feature::HostPid, "kubernetes.podspec-hostpid"),
    (Feature::InitContainers, "kubernetes.podspec-init-containers"),
    (Feature::MountPropagation, "kubernetes.podspec-volumes-mount-propagation"),
    (Feature::MultiContainer, "multi-container"),
    (Feature::MultiContainerProbing, "multi-container-probing"),
    (Feature::NodeSelector, "kubernetes.podspec-nodeselector"),
    (Feature::PersistentVolumeClaim, "kubernetes.podspec-persistent-volume-claim"),
    (Feature::PersistentVolumeWrite, "kubernetes.podspec-persistent-volume-write"),
    (Feature::PriorityClassName, "kubernetes.podspec-priorityclassname"),
    (Feature::RuntimeClassName, "kubernetes.podspec-runtimeclassname"),
    (Feature::SchedulerName, "kubernetes.podspec-schedulername"),
    (Feature::SecurityContext, "kubernetes.podspec-securitycontext"),
    (Feature::ShareProcessNamespace, "kubernetes.podspec-shareprocessnamespace"),
    (Feature::TagHeaderBasedRouting, "tag-header-based-routing"),
    (Feature::Tolerations, "kubernetes.podspec-tolerations"),
    (Feature::TopologySpreadConstraints, "kubernetes.podspec-topologyspreadconstraints"),
    (Feature::VolumesCsi, "kubernetes.podspec-volumes-csi"),
    (Feature::VolumesEphemeral, "kubernetes.podspec-volumes-ephemeral"),
    (Feature::VolumesImage, "kubernetes.podspec-volumes-image"),
];

/// Which parts of a pod may be used beyond those that are always allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeaturesConfig {
    set: BTreeMap<Feature, Flag>,
}

impl FeaturesConfig {
    /// The flag of a feature, as set or by default.
    pub fn get(&self, feature: Feature) -> Flag {
        self.set.get(&feature).copied().unwrap_or(match feature {
            Feature::EmptyDir | Feature::MultiContainer => Flag::Enabled,
            _ => Flag::Disabled,
        })
    }

    /// Whether the feature may be used.
    pub fn allows(&self, feature: Feature) -> bool {
        self.get(feature) != Flag::Disabled
    }

    /// These features with one set.
    #[must_use]
    pub fn with(mut self, feature: Feature, flag: Flag) -> Self {
        self.set.insert(feature, flag);
        self
    }

    pub(super) fn parse(data: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let read = Reader { map: MAP, data };
        let mut config = Self::default();
        for (feature, key) in KEYS {
            if let Some(text) = read.text(key) {
                let flag = match text.to_ascii_lowercase().as_str() {
                    "disabled" => Flag::Disabled,
                    "allowed" => Flag::Allowed,
                    "enabled" => Flag::Enabled,
                    _ => return Err(read.error(key, "must be Enabled, Allowed or Disabled")),
                };
                // A flag that equals its default is not stored: writing it down changes no
                // settings.
                if flag != config.get(*feature) {
                    config.set.insert(*feature, flag);
                }
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_whatever_their_case_and_default_as_in_knative() {
        let data = BTreeMap::from([
            ("kubernetes.podspec-tolerations".into(), "ENABLED".into()),
            ("multi-container".into(), "disabled".into()),
        ]);
        let features = FeaturesConfig::parse(&data).unwrap();
        assert_eq!(features.get(Feature::Tolerations), Flag::Enabled);
        assert!(!features.allows(Feature::MultiContainer));
        assert!(features.allows(Feature::EmptyDir));
        assert!(!features.allows(Feature::HostPath));
    }

    #[test]
    fn a_flag_that_is_none_of_the_three_is_an_error_that_names_the_key() {
        let data = BTreeMap::from([("multi-container-probing".into(), "yes".into())]);
        let error = FeaturesConfig::parse(&data).unwrap_err();
        assert_eq!(error.key, "multi-container-probing");
    }

    #[test]
    fn every_feature_has_one_key() {
        let features: std::collections::BTreeSet<_> = KEYS.iter().map(|(f, _)| f).collect();
        let keys: std::collections::BTreeSet<_> = KEYS.iter().map(|(_, key)| key).collect();
        assert_eq!(features.len(), KEYS.len());
        assert_eq!(keys.len(), KEYS.len());
    }
}
