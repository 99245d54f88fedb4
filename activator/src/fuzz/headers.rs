//! Headers of requests and responses on their way: nothing of one hop alone goes on, all else does.

use std::collections::BTreeSet;
use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::headers::{self, ClientEnd};
use crate::route::normalise;

/// Headers of one hop alone (RFC 9110 7.6.1).
const HOPS: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];
/// Headers that a `Connection` header cannot remove.
const KEPT: [&str; 6] =
    ["host", "content-length", "content-type", "authorization", "cookie", "trailer"];
/// Prefixes of headers that no client may set, with `-` in either spelling.
const PLATFORM: [&str; 9] = [
    "ebb-peer-",
    "knative-serving-",
    "k-network-",
    "k-proxy-request",
    "k-original-host",
    "k-passthrough-lb",
    "k-kubelet-probe",
    "x-envoy-",
    "x-forwarded-",
];
/// Headers that say who asked.
const CHAIN: [&str; 4] = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded"];

/// By its first byte an input is a request of a client, a request of another activator or the
/// response of a pod; then come the host in a line, and the headers, each in a line.
///
/// # Panics
/// If the input shows a fault.
pub fn headers(input: &[u8]) {
    let Some((kind, text)) = input.split_first() else {
        return;
    };
    let mut lines = text.split(|byte| *byte == b'\n');
    let host = lines.next().unwrap_or_default();
    let before = read(lines);
    let mut after = before.clone();
    let upgrade = headers::upgrade_of(&before);
    if let Some(protocol) = &upgrade {
        let asks = tokens(&before, header::CONNECTION).contains("upgrade");
        let protocol = String::from_utf8_lossy(protocol.as_bytes()).to_ascii_lowercase();
        assert!(asks && !protocol.contains("h2c"));
    }
    let Some(host) = check_host(host) else {
        return;
    };
    match kind % 3 {
        0 => {
            let end = ClientEnd::new(address(*kind));
            headers::for_pod(&mut after, &host, &end, upgrade.clone());
            let is_gone = |name: &str| is_platform(name) || name == "expect";
            check_request(&before, &after, upgrade.as_ref(), is_gone);
            check_chain(&before, &after, &host, *kind);
        }
        1 => {
            headers::from_peer(&mut after, upgrade.clone());
            let is_gone = |name: &str| name.starts_with("ebb-peer-");
            check_request(&before, &after, upgrade.as_ref(), is_gone);
        }
        _ => {
            headers::for_client(&mut after);
            check_rest(&before, &after, |_| false);
            assert!(HOPS.iter().all(|name| !after.contains_key(*name)), "{after:?}");
        }
    }
    check_cookies(before);
}

fn read<'a>(lines: impl Iterator<Item = &'a [u8]>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            map.append(name, value);
        }
    }
    map
}

/// A host that can be routed; every spelling of it is the same host.
fn check_host(host: &[u8]) -> Option<HeaderValue> {
    let text = str::from_utf8(host).ok()?;
    let normal = normalise(text).ok()?;
    for spelling in [
        normal.to_string(),
        format!("{normal}."),
        format!("{normal}:80"),
        normal.to_ascii_uppercase(),
    ] {
        assert_eq!(normalise(&spelling).as_deref(), Ok(&*normal), "{spelling}");
    }
    HeaderValue::from_bytes(host).ok()
}

