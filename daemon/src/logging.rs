//! Structured logs on standard error, never on standard output: that belongs to results.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people: one line of text, in colour on a terminal.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// A log filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("log filter {filter:?} is not valid: use a level such as info, or target=level pairs")]
pub struct FilterError {
    filter: String,
    #[source]
    source: tracing_subscriber::filter::ParseError,
}

/// Starts logging for the whole process, at `filter` (`info`, `ebb_activator=debug,warn`).
///
/// A second call changes nothing: tests that start several components share one log.
pub fn start(format: Format, filter: &str) -> Result<(), FilterError> {
    let env_filter = EnvFilter::try_new(filter)
        .map_err(|source| FilterError { filter: filter.to_owned(), source })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(env_filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        Format::Text => builder.finish().try_init(),
        Format::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    // Only "already set" can fail here, and then logs flow already.
    drop(started);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_says_what_would_be_right() {
        let error = start(Format::Text, "ebb=loud").unwrap_err();
        assert!(error.to_string().contains("use a level such as info"), "{error}");
    }
}
