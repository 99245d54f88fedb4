//! Bodies at the models host: the name that is read is the one that a server reads.

use bytes::Bytes;
use serde_json::Value;

use crate::models::call::BodyKind;
use crate::models::name;

/// A name that no input has.
const OTHER: &str = "other/name:1";
const MEDIA: &str = "multipart/form-data; boundary=x";

/// The first byte says whether the rest is JSON or a form with the boundary `x`.
pub fn models(input: &[u8]) {
    let Some((first, body)) = input.split_first() else { return };
    let kind = if first % 2 == 0 { BodyKind::Json } else { BodyKind::Multipart };
    let Ok(named) = name::find(body, kind, Some(MEDIA)) else { return };
    let renamed = named.renamed(&Bytes::copy_from_slice(body), OTHER).concat();
    let again = name::find(&renamed, kind, Some(MEDIA)).expect("it is still a good body");
    assert_eq!(again.name, OTHER);
    match kind {
        BodyKind::Json => json(body, &renamed, &named.name),
        BodyKind::Multipart => form(body, &renamed, &named.name),
    }
}

/// A parser that takes the last of equal keys reads that name, and finds nothing else changed.
fn json(body: &[u8], renamed: &[u8], name: &str) {
    // It refuses what is nested deeper than servers take, and text that is not UTF-8.
    let Ok(Value::Object(mut before)) = serde_json::from_slice(body) else { return };
    assert_eq!(before["model"], name);
    let mut after: serde_json::Map<String, Value> =
        serde_json::from_slice(renamed).expect("it was JSON before");
    assert_eq!(after.remove("model"), Some(OTHER.into()));
    before.remove("model");
    assert_eq!(before, after);
}

/// A reader that looks at lines alone sees no other part of that name.
fn form(body: &[u8], renamed: &[u8], name: &str) {
    let count = |body: &[u8], part: &str| {
        let text = String::from_utf8_lossy(body);
        text.split(['\r', '\n']).filter(|line| *line == part).count()
    };
    // Name for name, the rest is the same.
    assert_eq!(body.len() - name.len(), renamed.len() - OTHER.len());
    assert_eq!(count(body, "--x"), count(renamed, "--x") + usize::from(name == "--x"));
    // Whoever takes half of a line break for a whole one finds as many parts.
    let text = String::from_utf8_lossy(body);
    let lenient = text.split(['\r', '\n']).filter(|line| line.starts_with("--x")).count();
    let strict = text.split("\r\n").filter(|line| line.starts_with("--x")).count();
    assert_eq!(lenient, strict, "a reader may see other parts");
}
