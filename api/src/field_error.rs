//! What is wrong with an object, field by field, in Knative's own words.
//!
//! Source of the texts: knative.dev/pkg/apis/field_error.go. A validator returns [`FieldErrors`];
//! its caller adds the field that was validated with [`FieldErrors::via_field`], so that each
//! function knows only its own part of the path. Printing merges errors that differ only in their
//! path, sorts them, and puts each on a line of its own.
//!
//! Invariant: neither the collection nor its text grows with a hostile object. Values are clipped
//! where they are echoed, and errors beyond the limits are counted instead of kept.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

/// Most errors kept: enough for every mistake in any object that a person wrote.
const ERRORS_MAX: usize = 512;
/// Most merged errors that are printed, and most paths of each: an answer is for people to read.
const PRINTED_MAX: usize = 32;
/// Most bytes of an object's value that are echoed: a quoted annotation can have 256 KiB.
const ECHO_BYTES_MAX: usize = 512;

/// The path of the value that a validator was given, as opposed to one of its fields.
pub const CURRENT: &str = "";

/// One thing that is wrong, and the fields that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// What is wrong.
    pub message: String,
    /// Fields, from the root of the object once the error has left the outermost validator.
    pub paths: Vec<String>,
    /// A longer explanation, printed on the next line; may be empty.
    pub details: String,
}

/// Everything that is wrong with an object, and what is merely unwise; empty when all is well.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldErrors {
    errors: Vec<FieldError>,
    warnings: Vec<FieldError>,
    /// Errors beyond [`ERRORS_MAX`].
    omitted: usize,
}

// === impl FieldError ===

impl FieldError {
    fn moved(mut self, prefix: &str) -> Self {
        for path in &mut self.paths {
            *path = join(prefix, path);
        }
        self
    }
}

// === impl FieldErrors ===

impl FieldErrors {
    /// One error with a message of its own.
    pub fn generic(message: impl Into<String>, paths: &[&str]) -> Self {
        Self::detailed(message, paths, "")
    }

    /// One error with a message of its own and a line that explains it.
    pub fn detailed(
        message: impl Into<String>,
        paths: &[&str],
        details: impl Into<String>,
    ) -> Self {
        let error = FieldError {
            message: message.into(),
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            details: details.into(),
        };
        Self { errors: vec![error], ..Self::default() }
    }

    /// Fields that must be there and are not.
    pub fn missing(paths: &[&str]) -> Self {
        Self::generic("missing field(s)", paths)
    }

    /// Fields that must not be there and are.
    pub fn disallowed(paths: &[&str]) -> Self {
        Self::generic("must not set the field(s)", paths)
    }

    /// A value that is not one of those allowed.
    pub fn invalid(value: impl fmt::Display, path: &str) -> Self {
        Self::invalid_because(value, path, "")
    }

    /// A value that is not one of those allowed, and why.
    pub fn invalid_because(
        value: impl fmt::Display,
        path: &str,
        details: impl Into<String>,
    ) -> Self {
        let value = value.to_string();
        Self::detailed(format!("invalid value: {}", clip(&value)), &[path], details)
    }

    /// Exactly one of several fields must be set, and none is.
    pub fn missing_one_of(paths: &[&str]) -> Self {
        Self::generic("expected exactly one, got neither", paths)
    }

    /// Only one of several fields may be set, and more than one is.
    pub fn multiple_one_of(paths: &[&str]) -> Self {
        Self::generic("expected exactly one, got both", paths)
    }

    /// A value outside of `low ..= high`.
    pub fn out_of_bounds(
        value: impl fmt::Display,
        low: impl fmt::Display,
        high: impl fmt::Display,
        path: &str,
    ) -> Self {
        let value = value.to_string();
        Self::generic(format!("expected {low} <= {} <= {high}", clip(&value)), &[path])
    }

