//! The model's name in a body, wherever it stands, and the same body with another name.
//!
//! The whole body is looked at: of two names a server may take the last, so that a request must not
//! go by the first.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use ebb_api::models::NAME_BYTES_MAX;
use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::call::BodyKind;
use crate::error::ModelError;

mod multipart;

/// The field that names the model.
const FIELD: &str = "model";
const OBJECT: ModelError = ModelError::BodyUnfit("a JSON object");

/// A model's name in a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    /// Whether the client wants the answer as a stream of events, as far as JSON says so.
    pub(crate) streams: bool,
    /// Where the body has it, in JSON with its quotes.
    range: Range<usize>,
    kind: BodyKind,
}

/// What is read of a JSON body. Everything else is passed over without being kept, at any depth.
struct Asked<'a> {
    model: Option<&'a RawValue>,
    /// The last of that name, as servers take it.
    stream: Option<&'a RawValue>,
}

/// Reads [`Asked`]. A key that is `model` but for its case counts as a second one: Go's servers take
/// it, whichever comes last.
struct AskedVisitor;

// === impl Asked ===

impl<'de> Deserialize<'de> for Asked<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AskedVisitor)
    }
}

impl<'de> Visitor<'de> for AskedVisitor {
    type Value = Asked<'de>;

    fn expecting(&self, text: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        text.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Asked<'de>, A::Error> {
        let (mut model, mut stream, mut likenesses) = (None, None, 0);
        while let Some(key) = map.next_key::<Key<'de>>()? {
            likenesses += usize::from(key.0.eq_ignore_ascii_case(FIELD));
            if likenesses > 1 {
                return Err(A::Error::custom("twice"));
            }
            if key.0 == FIELD {
                model = map.next_value()?;
            } else if key.0 == "stream" {
                stream = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Asked { model, stream })
    }
}

/// A key, copied only if it has escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// The model that a body names.
pub(crate) fn find(
    body: &[u8],
    kind: BodyKind,
    content_type: Option<&str>,
) -> Result<Named, ModelError> {
    let (name, range, streams) = match kind {
        BodyKind::Json => in_json(body)?,
        BodyKind::Multipart => {
            let (name, range) = multipart::field(body, content_type, FIELD)?;
            (name, range, false)
        }
    };
    if name.is_empty() {
        return Err(ModelError::ModelMissing);
    }
    // A tag and a namespace may come with the name.
    if name.len() > 2 * NAME_BYTES_MAX {
        return Err(ModelError::ModelUnfit);
    }
    Ok(Named { name, streams, range, kind })
}

fn in_json(body: &[u8]) -> Result<(String, Range<usize>, bool), ModelError> {
    // serde would take a list for an object whose names are left out.
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') {
        return Err(OBJECT);
    }
    let asked: Asked<'_> = serde_json::from_slice(body).map_err(|error| broken(&error))?;
    let raw = asked.model.ok_or(ModelError::ModelMissing)?.get();
    let name = serde_json::from_str(raw).map_err(|_| ModelError::ModelUnfit)?;
    // The raw value is a part of the body.
    let start = raw.as_ptr().addr() - body.as_ptr().addr();
    let streams = asked.stream.is_some_and(|stream| stream.get() == "true");
    Ok((name, start..start + raw.len(), streams))
}

fn broken(error: &serde_json::Error) -> ModelError {
    if error.is_data() {
        // The only rule that an object can break: no name is there twice.
        return ModelError::ModelTwice;
    }
    ModelError::BodyBroken(error.to_string())
}

