//! Models that sleep without being stopped: `serving.ebb.dev/standby: "process"` on a template.
//!
//! At silence the last replica is told to sleep by a `POST` to `standby-sleep`, and woken by one to
//! `standby-wake`; both are vLLM's without the annotations. After `standby-for` it is stopped.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::annotations::Key;
use crate::duration;
use crate::field_error::clip;

/// Whether a replica sleeps instead of being stopped: [`PROCESS`], or nothing.
pub const STANDBY: Key = Key(&["serving.ebb.dev/standby"]);
/// The path, with its query, that tells a server to sleep.
pub const STANDBY_SLEEP: Key = Key(&["serving.ebb.dev/standby-sleep"]);
/// The path, with its query, that wakes it.
pub const STANDBY_WAKE: Key = Key(&["serving.ebb.dev/standby-wake"]);
/// How long it sleeps at the most before it is stopped, or [`FOREVER`].
pub const STANDBY_FOR: Key = Key(&["serving.ebb.dev/standby-for"]);
/// All four.
pub const STANDBY_KEYS: [Key; 4] = [STANDBY, STANDBY_SLEEP, STANDBY_WAKE, STANDBY_FOR];
/// On a pod, by the autoscaler: its server was told to sleep, at this time.
pub const ASLEEP: Key = Key(&["serving.ebb.dev/asleep"]);

/// The one way to sleep: the process goes on, and gives up what it can do without.
pub const PROCESS: &str = "process";
/// Never stopped for having slept long.
pub const FOREVER: &str = "forever";
/// Shortest and longest sleep.
pub const SHORTEST: Duration = Duration::from_secs(1);
/// As [`SHORTEST`]: a week. Who means more means [`FOREVER`].
pub const LONGEST: Duration = Duration::from_hours(168);
/// Longest path with its query.
pub const PATH_BYTES_MAX: usize = 200;

/// vLLM's paths (vllm/entrypoints/serve/sleep, with `VLLM_SERVER_DEV_MODE=1`).
const SLEEP: &str = "/sleep?level=1";
const WAKE: &str = "/wake_up";
const IS_SLEEPING: &str = "/is_sleeping";
const LASTS: Duration = Duration::from_hours(1);
/// A path is decoded so often at the most; what is encoded more often is refused to nobody.
const DECODED_MAX: usize = 4;

/// How a revision's last replica sleeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standby {
    /// The path of the request that lets it sleep, with its query.
    pub sleep: Box<str>,
    /// The path of the request that wakes it, with its query.
    pub wake: Box<str>,
    /// How long it sleeps before it is stopped; `None` for ever.
    pub lasts: Option<Duration>,
}

/// What is wrong with one of the annotations.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StandbyError {
    /// Another way to sleep.
    #[error("it must be \"process\", or left out")]
    Way,
    /// Something that means nothing without a way to sleep.
    #[error("it means nothing without serving.ebb.dev/standby: \"process\"")]
    Alone,
    /// The mark of a pod.
    #[error("Ebb writes it, on pods that sleep: leave it out")]
    Mark,
    /// No path.
    #[error(
        "{0:?} is not a path: it begins with \"/\", goes on with visible characters of ASCII other \
         than \", #, <, >, \\, ^, `, {{, | and }}, and has at most {PATH_BYTES_MAX}"
    )]
    Path(String),
    /// No time.
    #[error("it must be \"forever\", or a duration from 1s to 168h, such as \"1h\"")]
    Lasts,
}

// === impl Standby ===