    /// A key of a map that is not one of those allowed.
    pub fn invalid_key(key: &str, path: &str, details: impl Into<String>) -> Self {
        Self::detailed(format!("invalid key name {:?}", clip(key)), &[path], details)
    }

    /// These errors and `other`.
    #[must_use]
    pub fn also(mut self, other: Self) -> Self {
        self.add(other);
        self
    }

    /// Adds `other` to these errors.
    pub fn add(&mut self, other: Self) {
        let Self { errors, warnings, omitted } = other;
        let room = ERRORS_MAX.saturating_sub(self.errors.len());
        self.omitted += omitted + errors.len().saturating_sub(room);
        self.errors.extend(errors.into_iter().take(room));
        let room = ERRORS_MAX.saturating_sub(self.warnings.len());
        self.warnings.extend(warnings.into_iter().take(room));
    }

    /// The same errors, with `field` (which may itself be a path) in front of their paths.
    #[must_use]
    pub fn via_field(self, field: &str) -> Self {
        let moved = |list: Vec<FieldError>| list.into_iter().map(|e| e.moved(field)).collect();
        Self { errors: moved(self.errors), warnings: moved(self.warnings), omitted: self.omitted }
    }

    /// The same errors, of one item of a list; the caller adds the list's own name next.
    #[must_use]
    pub fn via_index(self, index: usize) -> Self {
        // Most items are fine, and a list can be long.
        if self == Self::default() {
            return self;
        }
        self.via_field(&format!("[{index}]"))
    }

    /// The same errors, of one item of the list `field`.
    #[must_use]
    pub fn via_field_index(self, field: &str, index: usize) -> Self {
        self.via_index(index).via_field(field)
    }

    /// The same errors, under one key of a map.
    #[must_use]
    pub fn via_key(self, key: &str) -> Self {
        self.via_field(&format!("[{key}]"))
    }

    /// The same errors as mere warnings: the object is accepted, and its sender is told.
    #[must_use]
    pub fn as_warnings(self) -> Self {
        let mut warnings = self.warnings;
        warnings.extend(self.errors);
        Self { errors: Vec::new(), warnings, omitted: 0 }
    }

    /// Whether the object is acceptable; there may still be [`Self::warnings`].
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// Whether there are so many errors that more would only be counted.
    pub fn is_full(&self) -> bool {
        self.errors.len() >= ERRORS_MAX
    }

    /// The warnings, merged and sorted as errors are, each as one text.
    pub fn warnings(&self) -> Vec<String> {
        let merged = merge(&self.warnings);
        merged.iter().take(PRINTED_MAX).map(|(error, paths)| text(error, paths)).collect()
    }
}

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let merged = merge(&self.errors);
        let omitted = self.omitted + merged.len().saturating_sub(PRINTED_MAX);
        for (at, (error, paths)) in merged.iter().take(PRINTED_MAX).enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&text(error, paths))?;
        }
        if omitted > 0 {
            write!(f, "\nand {omitted} more errors")?;
        }
        Ok(())
    }
}

impl std::error::Error for FieldErrors {}

/// The beginning of a text from outside, short enough to be echoed in an answer.
pub fn clip(text: &str) -> Cow<'_, str> {
    if text.len() <= ECHO_BYTES_MAX {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(ECHO_BYTES_MAX);
    Cow::Owned(format!("{}... ({} bytes)", &text[..end], text.len()))
}

/// Message and details, by which errors are merged, and the paths of the merged errors.
type Merged<'a> = ((&'a str, &'a str), BTreeSet<&'a str>);

/// Errors that differ only in their paths as one, sorted by message and details.
fn merge(errors: &[FieldError]) -> Vec<Merged<'_>> {
    let mut merged: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for error in errors {
        let paths = merged.entry((&error.message, &error.details)).or_default();
        paths.extend(error.paths.iter().map(String::as_str));
    }
    merged.into_iter().collect()
}

