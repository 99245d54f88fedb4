//! `$(NAME)` in commands, arguments and environment values, as Kubernetes expands it
//! (`k8s.io/kubernetes/third_party/forked/golang/expansion`).

use std::collections::BTreeMap;

/// Most bytes of one value or word once it is expanded: Linux starts no program with a longer one
/// (`MAX_ARG_STRLEN`). A chain of variables that each name the one before twice would otherwise
/// take all memory, and again at each start.
pub(super) const EXPANDED_BYTES_MAX: usize = 128 * 1024;

/// Most bytes of all words of a command line, and of all names and values of an environment:
/// Linux's limit at the start of a program, for both together (a quarter of the usual stack of 8
/// MiB).
pub(super) const START_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A text that is too long once it is expanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("longer than {EXPANDED_BYTES_MAX} bytes once its $(NAME) references are expanded")]
pub(super) struct TooLong;

/// Replaces each `$(NAME)` that `variables` knows. An unknown one stays as it is written, `$$` is
/// a dollar sign, and so `$$(NAME)` gives `$(NAME)`.
pub(super) fn expand(text: &str, variables: &BTreeMap<String, String>) -> Result<String, TooLong> {
    let mut expanded = String::with_capacity(text.len().min(EXPANDED_BYTES_MAX));
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        if expanded.len() > EXPANDED_BYTES_MAX {
            return Err(TooLong);
        }
        expanded.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            if let Some(value) = variables.get(name) {
                expanded.push_str(value);
            } else {
                expanded.push_str("$(");
                expanded.push_str(name);
                expanded.push(')');
            }
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    if expanded.len() > EXPANDED_BYTES_MAX { Err(TooLong) } else { Ok(expanded) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_as_in_kubernetes() {
        let variables = BTreeMap::from([
            ("PORT".to_owned(), "8080".to_owned()),
            ("EMPTY".to_owned(), String::new()),
        ]);
        let cases = [
            ("--port=$(PORT)", "--port=8080"),
            ("$(PORT)$(PORT)", "80808080"),
            ("[$(EMPTY)]", "[]"),
            ("$(UNKNOWN)", "$(UNKNOWN)"),
            ("$$(PORT)", "$(PORT)"),
            ("$$$(PORT)", "$8080"),
            ("$PORT", "$PORT"),
            ("$(PORT", "$(PORT"),
            ("100$", "100$"),
            ("ü$(PORT)ü", "ü8080ü"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, &variables).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_text_that_grows_beyond_what_a_program_takes_is_refused() {
        let half = "x".repeat(EXPANDED_BYTES_MAX / 2);
        let variables = BTreeMap::from([("HALF".to_owned(), half)]);
        let longest = expand("$(HALF)$(HALF)", &variables).map(|text| text.len());
        assert_eq!(longest, Ok(EXPANDED_BYTES_MAX));
        assert_eq!(expand("$(HALF)$(HALF).", &variables), Err(TooLong));
        assert_eq!(expand(&"$(HALF)".repeat(100_000), &variables), Err(TooLong));
    }
}
