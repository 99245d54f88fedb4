//! Fuzz target `sources`: texts of `serving.ebb.dev/model`.

use crate::model_source::{ModelPlace, ModelSource, SOURCE_BYTES_MAX};
use crate::names;

/// Longest error: what it may show of the text, and its own words.
const ERROR_BYTES_MAX: usize = 4096;

/// A source that is taken can be written and read again, its key is the name of a folder, and none of
/// its paths leads out of one. What people see has nothing of a URL's query.
pub fn sources(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let source = match ModelSource::parse(text) {
        Ok(source) => source,
        Err(error) => {
            let told = error.to_string();
            assert!(!told.chars().any(char::is_control), "{told:?}");
            assert!(told.len() <= ERROR_BYTES_MAX, "{} bytes", told.len());
            return;
        }
    };
    assert!(text.len() <= SOURCE_BYTES_MAX);
    let whole = source.whole();
    let again = ModelSource::parse(&whole);
    assert_eq!(again.as_ref(), Ok(&source), "{whole:?} is not read as it was written");
    let key = source.key();
    assert!(key.len() <= names::LABEL_CHARS_MAX && names::is_label(&key), "{key:?}");
    assert_eq!(again.map(|again| again.key()), Ok(key));
    if let Some(name) = source.file_name() {
        let is_one = !name.contains(['/', '\\', '\0']) && name != "." && name != "..";
        assert!(is_one, "{name:?}");
        assert_eq!(source.archive(), None);
    }
    let shown = source.to_string();
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    let path = match &source.place {
        ModelPlace::HuggingFace { path, .. } => path.as_deref().unwrap_or_default(),
        ModelPlace::S3 { key, .. } => key,
        ModelPlace::File { path } => path,
        ModelPlace::Http { url } => {
            assert!(!shown.contains('?'), "{shown:?}");
            let host = url.split('/').nth(2).unwrap_or_default();
            assert!(!host.is_empty() && !host.contains('@'), "{host:?}");
            return;
        }
    };
    assert!(!path.split('/').any(|part| part == ".."), "{path:?}");
}
