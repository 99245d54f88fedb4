//! A field of a `multipart/form-data` body (RFC 7578).
//!
//! By hand: a reader such as `multer` gives a field's value and not its place, which another name
//! needs.

use std::ops::Range;

use httparse::{EMPTY_HEADER, Header, Status};
use memchr::memmem;

use crate::error::ModelError;

const FORM: ModelError = ModelError::BodyUnfit("multipart/form-data as its boundary says");
/// Longest boundary (RFC 2046, section 5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;
/// Most header fields of a part; clients send two or three.
const FIELDS_MAX: usize = 16;

/// The value of the text field `wanted` and its place in `body`.
pub(super) fn field(
    body: &[u8],
    content_type: Option<&str>,
    wanted: &str,
) -> Result<(String, Range<usize>), ModelError> {
    let boundary = content_type.and_then(boundary).ok_or(FORM)?;
    let delimiter = format!("\r\n--{boundary}");
    let find = memmem::Finder::new(&delimiter);
    let mut found = None;
    // The first delimiter stands at the start, without a line break before it.
    let mut at = delimiter.len() - 2;
    if !body.starts_with(&delimiter.as_bytes()[2..]) {
        return Err(FORM);
    }
    loop {
        let rest = &body[at..];
        if let Some(epilogue) = rest.strip_prefix(b"--") {
            // Readers differ in what they make of more.
            let is_end = epilogue.iter().all(u8::is_ascii_whitespace);
            return if is_end { found.ok_or(ModelError::ModelMissing) } else { Err(FORM) };
        }
        let part = rest.strip_prefix(b"\r\n").ok_or(FORM)?;
        let mut fields = [EMPTY_HEADER; FIELDS_MAX];
        let Ok(Status::Complete((head, fields))) = httparse::parse_headers(part, &mut fields)
        else {
            return Err(FORM);
        };
        let start = at + 2 + head;
        let length = find.find(&body[start..]).ok_or(FORM)?;
        let value = start..start + length;
        // Some readers take a delimiter after half of a line break, or in a head.
        let part = at + 2..value.end;
        let is_ambiguous = |found: usize| b"\r\n".contains(&body[part.start + found - 1]);
        if memmem::find_iter(&body[part.clone()], &delimiter[2..]).any(is_ambiguous) {
            return Err(FORM);
        }
        if disposition(fields)?.as_deref() == Some(wanted) {
            if found.is_some() {
                return Err(ModelError::ModelTwice);
            }
            let text = std::str::from_utf8(&body[value.clone()]);
            found = Some((text.map_err(|_| ModelError::ModelUnfit)?.to_owned(), value.clone()));
        }
        at = value.end + delimiter.len();
    }
}

/// The boundary that a content type of forms gives.
fn boundary(content_type: &str) -> Option<String> {
    let (essence, rest) = content_type.split_once(';')?;
    if !essence.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(rest, "boundary")??;
    let is_fit = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    let is_whole = !boundary.is_empty() && boundary.len() <= BOUNDARY_BYTES_MAX;
    (is_whole && boundary.bytes().all(is_fit)).then_some(boundary)
}

/// The name of a part's field.
fn disposition(fields: &[Header<'_>]) -> Result<Option<String>, ModelError> {
    let is_it = |field: &&Header<'_>| field.name.eq_ignore_ascii_case("content-disposition");
    let mut dispositions = fields.iter().filter(is_it);
    let (Some(first), None) = (dispositions.next(), dispositions.next()) else {
        return Err(FORM);
    };
    let text = std::str::from_utf8(first.value).map_err(|_| FORM)?;
    let (_, rest) = text.split_once(';').ok_or(FORM)?;
    parameter(rest, "name").ok_or(FORM)
}

/// The value of a parameter; `None` if the parameters cannot be read, have it twice, or have it in
/// another character set (RFC 8187), which some readers prefer.
#[expect(clippy::option_option, reason = "unreadable, absent and present are three answers")]
fn parameter(text: &str, wanted: &str) -> Option<Option<String>> {
    let (mut rest, mut found) = (text.trim(), None);
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = if let Some(quoted) = after.trim_start().strip_prefix('"') {
            unquoted(quoted)?
        } else {
            let end = after.find(';').unwrap_or(after.len());
            (after[..end].trim().to_owned(), &after[end..])
        };
        let name = name.trim();
        let is_coded = name.split_once('*').is_some_and(|(name, _)| is(name, wanted));
        if is_coded || (is(name, wanted) && found.replace(value).is_some()) {
            return None;
        }
        let after = after.trim_start();
        rest = match after.strip_prefix(';') {
            Some(more) => more.trim_start(),
            None if after.is_empty() => after,
            None => return None,
        };
    }
    Some(found)
}

