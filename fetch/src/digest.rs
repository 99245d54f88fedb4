//! Checksums of files: what one is expected to have, and what it has.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};

/// What vouches for the bytes of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// A SHA-256, in small hexadecimal letters.
    Sha256(String),
    /// The name that git gives a file: a SHA-1 over its size and its bytes.
    GitBlob(String),
    /// The same, and a SHA-256 that the source names beside it.
    Both { git: String, sha256: String },
    /// Nothing but its size and the connection.
    Nothing,
}

/// Reads the bytes of a file as they come.
pub(crate) struct Hasher {
    sha256: Context,
    git: Option<Context>,
}

/// The checksums of a whole file.
pub(crate) struct Hashes {
    /// For the record, whatever was expected.
    pub(crate) sha256: String,
    git: Option<String>,
}

// === impl Expected ===

impl Expected {
    /// Whether a damaged file would be noticed.
    pub(crate) fn is_something(&self) -> bool {
        *self != Self::Nothing
    }

    pub(crate) fn matches(&self, found: &Hashes) -> bool {
        match self {
            Self::Sha256(sha256) => *sha256 == found.sha256,
            Self::GitBlob(name) => Some(name) == found.git.as_ref(),
            Self::Both { git, sha256 } => {
                Some(git) == found.git.as_ref() && *sha256 == found.sha256
            }
            Self::Nothing => true,
        }
    }

    /// The same with the SHA-256 of a source; `None`: no file has both.
    pub(crate) fn and_sha256(self, sha256: &str) -> Option<Self> {
        match self {
            Self::GitBlob(git) => Some(Self::Both { git, sha256: sha256.to_owned() }),
            Self::Sha256(other) | Self::Both { sha256: other, .. } if other != sha256 => None,
            Self::Nothing => Some(Self::Sha256(sha256.to_owned())),
            same => Some(same),
        }
    }

    /// For comparisons of a file with one of the same name at another time.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Sha256(text) | Self::GitBlob(text) | Self::Both { git: text, .. } => {
                Some(text.clone())
            }
            Self::Nothing => None,
        }
    }
}

// === impl Hasher ===

impl Hasher {
    /// `size`: of the whole file, which is part of git's name for it.
    pub(crate) fn new(expected: &Expected, size: Option<u64>) -> Self {
        let has_git = matches!(expected, Expected::GitBlob(_) | Expected::Both { .. });
        let git = has_git.then(|| {
            let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
            context.update(format!("blob {}\0", size.unwrap_or(0)).as_bytes());
            context
        });
        Self { sha256: Context::new(&SHA256), git }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(git) = &mut self.git {
            git.update(bytes);
        }
    }

    pub(crate) fn finish(self) -> Hashes {
        Hashes {
            sha256: hex(self.sha256.finish().as_ref()),
            git: self.git.map(|git| hex(git.finish().as_ref())),
        }
    }
}

/// The SHA-256 of a text, in small hexadecimal letters.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf hello | sha256sum`, `printf hello | git hash-object --stdin`.
    const SHA256_OF_HELLO: &str =
        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    const BLOB_OF_HELLO: &str = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";

    #[test]
    fn files_have_the_checksums_that_other_tools_find() {
        let blob = Expected::GitBlob(BLOB_OF_HELLO.to_owned());
        let mut hasher = Hasher::new(&blob, Some(5));
        hasher.update(b"hel");
        hasher.update(b"lo");
        let found = hasher.finish();
        assert!(blob.matches(&found));
        assert!(Expected::Sha256(SHA256_OF_HELLO.to_owned()).matches(&found));
        assert!(!Expected::Sha256(BLOB_OF_HELLO.to_owned()).matches(&found));
        assert!(Expected::Nothing.matches(&found));
    }

    #[test]
    fn the_size_is_part_of_gits_name() {
        let blob = Expected::GitBlob(BLOB_OF_HELLO.to_owned());
        let mut hasher = Hasher::new(&blob, Some(6));
        hasher.update(b"hello");
        assert!(!blob.matches(&hasher.finish()));
    }
}
