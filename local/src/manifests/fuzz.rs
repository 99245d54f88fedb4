//! Body of the fuzz target for manifests: any text as the content of a file.

use std::path::Path;

use serde_json::Value;

use super::{FILE_BYTES_MAX, Manifest, ManifestError, parse};

/// Longest sentence about a file that cannot be used, in characters, beside its name.
const PROBLEM_CHARS_MAX: usize = 1000;
/// How much larger than its file the objects may be, for aliases repeat what they name.
const GROWTH_MAX: usize = 1000;

/// An input is the text of a file.
///
/// # Panics
/// If the input shows a fault.
pub fn manifests(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    if text.len() as u64 > FILE_BYTES_MAX {
        return;
    }
    let file = Path::new("file.yaml");
    let mut manifests = Vec::new();
    match parse(file, text, &mut manifests) {
        Ok(()) => check(&manifests, text.len()),
        Err(error) => refused(&error),
    }
}

/// A sentence on one line, of a length that can be read.
fn refused(error: &ManifestError) {
    let sentence = error.to_string();
    assert!(sentence.contains("file.yaml"), "{sentence:?}");
    assert!(!sentence.chars().any(char::is_control), "{sentence:?}");
    assert!(sentence.chars().count() <= PROBLEM_CHARS_MAX, "{sentence:?}");
}

/// What was read can be read once more: as JSON, which is YAML as well.
fn check(manifests: &[Manifest], length: usize) {
    let mut bytes = 0;
    for manifest in manifests {
        let text = manifest.object.to_string();
        bytes += text.len();
        let mut again = Vec::new();
        parse(&manifest.file, &text, &mut again).expect("JSON can be read");
        let [again] = again.as_slice() else {
            unreachable!("{text} is one object");
        };
        assert_eq!(again.object, manifest.object);
        let names = |manifest: &Manifest| {
            (manifest.kind.clone(), manifest.name.clone(), manifest.namespace.clone())
        };
        assert_eq!(names(again), names(manifest));
        assert!(manifest.object.pointer("/metadata/managedFields").is_none());
        assert!(matches!(manifest.object, Value::Object(_)));
    }
    assert!(bytes <= GROWTH_MAX * length, "{bytes} bytes of {length}");
}
