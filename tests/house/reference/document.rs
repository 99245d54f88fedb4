//! The reference as sections and tables.

use ebb_tests::binaries::source;

/// The text of `docs/reference.md`.
pub(super) struct Document(String);

// === impl Document ===

impl Document {
    pub(super) fn read() -> Self {
        Self(std::fs::read_to_string(source().join("docs/reference.md")).unwrap())
    }

    /// The text below a heading, up to the next heading that is not deeper.
    pub(super) fn section(&self, heading: &str) -> &str {
        let depth = |line: &str| line.chars().take_while(|letter| *letter == '#').count();
        let start = format!("\n{heading}\n");
        let at = self.0.find(&start);
        let at = at.unwrap_or_else(|| panic!("docs/reference.md has no {heading}")) + start.len();
        let below = &self.0[at..];
        let mut length = 0;
        for line in below.split_inclusive('\n') {
            if (1..=depth(heading)).contains(&depth(line)) {
                break;
            }
            length += line.len();
        }
        &below[..length]
    }

    /// The rows of the tables below a heading, without their heads: cells without backticks.
    pub(super) fn rows(&self, heading: &str) -> Vec<Vec<String>> {
        let rows = self.section(heading).lines().filter(|line| line.starts_with("| `"));
        let cells = |row: &str| -> Vec<String> {
            let inner = row.trim_matches('|');
            inner.split('|').map(|cell| cell.trim().replace('`', "")).collect()
        };
        rows.map(cells).collect()
    }
}