impl Standby {
    /// How a revision with these annotations sleeps; `None` where it is stopped at once. An error comes
    /// with the annotation that it is about.
    pub fn of(
        annotations: Option<&BTreeMap<String, String>>,
    ) -> Result<Option<Self>, (Key, StandbyError)> {
        let given = |key: Key| key.get(annotations).filter(|text| !text.is_empty());
        if ASLEEP.get(annotations).is_some() {
            // The Deployment would put it on every pod.
            return Err((ASLEEP, StandbyError::Mark));
        }
        match given(STANDBY) {
            Some(PROCESS) => {}
            Some(_) => return Err((STANDBY, StandbyError::Way)),
            None => {
                let others = [STANDBY_SLEEP, STANDBY_WAKE, STANDBY_FOR];
                return match others.into_iter().find(|key| given(*key).is_some()) {
                    Some(key) => Err((key, StandbyError::Alone)),
                    None => Ok(None),
                };
            }
        }
        let path = |key: Key, default: &str| {
            let path = given(key).unwrap_or(default);
            if is_path(path) {
                Ok(Box::from(path))
            } else {
                Err((key, StandbyError::Path(clip(path).into_owned())))
            }
        };
        let lasts = match given(STANDBY_FOR) {
            None => Some(LASTS),
            Some(FOREVER) => None,
            Some(text) => {
                let within = |time: &Duration| (SHORTEST..=LONGEST).contains(time);
                let time = duration::parse(text).filter(within);
                Some(time.ok_or((STANDBY_FOR, StandbyError::Lasts))?)
            }
        };
        let (sleep, wake) = (path(STANDBY_SLEEP, SLEEP)?, path(STANDBY_WAKE, WAKE)?);
        Ok(Some(Self { sleep, wake, lasts }))
    }

    /// Whether a request for this path is not for clients: the server would sleep, wake, or tell whether
    /// it sleeps. However the path is written: encoded, with empty segments, in capitals; and below
    /// whatever prefix, for many servers take one off (`--root-path`).
    pub fn is_reserved(&self, path: &str) -> bool {
        let asked = plain(path);
        let is_asked = |own: &str| asked.ends_with(&plain(bare(own)));
        [&*self.sleep, &*self.wake, IS_SLEEPING].into_iter().any(is_asked)
    }
}

/// Without its query.
fn bare(path: &str) -> &str {
    path.split('?').next().unwrap_or(path)
}

/// Whether a request can be made of it: RFC 3986 has no other characters, and the `http` crate takes
/// these.
fn is_path(path: &str) -> bool {
    let is_fit = |byte: u8| matches!(byte, b'!'..=b'~') && !b"\"#<>\\^`{|}".contains(&byte);
    path.len() <= PATH_BYTES_MAX
        && path.bytes().all(is_fit)
        && path.starts_with('/')
        && !plain(bare(path)).is_empty()
}

/// The segments of a path as the most lenient server may read them.
fn plain(path: &str) -> Vec<String> {
    let mut text = Cow::Borrowed(path.as_bytes());
    for _ in 0..DECODED_MAX {
        match decoded(&text) {
            Some(less) => text = Cow::Owned(less),
            None => break,
        }
    }
    // A pattern that ends with "$" matches before a line feed as well (Python's `re`, and so Starlette).
    let seen: Vec<u8> = text.iter().copied().filter(|byte| *byte > b' ' && *byte != 0x7f).collect();
    let text = String::from_utf8_lossy(&seen).to_lowercase();
    let mut segments: Vec<String> = Vec::new();
    for segment in text.split(['/', '\\']) {
        // Some servers take what follows a semicolon for a parameter.
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment.to_owned()),
        }
    }
    segments
}

