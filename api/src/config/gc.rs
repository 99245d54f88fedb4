//! `config-gc`. Source: knative/serving pkg/gc/config.go.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{ConfigError, Reader};

pub(super) const MAP: &str = "config-gc";

/// The value that takes a bound away.
const DISABLED: &str = "disabled";

/// Which Revisions that no Route refers to are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GcConfig {
    /// How long a Revision is kept after it was made; `None` if that does not matter.
    pub retain_since_create: Option<Duration>,
    /// How long a Revision is kept after a Route last referred to it; `None` if that does not matter.
    pub retain_since_active: Option<Duration>,
    /// How many of them are kept in any case, for each Configuration.
    pub min_non_active: usize,
    /// How many of them are kept at the most, however young; `None` is no bound.
    pub max_non_active: Option<usize>,
}

// === impl GcConfig ===

impl Default for GcConfig {
    fn default() -> Self {
        Self {
            retain_since_create: Some(Duration::from_hours(48)),
            retain_since_active: Some(Duration::from_hours(15)),
            min_non_active: 20,
            max_non_active: Some(1000),
        }
    }
}

impl GcConfig {
    /// Nothing is ever deleted.
    pub(super) fn keep_all() -> Self {
        Self {
            retain_since_create: None,
            retain_since_active: None,
            max_non_active: None,
            ..Self::default()
        }
    }

    pub(super) fn parse(data: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let read = Reader { map: MAP, data };
        let mut config = Self::default();
        if let Some(text) = read.text("retain-since-create-time") {
            let time = time(text).map_err(|why| read.error("retain-since-create-time", why));
            config.retain_since_create = time?;
        }
        if let Some(text) = read.text("retain-since-last-active-time") {
            let time = time(text).map_err(|why| read.error("retain-since-last-active-time", why));
            config.retain_since_active = time?;
        }
        let wanted = "must be a whole number, 0 or more";
        if let Some(text) = read.text("min-non-active-revisions") {
            config.min_non_active =
                text.parse().map_err(|_| read.error("min-non-active-revisions", wanted))?;
        }
        if let Some(text) = read.text("max-non-active-revisions") {
            config.max_non_active = if text.eq_ignore_ascii_case(DISABLED) {
                None
            } else {
                let wanted = || format!("{wanted}, or {DISABLED}");
                let max = text.parse();
                Some(max.map_err(|_| read.error("max-non-active-revisions", wanted()))?)
            };
        }
        read.require(
            config.max_non_active.is_none_or(|max| config.min_non_active <= max),
            "max-non-active-revisions",
            "must not be less than min-non-active-revisions",
        )?;
        Ok(config)
    }
}

/// A duration, or none where that does not matter.
fn time(text: &str) -> Result<Option<Duration>, String> {
    if text.eq_ignore_ascii_case(DISABLED) {
        return Ok(None);
    }
    let time = crate::duration::parse(text);
    time.map(Some).ok_or_else(|| format!("{text:?} is not a duration such as 48h, nor {DISABLED}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<GcConfig, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        GcConfig::parse(&pairs.iter().map(owned).collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn bounds_are_read_and_taken_away() {
        assert_eq!(parse(&[]), Ok(GcConfig::default()));
        let all = parse(&[
            ("retain-since-create-time", "disabled"),
            ("retain-since-last-active-time", "Disabled"),
            ("min-non-active-revisions", "0"),
            ("max-non-active-revisions", "disabled"),
        ]);
        let none = GcConfig {
            retain_since_create: None,
            retain_since_active: None,
            min_non_active: 0,
            max_non_active: None,
        };
        assert_eq!(all, Ok(none));
        let some =
            parse(&[("retain-since-create-time", "1m30s"), ("max-non-active-revisions", "20")]);
        let some = some.unwrap();
        assert_eq!(some.retain_since_create, Some(Duration::from_secs(90)));
        assert_eq!(some.max_non_active, Some(20));
    }

    /// A map that was wrong before anybody read it must not count as one that says nothing.
    #[test]
    fn without_settings_that_can_be_read_nothing_is_deleted() {
        let config = crate::config::Config::default().without_map(MAP).gc;
        assert_eq!((config.retain_since_create, config.retain_since_active), (None, None));
        assert_eq!(config.max_non_active, None);
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_what_would_be_right() {
        for (key, value, told) in [
            (
                "retain-since-create-time",
                "2d",
                "\"2d\" is not a duration such as 48h, nor disabled",
            ),
            (
                "retain-since-last-active-time",
                "-1s",
                "\"-1s\" is not a duration such as 48h, nor disabled",
            ),
            ("min-non-active-revisions", "-1", "must be a whole number, 0 or more"),
            ("max-non-active-revisions", "all", "must be a whole number, 0 or more, or disabled"),
            ("max-non-active-revisions", "19", "must not be less than min-non-active-revisions"),
        ] {
            let error = parse(&[(key, value)]).unwrap_err();
            assert_eq!(error, format!("ConfigMap config-gc: {key}: {told}"));
        }
    }
}
