//! Which of two versions of an object is the later.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The version of an object, as far as it can be compared.
///
/// Of two versions of one kind the later is the greater number, as Kubernetes promises since 1.35
/// (KEP-5504; etcd counts its writes). A server may still leave the version out, or say something
/// that is no number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResourceVersion(Option<u128>);

// === impl ResourceVersion ===

impl ResourceVersion {
    /// The version of the object with these metadata.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        Self(meta.resource_version.as_deref().and_then(|text| text.parse().ok()))
    }

    /// Whether an object of this version, received from a watch, includes a write whose response
    /// carried the version `written`. Versions that cannot be compared count as included: the watch
    /// reports every change in the end, but a wait for a version might never end.
    #[must_use]
    pub fn shows(self, written: Self) -> bool {
        match (self.0, written.0) {
            (Some(told), Some(written)) => told >= written,
            (None, _) | (_, None) => true,
        }
    }

    /// As [`Self::shows`], but false where the versions cannot be compared: for an object that the
    /// watch sent before the response came, from which nothing follows in that case.
    #[must_use]
    pub fn surely_shows(self, written: Self) -> bool {
        self.0.is_some() && written.0.is_some() && self.shows(written)
    }

    /// The number; `None` if there is none, or one greater than etcd can have.
    #[must_use]
    pub fn number(self) -> Option<u64> {
        self.0.and_then(|version| version.try_into().ok())
    }
}

impl From<u128> for ResourceVersion {
    fn from(version: u128) -> Self {
        Self(Some(version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: Option<&str>) -> ResourceVersion {
        let resource_version = text.map(str::to_owned);
        ResourceVersion::of(&ObjectMeta { resource_version, ..ObjectMeta::default() })
    }

    #[test]
    fn a_watch_shows_a_write_from_its_version_on() {
        let shows = |told: &str, written: &str| version(Some(told)).shows(version(Some(written)));
        assert!(shows("10", "9") && shows("9", "9"), "a number, and not a text");
        assert!(version(Some("9")).surely_shows(version(Some("9"))));
        assert!(!shows("9", "10"));
    }

    /// A missing version once counted as 0 in one place and as the greatest number in another; both
    /// meant that the watch wins.
    #[test]
    fn where_versions_cannot_be_compared_the_watch_wins() {
        for text in [None, Some(""), Some("v1"), Some("-1")] {
            let unknown = version(text);
            assert!(unknown.shows(version(Some("7"))), "{text:?}");
            assert!(version(Some("7")).shows(unknown), "{text:?}");
            assert!(!unknown.surely_shows(version(Some("7"))), "{text:?}");
            assert!(!version(Some("7")).surely_shows(unknown), "{text:?}");
            assert_eq!(unknown.number(), None, "{text:?}");
        }
        assert_eq!(version(Some("7")).number(), Some(7));
    }
}