impl Named {
    /// The same body with `name` in the place of its own. What is not changed is not copied.
    pub(crate) fn renamed(&self, body: &Bytes, name: &str) -> [Bytes; 3] {
        let name = match self.kind {
            // A declared name has no character that JSON would escape.
            BodyKind::Json => format!("\"{name}\""),
            BodyKind::Multipart => name.to_owned(),
        };
        [body.slice(..self.range.start), name.into(), body.slice(self.range.end..)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(body: &str) -> Result<String, ModelError> {
        find(body.as_bytes(), BodyKind::Json, None).map(|named| named.name)
    }

    #[test]
    fn a_name_is_found_wherever_it_stands() {
        let large = format!(r#"{{"messages":"{}","model":"smol"}}"#, "x".repeat(1 << 20));
        for body in [
            r#"{"model":"smol"}"#,
            " {\n\"messages\" : [ { \"model\": \"no\" } ] , \"model\" :\t\"smol\" } ",
            r#"{"a":{"model":"no"},"b":["model","no"],"model":"smol","c":1.5e9,"d":null}"#,
            r#"{"mod\u0065l":"smol"}"#,
            r#"{"model":"sm\u006fl"}"#,
            r#"{"m":"\"model\":\"no\"","model":"smol"}"#,
            &large,
        ] {
            assert_eq!(json(body).as_deref(), Ok("smol"));
        }
        // What a server makes of bytes that are no UTF-8 in a message is its own affair.
        let body = b"{\"messages\":\"\xff\",\"model\":\"smol\"}";
        assert_eq!(find(body, BodyKind::Json, None).unwrap().name, "smol");
    }

    #[test]
    fn a_stream_is_asked_for_by_the_word_true_alone() {
        for (rest, streams) in [
            ("", false),
            (r#","stream": true "#, true),
            (r#","stream":false"#, false),
            (r#","stream":"true""#, false),
            (r#","stream":[true]"#, false),
            (r#","stream":true,"stream":null"#, false),
            (r#","a":{"stream":true}"#, false),
        ] {
            let body = format!(r#"{{"model":"smol"{rest}}}"#);
            let named = find(body.as_bytes(), BodyKind::Json, None).unwrap();
            assert_eq!(named.streams, streams, "{body}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_or_not_at_all_is_refused_in_one_sentence() {
        let told = |body: &str| json(body).unwrap_err().to_string();
        for body in ["", " ", "[\"smol\"]", "\"smol\"", "\u{feff}{\"model\":\"smol\"}"] {
            assert_eq!(told(body), "the body must be a JSON object", "{body}");
        }
        let missing = "the body names no model: set \"model\" to a name of GET /v1/models";
        for body in ["{}", r#"{"Model":"smol"}"#, r#"{"model":null}"#, r#"{"model":""}"#] {
            assert_eq!(told(body), missing, "{body}");
        }
        let twice = "the body names \"model\" twice";
        for body in [
            r#"{"model":"a","Model":"b"}"#,
            r#"{"MODEL":"a","model":"b"}"#,
            r#"{"model":null,"model":"b"}"#,
            r#"{"model":"a","model":"b"}"#,
            r#"{"model":"a","b":1,"mo\u0064el":"a"}"#,
        ] {
            assert_eq!(told(body), twice, "{body}");
        }
        let long = format!(r#"{{"model":"{}"}}"#, "a".repeat(321));
        for body in [r#"{"model":1}"#, r#"{"model":["a"]}"#, r#"{"model":"\ud800"}"#, &long] {
            assert_eq!(
                told(body),
                "\"model\" must be a string, a name of GET /v1/models",
                "{body}"
            );
        }
        for (body, problem) in [
            (r#"{"model":"a""#, "EOF while parsing an object at line 1 column 12"),
            (r#"{"model":"a"}x"#, "trailing characters at line 1 column 14"),
            (r#"{"model":"a" "b":1}"#, "expected `,` or `}` at line 1 column 14"),
            (r#"{"b":NaN,"model":"a"}"#, "expected value at line 1 column 6"),
            (
                "{\"model\":\"a\nb\"}",
                "control character (\\u0000-\\u001F) found while parsing a \
             string at line 1 column 11",
            ),
        ] {
            assert_eq!(told(body), format!("the body is not valid JSON: {problem}"), "{body}");
        }
    }

    #[test]
    fn another_name_takes_the_place_of_the_first() {
        let body = br#"{"messages":"smol","model" : "sm\u006fl" ,"x":1}"#;
        let named = find(body, BodyKind::Json, None).unwrap();
        let renamed = named.renamed(&Bytes::from_static(body), "org/other:8b").concat();
        assert_eq!(
            String::from_utf8(renamed).unwrap(),
            r#"{"messages":"smol","model" : "org/other:8b" ,"x":1}"#
        );
    }
}
