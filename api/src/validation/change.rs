//! What changed between two versions of a part of an object, for people to read.
//!
//! Knative prints `kmp.ShortDiff`: each changed field with the old and the new value. The paths
//! here are those of the YAML instead of those of Go's structs.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use crate::field_error::clip;

/// Most changed fields that are printed: enough to see what happened.
const CHANGES_MAX: usize = 16;

/// The changed fields of the object at `path`; `None` if nothing changed.
pub(super) fn between<T: Serialize + PartialEq>(old: &T, new: &T, path: &str) -> Option<String> {
    if old == new {
        return None;
    }
    let value = |object: &T| serde_json::to_value(object).unwrap_or_default();
    let mut changes = Changes::default();
    changes.compare(&value(old), &value(new), path);
    // Different in memory, the same on the wire: no user can see a change.
    (changes.count > 0).then(|| changes.finish())
}

#[derive(Default)]
struct Changes {
    text: String,
    count: usize,
}

impl Changes {
    /// Recursion is as deep as the typed objects are, which is bounded by their types.
    fn compare(&mut self, old: &Value, new: &Value, path: &str) {
        match (old, new) {
            (Value::Object(old), Value::Object(new)) => {
                let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
                for key in keys {
                    let path = format!("{path}.{key}");
                    self.compare_some(old.get(key), new.get(key), &path);
                }
            }
            (Value::Array(old), Value::Array(new)) => {
                for index in 0..old.len().max(new.len()) {
                    let path = format!("{path}[{index}]");
                    self.compare_some(old.get(index), new.get(index), &path);
                }
            }
            _ => self.compare_some(Some(old), Some(new), path),
        }
    }

    fn compare_some(&mut self, old: Option<&Value>, new: Option<&Value>, path: &str) {
        if old == new {
            return;
        }
        if let (Some(old), Some(new)) = (old, new)
            && ((old.is_object() && new.is_object()) || (old.is_array() && new.is_array()))
        {
            return self.compare(old, new, path);
        }
        self.count += 1;
        if self.count > CHANGES_MAX {
            return;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{}:", clip(path));
        for (sign, value) in [('-', old), ('+', new)] {
            if let Some(value) = value {
                let shown = match value {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                let _ = writeln!(self.text, "\t{sign}: \"{}\"", clip(&shown));
            }
        }
    }

    fn finish(mut self) -> String {
        if self.count > CHANGES_MAX {
            let _ = writeln!(self.text, "and {} more", self.count - CHANGES_MAX);
        }
        self.text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_changed_is_printed_with_its_path() {
        let old = json!({"a": {"b": [1, {"c": "x"}], "same": true}, "gone": 1});
        let new = json!({"a": {"b": [1, {"c": "y"}, 3], "same": true}});
        assert_eq!(
            between(&old, &new, "spec").unwrap(),
            "spec.a.b[1].c:\n\t-: \"x\"\n\t+: \"y\"\n\
             spec.a.b[2]:\n\t+: \"3\"\n\
             spec.gone:\n\t-: \"1\"\n"
        );
        assert_eq!(between(&old, &old, "spec"), None);
    }

    #[test]
    fn a_change_of_everything_stays_short() {
        let of = |text: &str| json!(vec![text.repeat(1000); 5000]);
        let text = between(&of("a"), &of("b"), "spec").unwrap();
        assert!(text.len() < 32 * 1024, "{}", text.len());
        assert!(text.ends_with("and 4984 more\n"), "{text}");
    }
}
