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

/// Whether it is one of several parts of a model that llama.cpp's `gguf-split` wrote:
/// `NAME-00001-of-00003.gguf`.
pub(super) fn is_part(name: &str) -> bool {
    let number = |text: &str| {
        let is_number = text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<u32>().ok()).flatten()
    };
    let parts = name.strip_suffix(".gguf").and_then(|stem| stem.rsplit_once("-of-"));
    let parts = parts.and_then(|(stem, count)| {
        let (_, part) = stem.rsplit_once('-')?;
        number(part)?;
        number(count)
    });
    parts.is_some_and(|parts| parts > 1)
}

/// FNV-1a, which is the same in every version and on every machine.
pub(super) fn hash(text: &str) -> u64 {
    let mut hasher = FnvHasher::default();
    hasher.write(text.as_bytes());
    hasher.finish()
}
