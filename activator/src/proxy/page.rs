//! The page that a browser shows while it waits for a model.
//!
//! For people who open a model's address by hand, where the template says so. The page loads itself
//! again until there is a pod, so that it turns into the model's own; it has no script and takes
//! nothing from elsewhere. Its status is 503: for programs nothing has been answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ebb_api::start_phase::StartPhase;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use tokio::time::{Instant, timeout_at};

use super::client::Client;
use super::failed::Failed;
use super::waiting::Waiting;
use crate::body::ProxyBody;
use crate::revision::StartView;
use crate::upload::Upload;

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
/// How long a browser waits without a page: a model that is quick needs none.
const PAGE_AFTER: Duration = Duration::from_secs(1);
/// Seconds until the page loads itself again. It waits for [`PAGE_AFTER`] each time, too.
const RELOAD_S: u64 = 2;
const STYLE: &str = include_str!("page/style.css");
/// Of what is allowed, nothing is but the style above, which goes by its hash.
const POLICY: &str = "default-src 'none'; style-src \
    'sha256-i4M/H5DOUKODsWXl6geznPaKetqBBWT8bW1YNsJMnys='; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

// === impl Client ===

impl Client {
    /// Waits for a pod for a moment, and shows the page if there is none. Behind busy pods the request
    /// keeps its place: who comes again is the last.
    pub(super) async fn answer_browser(
        &self,
        mut waiting: Waiting,
    ) -> Result<Response<ProxyBody>, Failed> {
        let until = waiting.visit.arrived() + PAGE_AFTER;
        match timeout_at(until, waiting.visit.pod()).await {
            Ok(Ok(_)) => self.finish(waiting).await,
            Ok(Err(error)) => {
                waiting.visit.failed(&error);
                let start = waiting.visit.usual_start();
                Err(Failed::unsent(waiting.request, error).at(start))
            }
            Err(_) => {
                let revision = Arc::clone(waiting.visit.revision());
                let Some(start) = revision.start_view(Instant::now()) else {
                    return self.finish(waiting).await;
                };
                waiting.visit.answered(StatusCode::SERVICE_UNAVAILABLE);
                Ok(response(&page(&revision.key.name, start)))
            }
        }
    }
}

/// Whether a browser asks for a page to show in its window. Browsers say so to addresses that they
/// trust: those of HTTPS, and of this machine.
pub(super) fn navigates(request: &Request<Upload>) -> bool {
    let headers = request.headers();
    *request.method() == Method::GET
        && headers.get(SEC_FETCH_MODE).is_some_and(|mode| mode == "navigate")
        && accepts_pages(headers)
}

fn accepts_pages(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(header::ACCEPT).iter();
    lines.any(|line| {
        let mut ranges = line.as_bytes().split(|byte| matches!(byte, b',' | b';'));
        ranges.any(|range| range.trim_ascii().eq_ignore_ascii_case(b"text/html"))
    })
}

fn response(page: &str) -> Response<ProxyBody> {
    let mut response = Response::new(ProxyBody::local(Bytes::from(page.to_owned())));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::RETRY_AFTER, HeaderValue::from(RELOAD_S));
    response
}

/// The page. A revision's name is a DNS label: it has no character that HTML would read.
fn page(name: &str, start: StartView) -> String {
    let steps = [
        (StartPhase::Asked, "A replica is asked for"),
        (StartPhase::Pending, "It gets a machine and its image"),
        (StartPhase::Fetching, "The model's files are fetched"),
        (StartPhase::Loading, "The model loads"),
    ];
    // Few models fetch files, and those that do find them fetched at most starts.
    let is_known = |step: StartPhase| step != StartPhase::Fetching || step == start.phase;
    let step = |(step, text): (StartPhase, &str)| {
        let mark = match step.cmp(&start.phase) {
            std::cmp::Ordering::Less => " class=\"done\"",
            std::cmp::Ordering::Equal => " aria-current=\"step\"",
            std::cmp::Ordering::Greater => "",
        };
        format!("<li{mark}>{text}</li>")
    };
    let steps = steps.into_iter().filter(|(step, _)| is_known(*step));
    let steps: String = steps.map(step).collect();
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs());
    let times = match (seconds(start.lasts), seconds(start.usual)) {
        (Some(lasts), Some(usual)) => format!("{lasts} s so far, usually {usual} s."),
        (Some(lasts), None) => format!("{lasts} s so far."),
        (None, Some(usual)) => format!("Usually {usual} s."),
        (None, None) => String::new(),
    };
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"refresh\" content=\"{RELOAD_S}\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{name} is waking</title><style>{STYLE}</style></head>\
         <body><main><h1>{name} is waking</h1><ol>{steps}</ol><p>{times}</p>\
         <p>This page turns into the model's by itself.</p></main></body></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_for_browsers_that_navigate() {
        let asked = |method: Method, mode: &'static str, accept: &'static str| {
            let request = Request::builder().method(method).uri("/");
            let request = request.header(SEC_FETCH_MODE, mode).header(header::ACCEPT, accept);
            navigates(&request.body(Upload::Empty).unwrap())
        };
        let html = "application/xhtml+xml;q=0.9, text/html;q=0.8";
        assert!(asked(Method::GET, "navigate", html));
        assert!(!asked(Method::POST, "navigate", html));
        assert!(!asked(Method::GET, "cors", html));
        assert!(!asked(Method::GET, "navigate", "*/*"));
    }

    #[test]
    fn a_page_tells_how_far_the_start_is() {
        let told = |phase, lasts, usual| {
            let time = |seconds: Option<u64>| seconds.map(Duration::from_secs);
            page("digits-00001", StartView { phase, lasts: time(lasts), usual: time(usual) })
        };
        let pending = told(StartPhase::Pending, Some(12), Some(40));
        assert!(pending.contains("<li class=\"done\">A replica is asked for</li>"), "{pending}");
        assert!(pending.contains("<li aria-current=\"step\">It gets a machine"), "{pending}");
        assert!(pending.contains("<li>The model loads</li>"), "{pending}");
        assert!(pending.contains("<p>12 s so far, usually 40 s.</p>"), "{pending}");
        assert!(pending.contains("<title>digits-00001 is waking</title>"), "{pending}");
        assert!(!pending.contains("<script") && !pending.contains("src="), "{pending}");
        let fetching = told(StartPhase::Fetching, None, None);
        assert!(fetching.contains("<li aria-current=\"step\">The model's files are fetched</li>"));
        assert!(!pending.contains("files"), "{pending}");
        assert!(told(StartPhase::Asked, Some(1), None).contains("<p>1 s so far.</p>"));
    }
}
