//! Requests that do not count: probes and crawlers neither wake a model nor keep it awake.
//!
//! `serving.ebb.dev/no-wake-paths: "/health, /assets/*"` and
//! `serving.ebb.dev/no-wake-agents: "UptimeRobot, Googlebot"` on a template.

use std::collections::BTreeMap;

use crate::annotations::Key;
use crate::field_error::clip;

/// Paths whose requests do not count, `*` at the end for all that begin so.
pub const NO_WAKE_PATHS: Key = Key(&["serving.ebb.dev/no-wake-paths"]);
/// Parts of `User-Agent`, in any case, of clients whose requests do not count.
pub const NO_WAKE_AGENTS: Key = Key(&["serving.ebb.dev/no-wake-agents"]);
/// Most entries of each: all are compared with each request.
pub const ENTRIES_MAX: usize = 32;
/// Longest entry.
pub const ENTRY_BYTES_MAX: usize = 200;

/// The requests of a revision that do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoWake {
    /// Whole paths.
    paths: Vec<String>,
    /// The beginnings of paths.
    prefixes: Vec<String>,
    /// In small letters.
    agents: Vec<String>,
}

/// What is wrong with one of the annotations.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoWakeError {
    /// An entry is missing.
    #[error("there is nothing between two commas")]
    Empty,
    /// A path is none.
    #[error("{0:?} is not a path: it begins with \"/\", and \"*\" may stand at its end alone")]
    Path(String),
    /// An entry has characters that no header has.
    #[error("{0:?} has other characters than visible ones of ASCII and spaces")]
    Character(String),
    /// There is too much.
    #[error("more than {ENTRIES_MAX} entries, or one of more than {ENTRY_BYTES_MAX} characters")]
    Much,
}

// === impl NoWake ===

impl NoWake {
    /// The requests that these annotations name; `None` if they name none.
    pub fn of(annotations: Option<&BTreeMap<String, String>>) -> Result<Option<Self>, NoWakeError> {
        let given = |key: Key| key.get(annotations).filter(|text| !text.trim().is_empty());
        let (paths, agents) = (given(NO_WAKE_PATHS), given(NO_WAKE_AGENTS));
        if paths.is_none() && agents.is_none() {
            return Ok(None);
        }
        let mut found = Self { paths: Vec::new(), prefixes: Vec::new(), agents: Vec::new() };
        for path in entries(paths.unwrap_or_default())? {
            let (path, list) = match path.strip_suffix('*') {
                Some(prefix) => (prefix, &mut found.prefixes),
                None => (path, &mut found.paths),
            };
            if !path.starts_with('/') || path.contains('*') {
                return Err(NoWakeError::Path(clip(path).into_owned()));
            }
            list.push(path.to_owned());
        }
        let agents = entries(agents.unwrap_or_default())?;
        found.agents = agents.into_iter().map(str::to_ascii_lowercase).collect();
        Ok(Some(found))
    }

    /// Whether a request with this path and `User-Agent` does not count.
    pub fn has(&self, path: &str, agent: &[u8]) -> bool {
        self.paths.iter().any(|known| known == path)
            || self.prefixes.iter().any(|known| path.starts_with(known))
            || (!self.agents.is_empty() && self.has_agent(agent))
    }

    fn has_agent(&self, agent: &[u8]) -> bool {
        let agent = agent.to_ascii_lowercase();
        let is_in =
            |known: &String| agent.windows(known.len()).any(|part| part == known.as_bytes());
        self.agents.iter().any(is_in)
    }
}

fn entries(text: &str) -> Result<Vec<&str>, NoWakeError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let entries: Vec<_> = text.split(',').map(str::trim).collect();
    let is_fit = |entry: &&str| entry.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if entries.iter().any(|entry| entry.is_empty()) {
        Err(NoWakeError::Empty)
    } else if entries.len() > ENTRIES_MAX || entries.iter().any(|it| it.len() > ENTRY_BYTES_MAX) {
        Err(NoWakeError::Much)
    } else if let Some(entry) = entries.iter().find(|entry| !is_fit(entry)) {
        Err(NoWakeError::Character(clip(entry).into_owned()))
    } else {
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(paths: &str, agents: &str) -> Result<Option<NoWake>, String> {
        let annotations = [(NO_WAKE_PATHS, paths), (NO_WAKE_AGENTS, agents)];
        let annotations =
            annotations.map(|(key, text)| (key.name().to_owned(), text.to_owned())).into();
        NoWake::of(Some(&annotations)).map_err(|error| error.to_string())
    }

    #[test]
    fn requests_are_known_by_path_or_agent() {
        assert_eq!(NoWake::of(None), Ok(None));
        assert_eq!(of(" ", ""), Ok(None));
        let no_wake = of("/health, /assets/*", "uptimerobot, Google Bot").unwrap().unwrap();
        for (path, agent, expected) in [
            ("/health", "", true),
            ("/health/", "", false),
            ("/assets/", "", true),
            ("/assets/a.css", "curl", true),
            ("/", "Mozilla/5.0 (compatible; UptimeRobot/2.0)", true),
            ("/", "GOOGLE BOT", true),
            ("/", "Google", false),
            ("/v1/chat/completions", "curl", false),
        ] {
            assert_eq!(no_wake.has(path, agent.as_bytes()), expected, "{path} {agent}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_told_in_one_sentence() {
        let path = "is not a path: it begins with \"/\", and \"*\" may stand at its end alone";
        for (paths, agents, problem) in [
            ("/a,,/b", "", "there is nothing between two commas".to_owned()),
            ("/a", "x,", "there is nothing between two commas".to_owned()),
            ("health", "", format!("\"health\" {path}")),
            ("/a*b", "", format!("\"/a*b\" {path}")),
            ("*", "", format!("\"\" {path}")),
            (
                "",
                "b\u{f6}t",
                "\"b\u{f6}t\" has other characters than visible ones of ASCII and spaces"
                    .to_owned(),
            ),
        ] {
            assert_eq!(of(paths, agents), Err(problem), "{paths} {agents}");
        }
        let many = vec!["/a"; 33].join(",");
        assert!(of(&many, "").is_err() && of(&format!("/{}", "a".repeat(200)), "").is_err());
    }
}
