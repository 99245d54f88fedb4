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

    /// Whether an object of this version, told by a watch, shows a write that was answered with the
    /// version `written`. What cannot be compared counts as shown: the watch tells every change in
    /// the end, while an answer that waits for a version may wait for ever.
    #[must_use]
    pub fn shows(self, written: Self) -> bool {
        match (self.0, written.0) {
            (Some(told), Some(written)) => told >= written,
            (None, _) | (_, None) => true,
        }
    }

    /// As [`Self::shows`], where both can be compared: for what was told before the answer came, of
    /// which nothing follows if they cannot.
    #[must_use]
    pub fn surely_shows(self, written: Self) -> bool {
        self.0.is_some() && written.0.is_some() && self.shows(written)
    }

    /// The number; `None` where there is none, or a greater one than etcd can have.
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

    /// One that is missing once counted as 0 in one place and as the greatest number in another,
    /// and both said that the watch wins.
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
