//! What a server has told so far, and its answers with that taken out: what differs between two
//! servers by its nature becomes the same word at both.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// A revision in a message.
static REVISION: LazyLock<Regex> = LazyLock::new(|| {
    let before = r"(?i)(resource ?version: |ResourceVersion in (?:the precondition|record) \()";
    Regex::new(&format!(r"{before}\d+(?: \(\d+\))?")).unwrap()
});
/// An age in a table.
static AGE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\d+s$").unwrap());

/// What is not known of an object that was never seen.
const NO_UID: &str = "00000000-0000-4000-8000-000000000000";
/// The word for the UID of an object that a dry run made.
const NEW_UID: &str = "a new uid";
const NO_VERSION: &str = "1";

/// Objects and their versions as one server told of them.
#[derive(Default)]
pub(crate) struct SideMemory {
    /// UID of each object, by plural and name.
    uids: HashMap<(&'static str, String), String>,
    /// Versions of each object, oldest first.
    versions: HashMap<(&'static str, String), Vec<String>>,
    /// A word for each UID, in the order in which they were seen.
    words: HashMap<String, String>,
    /// A word for each version of an object, by its UID.
    version_words: HashMap<String, Vec<String>>,
    /// From where a list goes on.
    token: String,
    /// The last version of any object, by plural. Not that of a list, which counts the changes of
    /// all kinds: the real server's cache of one kind may be seconds behind it.
    latest: HashMap<&'static str, String>,
    namespace: String,
}

// === impl SideMemory ===

impl SideMemory {
    pub(crate) fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..Self::default() }
    }

    /// Remembers the objects in an answer about `plural`.
    pub(crate) fn learn(&mut self, plural: &'static str, answer: &Value) {
        match answer {
            Value::Array(items) => items.iter().for_each(|item| self.learn(plural, item)),
            Value::Object(fields) => {
                self.learn_object(plural, &answer["metadata"]);
                fields.values().for_each(|field| self.learn(plural, field));
            }
            _ => {}
        }
    }

    /// Knows the new objects in the answer to a dry run again, and nothing else of it.
    pub(crate) fn pass_over(&mut self, answer: &Value) {
        match answer {
            Value::Array(items) => items.iter().for_each(|item| self.pass_over(item)),
            Value::Object(fields) => {
                if let Some(uid) = answer["metadata"]["uid"].as_str() {
                    self.words.entry(uid.to_owned()).or_insert_with(|| NEW_UID.to_owned());
                }
                fields.values().for_each(|field| self.pass_over(field));
            }
            _ => {}
        }
    }

    fn learn_object(&mut self, plural: &'static str, metadata: &Value) {
        let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
        let (uid, version, name) = (text("uid"), text("resourceVersion"), text("name"));
        if uid.is_empty() {
            if !version.is_empty() {
                self.token = text("continue");
            }
            return;
        }
        if version.is_empty() {
            return;
        }
        let count = self.words.values().filter(|word| *word != NEW_UID).count();
        self.words.entry(uid.clone()).or_insert_with(|| format!("uid {count}"));
        self.uids.insert((plural, name.clone()), uid.clone());
        self.latest.insert(plural, version.clone());
        for seen in [
            self.versions.entry((plural, name)).or_default(),
            self.version_words.entry(uid).or_default(),
        ] {
            if !seen.contains(&version) {
                seen.push(version.clone());
            }
        }
    }

    /// A text with the placeholders of one object filled in.
    pub(crate) fn fill(&self, plural: &'static str, name: &str, text: &str) -> String {
        if !text.contains('{') {
            return text.to_owned();
        }
        let key = (plural, name.to_owned());
        let uid = self.uids.get(&key).map_or(NO_UID, String::as_str);
        let versions = self.versions.get(&key);
        let version =
            |version: Option<&String>| version.map_or(NO_VERSION, String::as_str).to_owned();
        let owner = self.uids.get(&("leases", "owner".to_owned())).map_or(NO_UID, String::as_str);
        text.replace("{uid}", uid)
            .replace("{version}", &version(versions.and_then(|all| all.last())))
            .replace("{stale}", &version(versions.and_then(|all| all.first())))
            .replace("{owner}", owner)
            .replace("{token}", &self.token)
            .replace("{latest}", &version(self.latest.get(plural)))
            .replace("{namespace}", &self.namespace)
    }

    /// A body with the placeholders of one object filled in.
    pub(crate) fn fill_body(&self, plural: &'static str, name: &str, body: &mut Value) {
        match body {
            Value::String(text) => *text = self.fill(plural, name, text),
            Value::Array(items) => {
                for item in items {
                    self.fill_body(plural, name, item);
                }
            }
            Value::Object(fields) => {
                fields.values_mut().for_each(|field| self.fill_body(plural, name, field));
            }
            _ => {}
        }
    }

    /// An answer in the words of both servers.
    pub(crate) fn normal(&self, value: &mut Value) {
        self.normal_under("", value);
    }

    fn normal_under(&self, key: &str, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.normal_text(key, text),
            Value::Array(items) => {
                for item in items.iter_mut() {
                    self.normal_under(key, item);
                }
                if key == "managedFields" {
                    // Ordered by time, and the two servers write at different times.
                    items.sort_by_key(|item| {
                        format!("{}{}{}", item["operation"], item["manager"], item["subresource"])
                    });
                }
                if key == "causes" {
                    // The real server puts conflicts in the order of a Go map: in any.
                    items.sort_by_key(Value::to_string);
                }
            }
            Value::Object(fields) => {
                // The keys of managed fields may hold a UID.
                *fields = std::mem::take(fields)
                    .into_iter()
                    .map(|(key, value)| (self.without_uids(&key), value))
                    .collect();
                let version = self.version_word(fields);
                for (key, value) in fields.iter_mut() {
                    self.normal_under(key, value);
                }
                if let (Some(version), true) = (version, fields.contains_key("resourceVersion")) {
                    fields.insert("resourceVersion".into(), version.into());
                }
            }
            _ => {}
        }
    }

    /// The word for the version in an object's metadata.
    fn version_word(&self, metadata: &serde_json::Map<String, Value>) -> Option<String> {
        let version = metadata.get("resourceVersion")?.as_str()?;
        let Some(uid) = metadata.get("uid").and_then(Value::as_str) else {
            return Some("version of a list".into());
        };
        let place = self.version_words.get(uid)?.iter().position(|own| own == version)?;
        Some(format!("version {place}"))
    }

    fn normal_text(&self, key: &str, text: &str) -> String {
        match key {
            "creationTimestamp" | "deletionTimestamp" | "time" => return "a time".into(),
            "continue" if !text.is_empty() => return "a token".into(),
            "cells" if AGE.is_match(text) => return "an age".into(),
            _ => {}
        }
        self.without_uids(&REVISION.replace_all(text, "${1}N"))
    }

    fn without_uids(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if text.len() >= NO_UID.len() {
            for (uid, word) in &self.words {
                text = text.replace(uid.as_str(), word);
            }
        }
        text
    }
}
