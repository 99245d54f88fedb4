//! Header hygiene in both directions: fields of one hop alone, fields that no client may set, and
//! what the pod is told about the client.
//!
//! One pass over the names, because a lookup for each name that might be there costs more than the
//! rest of the request.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Names the revision of a request that one activator sends another, as `namespace/name`. Read on
/// the listener for peers only.
pub(crate) const PEER_REVISION: HeaderName = HeaderName::from_static("ebb-peer-revision");
/// The UID of that revision, as the sender knows it; a peer that knows another one of the name is
/// behind, or ahead.
pub(crate) const PEER_REVISION_UID: HeaderName = HeaderName::from_static("ebb-peer-revision-uid");
/// Says that the client reads events, which its head may not tell.
pub(crate) const PEER_READS_EVENTS: HeaderName = HeaderName::from_static("ebb-peer-reads-events");
/// Names a tag of the host's Route, where the settings let it. The pod does not get it.
pub(crate) const SERVING_TAG: HeaderName = HeaderName::from_static("knative-serving-tag");
const PEER_PREFIX: &str = "ebb-peer-";
/// Headers that only the platform may set, by prefix: a client's own could otherwise steer routing
/// or accounting in a Knative-shaped backend.
const PLATFORM_PREFIXES: [&str; 10] = [
    PEER_PREFIX,
    "knative-serving-",
    "k-network-",
    "k-proxy-request",
    "k-original-host",
    "k-passthrough-lb",
    "k-kubelet-probe",
    "x-envoy-",
    "x-forwarded-",
    "forwarded",
];

/// The client's address, in the forms that the headers want.
#[derive(Debug, Clone)]
pub(crate) struct ClientEnd {
    address: HeaderValue,
    /// `for=` node of RFC 7239.
    node: String,
}

// === impl ClientEnd ===

impl ClientEnd {
    /// A client at `address`.
    pub(crate) fn new(address: IpAddr) -> Self {
        let text = address.to_canonical().to_string();
        Self {
            node: node(&text),
            // An address in text form has only visible ASCII.
            address: HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("unknown")),
        }
    }
}

/// Makes a client's headers fit for the pod. `upgrade` is the protocol that the client asks to
/// switch to, if it does.
pub(crate) fn for_pod(
    headers: &mut HeaderMap,
    host: &HeaderValue,
    client: &ClientEnd,
    upgrade: Option<HeaderValue>,
) {
    let before: Option<String> = client_chain(headers);
    for_next_hop(headers, upgrade, |name| is_platform(name) || *name == header::EXPECT);
    let host_text = host.to_str().unwrap_or_default();
    let (chain, forwarded) = match before {
        None => {
            (client.address.clone(), format!("for={};host={host_text};proto=http", client.node))
        }
        Some(before) => {
            let forwarded = forwarded_chain(&before, host_text, client);
            let chain = format!("{before}, {}", client.address.to_str().unwrap_or("unknown"));
            (HeaderValue::try_from(chain).unwrap_or_else(|_| client.address.clone()), forwarded)
        }
    };
    headers.insert(X_FORWARDED_FOR, chain);
    headers.insert(X_FORWARDED_HOST, host.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    if let Ok(value) = HeaderValue::try_from(forwarded) {
        headers.insert(header::FORWARDED, value);
    }
}

/// Makes the headers of a request that another activator sent fit for the pod: that activator has
/// already named the client and removed the fields that no client may set.
pub(crate) fn from_peer(headers: &mut HeaderMap, upgrade: Option<HeaderValue>) {
    for_next_hop(headers, upgrade, |name| name.as_str().starts_with(PEER_PREFIX));
}

/// Joins the cookie fields of an HTTP/2 client into one (RFC 9113 8.2.3): HTTP/1 has only one, and
/// pods read the first.
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let all: Vec<_> =
        [first, second].into_iter().chain(crumbs).map(HeaderValue::as_bytes).collect();
    // The joined bytes are a valid value, because each part is one.
    if let Ok(cookie) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(header::COOKIE, cookie);
    }
}

/// Makes a pod's headers fit for the client.
pub(crate) fn for_client(headers: &mut HeaderMap) {
    strip(headers, |_| false);
}

