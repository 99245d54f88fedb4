//! Image references: registry, repository, and a tag or digest.
//!
//! The rules are those of go-containerregistry's `name.ParseReference` with weak validation, which
//! Knative parses with: both accept the same references.

/// Shortest and longest repository, in bytes.
const REPOSITORY_BYTES: std::ops::RangeInclusive<usize> = 2..=255;
/// Longest tag, in bytes.
const TAG_BYTES_MAX: usize = 128;
/// Hexadecimal digits of a SHA-256.
const SHA256_DIGITS: usize = 64;

/// Whether the text names an image.
pub(super) fn is_reference(text: &str) -> bool {
    is_tagged(text) || is_by_digest(text)
}

/// `repository` or `repository:tag`.
fn is_tagged(text: &str) -> bool {
    match text.rsplit_once(':') {
        // A colon before the last slash belongs to the registry's port.
        Some((repository, tag)) if !tag.contains('/') => is_tag(tag) && is_repository(repository),
        _ => is_repository(text),
    }
}

/// `repository@sha256:...`, perhaps with a tag, which then has no effect.
fn is_by_digest(text: &str) -> bool {
    let Some((base, digest)) = text.split_once('@') else {
        return false;
    };
    let is_sha256 = digest.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == SHA256_DIGITS
            && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    });
    is_sha256 && is_tagged(base)
}

fn is_tag(tag: &str) -> bool {
    (1..=TAG_BYTES_MAX).contains(&tag.len())
        && tag
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

fn is_repository(text: &str) -> bool {
    let path = match text.split_once('/') {
        Some((registry, path)) if is_registry_like(registry) => {
            if !is_registry(registry) {
                return false;
            }
            path
        }
        _ => text,
    };
    REPOSITORY_BYTES.contains(&path.len())
        && path.bytes().all(|byte| {
            byte.is_ascii_lowercase()
                || byte.is_ascii_digit()
                || matches!(byte, b'_' | b'-' | b'.' | b'/')
        })
}

/// Whether the first part of a path is a host rather than a directory of the default registry.
fn is_registry_like(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':'])
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (registry, "0"),
    };
    let is_address = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
    let is_name = !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    (is_address || is_name) && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_that_people_write_are_taken() {
        let digest = format!("example.com/app@sha256:{}", "0f".repeat(32));
        for good in [
            "busybox",
            "busybox:1.36",
            "library/busybox:latest",
            "localhost:5000/model",
            "registry.example.com:443/team/model:v1.2_3-rc",
            "127.0.0.1:5000/a/b:c",
            "[::1]:5000/model",
            digest.as_str(),
            format!("a/b:tag@sha256:{}", "ab".repeat(32)).as_str(),
        ] {
            assert!(is_reference(good), "{good}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for bad in [
            "",
            "a",
            "Busybox",
            "busybox:",
            "foo:bar:baz",
            "a b",
            "example.com:port/model",
            "model@sha256:abc",
            "model@md5:d41d8cd98f00b204e9800998ecf8427e",
            "https://example.com/model",
            format!("model:{}", "t".repeat(129)).as_str(),
            "m".repeat(256).as_str(),
        ] {
            assert!(!is_reference(bad), "{bad}");
        }
    }
}
