//! A file over HTTP, from where it was broken off.

use futures::StreamExt as _;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Request, Response, StatusCode, header};

use super::Opened;
use crate::error::FetchTrouble;
use crate::net;
use crate::net::CheckedClient;

/// What a server said of a file.
pub(super) enum Answer {
    Opened(Opened),
    /// A status of an error, which only its protocol can explain.
    Refused(Response),
}

/// Asks for a file from `from` on; with `if_range`, only if it still is in that state.
pub(super) async fn get(
    client: &CheckedClient,
    mut request: Request,
    from: u64,
    if_range: Option<&str>,
) -> Result<Answer, FetchTrouble> {
    let headers = request.headers_mut();
    // A packed body would have other positions than the file.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if from > 0 {
        let range = HeaderValue::try_from(format!("bytes={from}-")).expect("digits are in headers");
        headers.insert(header::RANGE, range);
        if let Some(state) = if_range.and_then(|state| HeaderValue::try_from(state).ok()) {
            headers.insert(header::IF_RANGE, state);
        }
    }
    let answer = client.send(request).await?;
    let host = net::host(answer.url());
    let (start, size) = match answer.status() {
        StatusCode::OK => (0, length(answer.headers())),
        StatusCode::PARTIAL_CONTENT if from > 0 => {
            let range = content_range(answer.headers()).filter(|(start, _)| *start == from);
            range.ok_or_else(|| {
                FetchTrouble::lasting(format!("{host} sent another part than it was asked for"))
            })?
        }
        StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => return Err(FetchTrouble::Changed),
        status if !net::lasting_status(status) => {
            let after = net::retry_after(answer.headers(), jiff::Timestamp::now());
            return Err(FetchTrouble::Passing(
                format!("{host} answered with status {status}"),
                after,
            ));
        }
        status if status.is_success() => {
            return Err(FetchTrouble::lasting(format!(
                "{host} answered with status {status} and no file"
            )));
        }
        _ => return Ok(Answer::Refused(answer)),
    };
    let validator = validator(answer.headers());
    let body = answer
        .bytes_stream()
        .map(move |chunk| chunk.map_err(|error| net::trouble(&host, error)))
        .boxed();
    Ok(Answer::Opened(Opened { start, size, validator, body }))
}

fn length(headers: &HeaderMap) -> Option<u64> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return None;
    }
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Start and size of the whole, of `bytes 5-9/10`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let range = headers.get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, size) = range.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, size.trim().parse().ok()))
}

/// What `If-Range` takes: a strong `ETag`, or a date of a change that is over: within its second a file
/// may have changed once more (RFC 9110, 8.8.2.2).
fn validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::to_owned);
    let date = |name| Some(jiff::fmt::rfc2822::parse(&text(name)?).ok()?.timestamp());
    let is_over = || {
        let (changed, sent) = (date(header::LAST_MODIFIED)?, date(header::DATE)?);
        Some(changed.as_second() < sent.as_second())
    };
    let tag = text(header::ETAG).filter(|tag| tag.starts_with('"'));
    tag.or_else(|| text(header::LAST_MODIFIED).filter(|_| is_over() == Some(true)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_weak_tag_says_nothing_about_bytes() {
        const SENT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
        let strong = headers(&[(header::ETAG, "\"a\""), (header::LAST_MODIFIED, BEFORE)]);
        assert_eq!(validator(&strong).as_deref(), Some("\"a\""));
        let weak = (header::ETAG, "W/\"a\"");
        let changed = |date, sent| {
            let dates = [(header::LAST_MODIFIED, date), (header::DATE, sent)];
            validator(&headers(&[std::slice::from_ref(&weak), &dates].concat()))
        };
        assert_eq!(changed(BEFORE, SENT).as_deref(), Some(BEFORE));
        assert_eq!(changed(SENT, SENT), None);
        assert_eq!(changed(BEFORE, "now"), None);
        assert_eq!(validator(&headers(&[(header::LAST_MODIFIED, BEFORE)])), None);
        assert_eq!(validator(&headers(&[(header::ETAG, "W/\"a\"")])), None);
    }

    #[test]
    fn parts_are_read_with_and_without_the_size_of_the_whole() {
        let range = |text| content_range(&headers(&[(header::CONTENT_RANGE, text)]));
        assert_eq!(range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(range("bytes */10"), None);
        assert_eq!(range("lines 5-9/10"), None);
    }
}