fn text((message, details): &(&str, &str), paths: &BTreeSet<&str>) -> String {
    let shown: Vec<_> = paths.iter().take(PRINTED_MAX).copied().collect();
    let mut text = format!("{message}: {}", shown.join(", "));
    if paths.len() > shown.len() {
        // Writing to a String cannot fail.
        let _ = write!(text, " and {} more", paths.len() - shown.len());
    }
    if !details.is_empty() {
        text.push('\n');
        text.push_str(details);
    }
    text
}

/// `prefix.path`; an index stands directly behind what it indexes, and empty parts are dropped.
fn join(prefix: &str, path: &str) -> String {
    let mut joined = String::with_capacity(prefix.len() + path.len() + 1);
    let parts = prefix.split('.').chain(path.split('.'));
    for part in parts.filter(|part| !part.is_empty()) {
        let is_index = part.starts_with('[') && part.ends_with(']');
        if !joined.is_empty() && !is_index {
            joined.push('.');
        }
        joined.push_str(part);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_built_from_the_inside_out() {
        let errors = FieldErrors::missing(&["image"])
            .via_field_index("containers", 0)
            .via_field("spec")
            .via_field("spec.template");
        assert_eq!(errors.to_string(), "missing field(s): spec.template.spec.containers[0].image");
        let nested = FieldErrors::missing(&[CURRENT]).via_index(0).via_index(1);
        assert_eq!(nested.via_field("foo").to_string(), "missing field(s): foo[1][0]");
    }

    #[test]
    fn a_key_is_put_in_brackets_behind_a_dot_as_knative_prints_it() {
        let errors = FieldErrors::invalid("x", CURRENT)
            .via_key("queue.sidecar.serving.knative.dev/resource-percentage")
            .via_field("annotations");
        assert_eq!(
            errors.to_string(),
            "invalid value: x: \
             annotations.[queue.sidecar.serving.knative.dev/resource-percentage]"
        );
    }

    #[test]
    fn errors_that_differ_only_in_their_path_are_one_line_and_lines_are_sorted() {
        let errors = FieldErrors::missing(&["b"])
            .also(FieldErrors::disallowed(&["z"]))
            .also(FieldErrors::missing(&["a", "b"]))
            .also(FieldErrors::invalid_because("v", "p", "because"))
            .also(FieldErrors::out_of_bounds(-1, 0, 1000, "c"));
        assert_eq!(
            errors.to_string(),
            "expected 0 <= -1 <= 1000: c\n\
             invalid value: v: p\nbecause\n\
             missing field(s): a, b\n\
             must not set the field(s): z"
        );
    }

    #[test]
    fn warnings_are_kept_apart_from_errors() {
        let errors = FieldErrors::generic("careful", &["a"])
            .also(FieldErrors::generic("careful", &["b"]))
            .as_warnings();
        assert!(errors.is_empty());
        assert_eq!(errors.warnings(), ["careful: a, b"]);
        let both = errors.also(FieldErrors::missing(&["c"])).via_field("spec");
        assert_eq!(both.to_string(), "missing field(s): spec.c");
        assert_eq!(both.warnings(), ["careful: spec.a, spec.b"]);
    }

    #[test]
    fn the_text_stays_short_however_much_is_wrong() {
        let mut errors = FieldErrors::default();
        for index in 0..10_000 {
            errors.add(FieldErrors::missing(&["x"]).via_index(index));
            errors.add(FieldErrors::invalid(format!("{index}{}", "v".repeat(1000)), "p"));
        }
        assert!(errors.is_full());
        let text = errors.to_string();
        assert!(text.len() < 64 * 1024, "{} bytes", text.len());
        assert!(text.contains("more errors"), "{text}");
    }

    #[test]
    fn a_clipped_value_says_how_long_it_was_and_is_cut_between_characters() {
        let clipped = clip(&"é".repeat(600)).into_owned();
        assert!(clipped.ends_with("... (1200 bytes)"), "{clipped}");
        assert_eq!(clip("short"), "short");
    }
}