/// Percent-decoded once; `None` if nothing is encoded.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut found = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let pair = (text[at] == b'%').then(|| digit(at + 1).zip(digit(at + 2))).flatten();
        let (byte, length) = match pair {
            Some((high, low)) => (u8::try_from(high * 16 + low).unwrap_or(b'%'), 3),
            None => (text[at], 1),
        };
        found.push(byte);
        at += length;
    }
    (found.len() < text.len()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(given: &[(Key, &str)]) -> Result<Option<Standby>, (&'static str, String)> {
        let given: Vec<_> = given.iter().map(|(key, text)| (key.name(), *text)).collect();
        let annotations =
            given.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
        Standby::of(Some(&annotations)).map_err(|(key, error)| (key.name(), error.to_string()))
    }

    #[test]
    fn one_word_means_what_vllm_has() {
        assert_eq!((Standby::of(None), of(&[(STANDBY, "")])), (Ok(None), Ok(None)));
        let vllm = of(&[(STANDBY, "process")]).unwrap().unwrap();
        assert_eq!((&*vllm.sleep, &*vllm.wake), ("/sleep?level=1", "/wake_up"));
        assert_eq!(vllm.lasts, Some(Duration::from_hours(1)));
        let own = [
            (STANDBY, "process"),
            (STANDBY_SLEEP, "/admin/off"),
            (STANDBY_WAKE, "/admin/on?all=1"),
            (STANDBY_FOR, "forever"),
        ];
        let own = of(&own).unwrap().unwrap();
        assert_eq!((&*own.sleep, &*own.wake, own.lasts), ("/admin/off", "/admin/on?all=1", None));
    }

    #[test]
    fn what_cannot_be_meant_is_told_in_one_sentence() {
        let way = "it must be \"process\", or left out";
        assert_eq!(of(&[(STANDBY, "yes")]), Err((STANDBY.name(), way.to_owned())));
        let alone = "it means nothing without serving.ebb.dev/standby: \"process\"";
        assert_eq!(of(&[(STANDBY_FOR, "1h")]), Err((STANDBY_FOR.name(), alone.to_owned())));
        let mark = "Ebb writes it, on pods that sleep: leave it out";
        assert_eq!(of(&[(ASLEEP, "")]), Err((ASLEEP.name(), mark.to_owned())));
        let lasts = "it must be \"forever\", or a duration from 1s to 168h, such as \"1h\"";
        for text in ["0s", "169h", "soon", "-1s"] {
            let told = of(&[(STANDBY, "process"), (STANDBY_FOR, text)]);
            assert_eq!(told, Err((STANDBY_FOR.name(), lasts.to_owned())), "{text}");
        }
        let long = format!("/{}", "a".repeat(PATH_BYTES_MAX));
        for text in [
            "sleep",
            "/",
            "//",
            "/?level=1",
            "/a b",
            "/a#b",
            "/\u{f6}",
            "/%20",
            "/<a>",
            "/a?\"",
            &long,
        ] {
            for key in [STANDBY_SLEEP, STANDBY_WAKE] {
                let (told, message) = of(&[(STANDBY, "process"), (key, text)]).unwrap_err();
                assert!(told == key.name() && message.contains("is not a path"), "{message}");
            }
        }
    }

    #[test]
    fn a_reserved_path_is_known_however_it_is_written() {
        let standby = of(&[(STANDBY, "process")]).unwrap().unwrap();
        for path in [
            "/sleep",
            "/sleep/",
            "//sleep",
            "/./sleep",
            "/v1/../sleep",
            "/%73leep",
            "/sl%65%65p/",
            "/%2573leep",
            "/%2Fsleep",
            "/SLEEP",
            "/sleep;a=b",
            "\\sleep",
            "/wake_up",
            "/wake%5Fup",
            "/is_sleeping",
            "/sleep%0A",
            "/sleep%0D%0A",
            "/sleep%20",
            "/sleep%00",
            "/sleep%09/",
            "/sleep%7F",
            "/%250Awake_up",
            "/.%0A./sleep",
            "/v1/sleep",
            "/llm/v1/wake_up",
        ] {
            assert!(standby.is_reserved(path), "{path}");
        }
        for path in ["/", "/v1/chat/completions", "/sleeping", "/v1/sleep/a", "/wake", "/%zz", "%"]
        {
            assert!(!standby.is_reserved(path), "{path}");
        }
        let own = [(STANDBY, "process"), (STANDBY_SLEEP, "/a/off?x=1"), (STANDBY_WAKE, "/a/on")];
        let own = of(&own).unwrap().unwrap();
        for (path, is_reserved) in [
            ("/a//off", true),
            ("/a/on", true),
            ("/llm/a/on", true),
            ("/a/b/on", false),
            ("/on", false),
            ("/sleep", false),
        ] {
            assert_eq!(own.is_reserved(path), is_reserved, "{path}");
        }
    }
}
