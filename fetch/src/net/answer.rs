//! What statuses, headers and small bodies of answers mean.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use tokio::time::Instant;

use super::{host, trouble};
use crate::error::FetchTrouble;
use crate::pace::{ArrivalPace, TOO_SLOW};

/// How long a server asks to wait: seconds, or until a date.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// Whether a status will be the same at the next attempt: all errors but those of a server that is
/// overloaded, limits rates or times out.
pub(crate) fn lasting_status(status: StatusCode) -> bool {
    let passes = status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || status == StatusCode::TOO_EARLY;
    !passes
}

/// The body of an answer, which may have `max` bytes.
pub(crate) async fn read_small(mut answer: Response, max: usize) -> Result<Vec<u8>, FetchTrouble> {
    let host = host(answer.url());
    let mut body = Vec::new();
    let mut pace = ArrivalPace::new(Instant::now());
    loop {
        let chunk: Option<Bytes> = answer.chunk().await.map_err(|error| trouble(&host, error))?;
        let Some(chunk) = chunk else { return Ok(body) };
        if pace.is_too_slow(chunk.len(), Instant::now()) {
            return Err(FetchTrouble::passing(TOO_SLOW));
        }
        if body.len() + chunk.len() > max {
            return Err(FetchTrouble::lasting(format!(
                "{host} sent a list of more than {max} bytes: name a folder or a file of it"
            )));
        }
        body.extend_from_slice(&chunk);
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn a_wait_is_asked_for_in_seconds_or_until_a_date() {
        let now: Timestamp = "1994-11-06T08:49:30Z".parse().unwrap();
        let asked = |text: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            retry_after(&headers, now)
        };
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:00 GMT"), Some(Duration::ZERO));
        assert_eq!(asked("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn only_a_servers_own_troubles_pass() {
        for status in [500, 502, 503, 504, 429, 408, 425] {
            assert!(!lasting_status(StatusCode::from_u16(status).unwrap()), "{status}");
        }
        for status in [400, 401, 403, 404, 410, 412, 416, 451] {
            assert!(lasting_status(StatusCode::from_u16(status).unwrap()), "{status}");
        }
    }
}
