//! Names of files that become paths here, and the hash of a source.

use std::hash::Hasher as _;

use fnv::FnvHasher;

/// Longest name of a file on Linux's file systems.
const NAME_BYTES_MAX: usize = 255;

/// Whether a name is taken: it needs no quoting in a path, in a URL or in a shell, and is neither
/// hidden nor an option.
pub(super) fn is_name(text: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+=,~".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(letters)
        && !text.starts_with(['.', '-'])
}

/// Whether these are names with `/` between them; one at the end is taken.
pub(super) fn is_path(text: &str) -> bool {
    let parts = text.strip_suffix('/').unwrap_or(text);
    parts.split('/').all(is_name)
}

/// FNV-1a, which is the same in every version and on every machine.
pub(super) fn hash(text: &str) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(text.as_bytes());
    hasher.finish()
}