/// The protocol of an HTTP/1 upgrade; h2c does not count, as HTTP/2 is taken by prior knowledge
/// only.
pub(crate) fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(header::UPGRADE)?;
    let asked = tokens(headers, &header::CONNECTION).any(|t| t.eq_ignore_ascii_case("upgrade"));
    let h2c = protocol.as_bytes().windows(3).any(|bytes| bytes.eq_ignore_ascii_case(b"h2c"));
    (asked && !h2c).then(|| protocol.clone())
}

/// Bytes that the head takes in memory, roughly: names, values and their bookkeeping.
pub(crate) fn head_bytes(headers: &HeaderMap, path: &str) -> usize {
    /// A hash slot, two reference-counted buffers and the padding of a map entry.
    const ENTRY_BYTES: usize = 112;
    headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + ENTRY_BYTES)
        .sum::<usize>()
        + path.len()
}

/// Removes the fields of this hop and those that `also` matches, and asks the next hop for the
/// trailers and the upgrade that this hop was asked for.
fn for_next_hop(
    headers: &mut HeaderMap,
    upgrade: Option<HeaderValue>,
    also: impl Fn(&HeaderName) -> bool,
) {
    let trailers = wants_trailers(headers);
    strip(headers, also);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }
}

fn strip(headers: &mut HeaderMap, also: impl Fn(&HeaderName) -> bool) {
    let mut doomed: Vec<HeaderName> =
        headers.keys().filter(|name| is_hop(name) || also(name)).cloned().collect();
    if doomed.is_empty() {
        return;
    }
    if doomed.contains(&header::CONNECTION) {
        let listed = tokens(headers, &header::CONNECTION)
            .filter_map(|token| HeaderName::try_from(token).ok())
            .filter(|name| !is_protected(name));
        doomed.extend(listed.collect::<Vec<_>>());
    }
    for name in doomed {
        headers.remove(name);
    }
}

/// Headers of this hop alone (RFC 9110 7.6.1). Transfer-Encoding too: hyper frames the message
/// anew.
fn is_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Fields of framing and identity, which a `Connection` header cannot remove by listing them.
fn is_protected(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "host" | "content-length" | "content-type" | "authorization" | "cookie" | "trailer"
    )
}

/// CGI-shaped backends take `_` for `-`, so a prefix counts in either spelling.
fn is_platform(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    if !matches!(name.first(), Some(b'e' | b'k' | b'x' | b'f')) {
        return false;
    }
    PLATFORM_PREFIXES.iter().any(|prefix| {
        name.len() >= prefix.len()
            && prefix
                .bytes()
                .zip(name)
                .all(|(want, have)| want == *have || (want == b'-' && *have == b'_'))
    })
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        // Bytes that are no text are no token, and the others of their line count all the same.
        .filter_map(|token| str::from_utf8(token.trim_ascii()).ok())
        .filter(|token| !token.is_empty())
}

fn wants_trailers(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TE)
        && tokens(headers, &header::TE).any(|token| token.eq_ignore_ascii_case("trailers"))
}

/// The client's own X-Forwarded-For, all its lines as one, if it names anybody.
fn client_chain(headers: &HeaderMap) -> Option<String> {
    let mut lines = headers.get_all(X_FORWARDED_FOR).iter().filter_map(|v| v.to_str().ok());
    let mut chain = lines.next()?.trim().to_owned();
    for line in lines {
        chain.push_str(", ");
        chain.push_str(line.trim());
    }
    chain.contains(|letter| !matches!(letter, ',' | ' ' | '\t')).then_some(chain)
}

/// `Forwarded` as Knative's queue-proxy makes it of X-Forwarded-*: host and protocol at the first
/// hop only.
fn forwarded_chain(before: &str, host: &str, client: &ClientEnd) -> String {
    let mut all = String::new();
    for hop in before.split(',').map(str::trim).filter(|hop| !hop.is_empty()) {
        let first = all.is_empty();
        let _infallible = write!(all, "{}for={}", if first { "" } else { ", " }, node(hop));
        if first {
            let _infallible = write!(all, ";host={host};proto=http");
        }
    }
    let _infallible = write!(all, ", for={}", client.node);
    all
}

