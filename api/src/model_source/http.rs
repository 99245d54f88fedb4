//! The parts of a URL that matter here. Whoever sends a request parses the whole of it.

/// The part before a `?`.
pub(super) fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or(url)
}

/// The path, empty without one.
pub(super) fn path(url: &str) -> &str {
    let rest = after_protocol(without_query(url));
    rest.find('/').map_or("", |slash| &rest[slash..])
}

/// Whether a URL has a host, no user, no port but a number, and only characters that RFC 3986 knows.
pub(super) fn is_url(url: &str) -> bool {
    let authority = after_protocol(url).split(['/', '?']).next().unwrap_or_default();
    let is_written = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, ""),
    };
    // A user's name and password whose "@" comes after a slash would be shown as host and path.
    let is_host = !host.is_empty()
        && !host.contains('@')
        && (host.starts_with('[') || !host.contains(':'))
        && port.bytes().all(|byte| byte.is_ascii_digit());
    is_host && url.bytes().all(is_written)
}

fn after_protocol(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest)
}
