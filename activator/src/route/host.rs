//! Hosts as the table knows them: lower case, no port, no trailing dot.

use std::borrow::Cow;

/// Longest DNS name in text form (RFC 1035, 255 octets on the wire).
const HOST_BYTES_MAX: usize = 253;

/// A host that is no DNS name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("host")]
pub struct HostError;

/// The host in the form of the table. A host that has this form already is not copied.
///
/// Refuses user information, paths, lists and bad ports. Address literals are refused too: no
/// route can have one, and a lookup of what a client wrote must not happen anywhere.
pub fn normalise(authority: &str) -> Result<Cow<'_, str>, HostError> {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) => {
            let valid = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            let number: u16 = port.parse().map_err(|_| HostError)?;
            if !valid || number == 0 {
                return Err(HostError);
            }
            host
        }
        None => authority,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || host.len() > HOST_BYTES_MAX || host.ends_with('.') {
        return Err(HostError);
    }
    let mut upper = false;
    for byte in host.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {}
            b'A'..=b'Z' => upper = true,
            _ => return Err(HostError),
        }
    }
    Ok(if upper { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_port_and_one_trailing_dot_do_not_matter() {
        for host in ["a.b", "A.b", "a.b:80", "a.b.", "A.B.:65535"] {
            assert_eq!(normalise(host).as_deref(), Ok("a.b"), "{host}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(254);
        for host in [
            "",
            ".",
            ":80",
            "a..",
            "a:0",
            "a:99999",
            "a:",
            "a:+1",
            "u@a",
            "a/b",
            "a,b",
            "a b",
            "[::1]",
            "[::1%25eth0]",
            "ä.de",
            &long,
        ] {
            assert_eq!(normalise(host), Err(HostError), "{host}");
        }
    }
}
