//! The query parameters of a request.

use crate::failure::RequestFailure;
use crate::pod_logs::LogOptions;
use crate::table::IncludeObject;

/// What to do about fields that the schema does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    /// Refuse the request.
    Strict,
    /// Drop them and say so.
    #[default]
    Warn,
    /// Drop them.
    Ignore,
}

/// What a deletion does to the objects that the deleted one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
    /// They stay, without an owner.
    Orphan,
}

/// All parameters that any verb reads; those of another verb are ignored, as Kubernetes does.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent parameters, as in the protocol")]
pub(crate) struct Query {
    pub(crate) label_selector: Option<String>,
    pub(crate) field_selector: Option<String>,
    pub(crate) limit: Option<usize>,
    pub(crate) continue_token: Option<String>,
    pub(crate) watch: bool,
    pub(crate) resource_version: Option<u64>,
    pub(crate) version_match: Option<String>,
    pub(crate) timeout_s: Option<u64>,
    pub(crate) bookmarks: bool,
    pub(crate) initial_events: Option<bool>,
    pub(crate) dry_run: bool,
    pub(crate) field_manager: Option<String>,
    pub(crate) field_validation: FieldValidation,
    pub(crate) force: bool,
    pub(crate) grace_s: Option<u64>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) include_object: IncludeObject,
    pub(crate) log: LogOptions,
}

// === impl Propagation ===

impl Propagation {
    /// Reads `propagationPolicy`.
    pub(crate) fn parse(text: &str) -> Result<Self, RequestFailure> {
        match text {
            "Background" => Ok(Self::Background),
            "Foreground" => Ok(Self::Foreground),
            "Orphan" => Ok(Self::Orphan),
            other => Err(RequestFailure::invalid_option(
                "DeleteOptions",
                "propagationPolicy",
                "FieldValueNotSupported",
                &format!(
                    "Unsupported value: {other:?}: supported values: \"Foreground\", \
                     \"Background\", \"Orphan\", \"nil\""
                ),
            )),
        }
    }
}

// === impl Query ===

impl Query {
    /// Reads a query string.
    pub(crate) fn parse(text: &str) -> Result<Self, RequestFailure> {
        let mut query = Self::default();
        for (key, value) in form_urlencoded::parse(text.as_bytes()) {
            query.set(&key, &value)?;
        }
        Ok(query)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), RequestFailure> {
        let text = || Some(value.to_owned()).filter(|value| !value.is_empty());
        match key {
            "labelSelector" => self.label_selector = text(),
            "fieldSelector" => self.field_selector = text(),
            // Zero means no limit.
            "limit" => self.limit = number(key, value)?.filter(|limit| *limit > 0),
            "continue" => self.continue_token = text(),
            "watch" => self.watch = flag(key, value)?,
            "resourceVersion" => self.resource_version = number(key, value)?,
            "resourceVersionMatch" => self.version_match = text(),
            "timeoutSeconds" => self.timeout_s = number(key, value)?,
            "allowWatchBookmarks" => self.bookmarks = flag(key, value)?,
            "sendInitialEvents" => self.initial_events = Some(flag(key, value)?),
            "dryRun" => self.dry_run = dry_run(value)?,
            "fieldManager" => self.field_manager = text(),
            "fieldValidation" => self.field_validation = field_validation(value)?,
            "force" => self.force = flag(key, value)?,
            "gracePeriodSeconds" => self.grace_s = number(key, value)?,
            "propagationPolicy" if !value.is_empty() => {
                self.propagation = Some(Propagation::parse(value)?);
            }
            "includeObject" => {
                self.include_object = IncludeObject::parse(value).ok_or_else(|| {
                    RequestFailure::bad_request(format!("invalid includeObject {value:?}"))
                })?;
            }
            "container" => self.log.container = text(),
            "follow" => self.log.follow = flag(key, value)?,
            "previous" => self.log.previous = flag(key, value)?,
            "timestamps" => self.log.timestamps = flag(key, value)?,
            "tailLines" => self.log.tail_lines = number(key, value)?,
            "limitBytes" => self.log.limit_bytes = number(key, value)?,
            "sinceSeconds" => self.log.since_seconds = number(key, value)?,
            _ => {}
        }
        Ok(())
    }
}

fn number<T: std::str::FromStr>(key: &str, value: &str) -> Result<Option<T>, RequestFailure> {
    if value.is_empty() {
        return Ok(None);
    }
    let parsed = value.parse().map(Some);
    parsed
        .map_err(|_| RequestFailure::bad_request(format!("invalid {key} {value:?}: not a number")))
}

fn flag(key: &str, value: &str) -> Result<bool, RequestFailure> {
    match value {
        "" | "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        other => {
            Err(RequestFailure::bad_request(format!("invalid {key} {other:?}: not a boolean")))
        }
    }
}

fn dry_run(value: &str) -> Result<bool, RequestFailure> {
    match value {
        "" => Ok(false),
        "All" => Ok(true),
        other => Err(RequestFailure::bad_request(format!("invalid dryRun {other:?}: must be All"))),
    }
}

fn field_validation(value: &str) -> Result<FieldValidation, RequestFailure> {
    match value {
        "Strict" => Ok(FieldValidation::Strict),
        "Warn" | "" => Ok(FieldValidation::Warn),
        "Ignore" => Ok(FieldValidation::Ignore),
        other => Err(RequestFailure::bad_request(format!(
            "invalid fieldValidation {other:?}: must be Strict, Warn or Ignore"
        ))),
    }
}