fn address(kind: u8) -> IpAddr {
    if kind < 128 { [10, 1, 2, kind].into() } else { [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into() }
}

/// The members of a list, in lower case.
fn tokens(headers: &HeaderMap, name: HeaderName) -> BTreeSet<String> {
    let values = headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
    let members = values.flat_map(|value| value.split(|byte| *byte == b','));
    members.map(|member| String::from_utf8_lossy(member).trim().to_ascii_lowercase()).collect()
}

fn is_platform(name: &str) -> bool {
    let name = name.replace('_', "-");
    name.starts_with("forwarded") || PLATFORM.iter().any(|prefix| name.starts_with(prefix))
}

fn check_request(
    before: &HeaderMap,
    after: &HeaderMap,
    upgrade: Option<&HeaderValue>,
    is_gone: impl Fn(&str) -> bool,
) {
    check_rest(before, after, is_gone);
    let only = |name: &str| after.get_all(name).iter().cloned().collect::<Vec<_>>();
    let trailers = tokens(before, header::TE).contains("trailers");
    assert_eq!(only("te"), trailers.then(|| HeaderValue::from_static("trailers")).as_slice());
    assert_eq!(only("upgrade"), upgrade.cloned().as_slice());
    let asks = upgrade.map(|_| HeaderValue::from_static("upgrade"));
    assert_eq!(only("connection"), asks.as_slice());
    let set = ["te", "upgrade", "connection"];
    for name in HOPS.iter().filter(|name| !set.contains(name)) {
        assert!(!after.contains_key(*name), "{name}");
    }
}

/// Headers that go on are as they were, framing included; all others are gone.
fn check_rest(before: &HeaderMap, after: &HeaderMap, is_gone: impl Fn(&str) -> bool) {
    let listed = tokens(before, header::CONNECTION);
    for name in before.keys().map(HeaderName::as_str) {
        if HOPS.contains(&name) || CHAIN.contains(&name) && is_gone(name) {
            continue;
        }
        let goes = is_gone(name) || listed.contains(name) && !KEPT.contains(&name);
        let was: Vec<_> = before.get_all(name).iter().filter(|_| !goes).collect();
        let is: Vec<_> = after.get_all(name).iter().collect();
        assert_eq!(is, was, "{name}");
    }
    for name in after.keys().filter(|name| !before.contains_key(*name)) {
        let is_ours = CHAIN.contains(&name.as_str()) || HOPS.contains(&name.as_str());
        assert!(is_ours, "{name} is new");
    }
}

/// The pod is told who asked, in one value each, of which a client has written no more than its
/// own chain.
fn check_chain(before: &HeaderMap, after: &HeaderMap, host: &HeaderValue, kind: u8) {
    let only = |name: &str| {
        let mut values = after.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let value = values.next().expect("it is set");
        assert_eq!(values.next(), None, "{name}");
        value
    };
    let host = host.to_str().unwrap_or_default();
    let hops: Vec<&str> = only("x-forwarded-for").split(',').map(str::trim).collect();
    let hops: Vec<&str> = hops.into_iter().filter(|hop| !hop.is_empty()).collect();
    let said =
        before.get_all("x-forwarded-for").into_iter().filter_map(|value| value.to_str().ok());
    let said: Vec<&str> = said.flat_map(|value| value.split(',')).map(str::trim).collect();
    let said: Vec<&str> = said.into_iter().filter(|hop| !hop.is_empty()).collect();
    let client = address(kind).to_string();
    assert_eq!(hops, [said, vec![&client]].concat());
    assert_eq!((only("x-forwarded-host"), only("x-forwarded-proto")), (host, "http"));
    let nodes: Vec<&str> = only("forwarded").split(", ").collect();
    assert_eq!(nodes.len(), hops.len(), "{nodes:?} for {hops:?}");
    for (index, (node, hop)) in nodes.into_iter().zip(hops).enumerate() {
        let named = match hop.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => address.to_string(),
            Ok(IpAddr::V6(address)) => format!("\"[{address}]\""),
            Err(_) => "unknown".to_owned(),
        };
        let rest = if index == 0 { format!(";host={host};proto=http") } else { String::new() };
        assert_eq!(node, format!("for={named}{rest}"));
    }
}

/// Cookies in several lines become one with all of them.
fn check_cookies(mut headers: HeaderMap) {
    let all = |headers: &HeaderMap| {
        let values = headers.get_all(header::COOKIE).into_iter().map(HeaderValue::as_bytes);
        values.map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let before = all(&headers);
    headers::join_cookies(&mut headers);
    let after = all(&headers);
    assert!(after.len() == before.len().min(1));
    assert_eq!(after.concat(), before.join(&b"; "[..]));
}