/// An address as RFC 7239 writes it; anything else becomes `unknown`, so that nothing a client
/// wrote can break out of the syntax.
fn node(hop: &str) -> String {
    match hop.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.to_string(),
        Ok(IpAddr::V6(address)) => format!("\"[{address}]\""),
        Err(_) => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn sent(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = headers(pairs);
        let client = ClientEnd::new([10, 1, 2, 3].into());
        for_pod(&mut map, &HeaderValue::from_static("a.b"), &client, None);
        map
    }

    #[test]
    fn platform_headers_of_clients_are_stripped_in_every_spelling() {
        let map = sent(&[
            ("knative-serving-revision", "evil"),
            ("knative_serving_revision", "evil"),
            ("ebb-peer-revision", "evil"),
            ("ebb_peer_revision", "evil"),
            ("k-network-hash", "evil"),
            ("k-proxy-request", "activator"),
            ("x-envoy-internal", "true"),
            ("x_forwarded_for", "evil"),
            ("x-request-id", "kept"),
        ]);
        assert_eq!(map["x-request-id"], "kept");
        assert!(map.iter().all(|(_, value)| value != "evil" && value != "activator"));
        assert!(!map.contains_key("x-envoy-internal"));
    }

    #[test]
    fn hop_headers_are_stripped_and_framing_cannot_be_listed_away() {
        let map = sent(&[
            ("connection", "keep-alive, x-secret-hop, authorization, content-length"),
            ("keep-alive", "timeout=5"),
            ("x-secret-hop", "1"),
            ("authorization", "Bearer x"),
            ("content-length", "3"),
            ("te", "gzip, trailers"),
            ("proxy-authorization", "x"),
        ]);
        for gone in ["connection", "keep-alive", "x-secret-hop", "proxy-authorization"] {
            assert!(!map.contains_key(gone), "{gone}");
        }
        assert_eq!(map["authorization"], "Bearer x");
        assert_eq!(map["content-length"], "3");
        assert_eq!(map["te"], "trailers");
    }

    #[test]
    fn the_pod_is_told_who_asked() {
        let map = sent(&[]);
        assert_eq!(map["x-forwarded-for"], "10.1.2.3");
        assert_eq!(map["x-forwarded-proto"], "http");
        assert_eq!(map["forwarded"], "for=10.1.2.3;host=a.b;proto=http");
        let map = sent(&[
            ("x-forwarded-for", "::1, <script>"),
            ("x-forwarded-proto", "gopher"),
            ("forwarded", "for=evil"),
        ]);
        assert_eq!(map["x-forwarded-for"], "::1, <script>, 10.1.2.3");
        assert_eq!(map["x-forwarded-proto"], "http");
        let want = "for=\"[::1]\";host=a.b;proto=http, for=unknown, for=10.1.2.3";
        assert_eq!(map["forwarded"], want);
    }

    #[test]
    fn a_chain_that_names_nobody_is_none() {
        for chain in ["", ",", " , ,"] {
            assert_eq!(sent(&[("x-forwarded-for", chain)]), sent(&[]), "{chain:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_hide_no_header_of_this_hop() {
        let mut map = headers(&[("x-hop", "1"), ("te", "1")]);
        let value = |bytes| HeaderValue::from_bytes(bytes).unwrap();
        map.insert("connection", value(b"x-hop, \xff"));
        map.append("te", value(b"\xff, trailers"));
        from_peer(&mut map, None);
        assert_eq!(map, headers(&[("te", "trailers")]));
    }

    #[test]
    fn a_peer_has_said_who_asked_and_the_pod_is_told_just_that() {
        let mut map = sent(&[("x-forwarded-for", "1.2.3.4"), ("te", "trailers")]);
        let said = map.clone();
        map.insert(PEER_REVISION, HeaderValue::from_static("default/digits-00001"));
        map.insert("connection", HeaderValue::from_static("keep-alive"));
        from_peer(&mut map, None);
        assert_eq!(map, said);
    }

    #[test]
    fn an_upgrade_needs_both_headers_and_is_never_h2c() {
        let of = |pairs| upgrade_of(&headers(pairs));
        assert!(of(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]).is_some());
        assert!(of(&[("upgrade", "websocket")]).is_none());
        assert!(of(&[("connection", "upgrade"), ("upgrade", "h2c")]).is_none());
        let mut map = headers(&[("connection", "upgrade")]);
        map.insert("upgrade", HeaderValue::from_bytes(b"H2C, \xff").unwrap());
        assert_eq!(upgrade_of(&map), None);
    }
}