fn is(name: &str, wanted: &str) -> bool {
    name.trim().eq_ignore_ascii_case(wanted)
}

/// A quoted text up to its end, and what comes after it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: Option<&str> = Some("multipart/form-data; boundary=\"a b\"");

    fn body(parts: &[(&str, &str)]) -> String {
        let part = |(head, value): &(&str, &str)| format!("--a b\r\n{head}\r\n\r\n{value}\r\n");
        parts.iter().map(part).collect::<String>() + "--a b--\r\n"
    }

    fn of(parts: &[(&str, &str)]) -> Result<String, ModelError> {
        field(body(parts).as_bytes(), TYPE, "model").map(|(name, _)| name)
    }

    const FILE: (&str, &str) = (
        "Content-Disposition: form-data; name=\"file\"; filename=\"name=model; \\\".wav\"\r\n\
         Content-Type: audio/wav",
        "\r\n--a \r\n--ab\r\nRIFF",
    );
    const MODEL: (&str, &str) = ("content-disposition: form-data; name=model", "smol");

    #[test]
    fn a_field_is_found_before_and_after_a_file() {
        let quoted = ("Content-Disposition: form-data; Name=\"mod\\el\"", "smol");
        for parts in [&[MODEL, FILE][..], &[FILE, MODEL], &[FILE, quoted]] {
            assert_eq!(of(parts).as_deref(), Ok("smol"));
        }
        let text = body(&[FILE, MODEL]);
        let (_, range) = field(text.as_bytes(), TYPE, "model").unwrap();
        assert_eq!(&text[range], "smol");
    }

    #[test]
    fn what_is_no_form_or_has_no_field_or_two_is_refused() {
        assert_eq!(of(&[FILE]), Err(ModelError::ModelMissing));
        assert_eq!(of(&[MODEL, FILE, MODEL]), Err(ModelError::ModelTwice));
        let good = body(&[MODEL]);
        for (text, content_type) in [
            (&*good, None),
            (&*good, Some("multipart/form-data")),
            (&*good, Some("multipart/form-data; boundary=")),
            (&*good, Some("multipart/form-data; boundary=x; boundary=\"a b\"")),
            (&*good, Some("multipart/mixed; boundary=\"a b\"")),
            (&*good, Some("multipart/form-data; boundary=other")),
            (&*format!("x{good}"), TYPE),
            (&*good.replace("--a b--", "--a bc"), TYPE),
            (&*good.replace("\r\n--a b--\r\n", ""), TYPE),
            (&*good.replace("name=model", "name=model; name=other"), TYPE),
            (&*good.replace("content-disposition", "content-type"), TYPE),
            (&*good.replace("name=model", "name=x; name*=utf-8''model"), TYPE),
            (&*good.replace("smol", "a\n--a b\nb"), TYPE),
            (&*good.replace("smol", "a\r--a b"), TYPE),
            (&*good.replace("smol", "--a b"), TYPE),
            (&*good.replace("content-disposition", "--a b: 1\n\ncontent-disposition"), TYPE),
            (&*format!("{good}--a b\r\n"), TYPE),
            ("", TYPE),
            ("--a b", TYPE),
        ] {
            let told = field(text.as_bytes(), content_type, "model").unwrap_err();
            assert_eq!(told, FORM, "{text} {content_type:?}");
        }
    }
}
