//! The objects that bear a mark: one ordered set of short texts, in which objects with the same
//! mark are neighbours. A mark costs two hundred bytes, and a lookup does no work for objects
//! without it.

use std::collections::BTreeSet;
use std::ops::Bound;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Separates the parts of an entry: no name and no label value contains it.
const END: char = '\0';

/// The kinds of marks by which objects are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// Revisions, by the name of their Configuration.
    Configuration,
    /// Revisions, by each Route that is marked on them.
    Route,
    /// Pods, by the UID of their Revision.
    Revision,
    /// Routes, by each Configuration that they follow.
    Follows,
    /// Routes, by each Revision that they name or send requests to.
    Names,
    /// Routes, by the host of each of their tags, wanted or in force.
    Host,
    /// Routes of all namespaces, by each model that they declare.
    Model,
}

/// A kind of mark and its value, by which an object is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark(pub(crate) By, pub(crate) String);

/// The marks of all objects of a kind.
#[derive(Debug, Default)]
pub(super) struct Index(BTreeSet<Box<str>>);

// === impl Index ===

impl Index {
    /// Names of the objects in the namespace that bear the mark, in order.
    pub(super) fn names(&self, namespace: &str, by: By, value: &str) -> Vec<&str> {
        let start = start(namespace, by, value);
        let from = (Bound::Included(start.as_str()), Bound::Unbounded);
        let entries = self.0.range::<str, _>(from);
        entries.map_while(|entry| entry.strip_prefix(start.as_str())).collect()
    }

    /// Namespaces and names of the objects anywhere that bear the mark.
    pub(super) fn anywhere(&self, by: By, value: &str) -> Vec<(&str, &str)> {
        let all = self.names("", by, value).into_iter();
        all.filter_map(|entry| entry.split_once('/')).collect()
    }

    pub(super) fn insert(&mut self, object: &ObjectMeta, marks: Vec<Mark>) {
        for Mark(by, value) in marks {
            self.0.insert(entry(object, by, &value));
        }
    }

    pub(super) fn remove(&mut self, object: &ObjectMeta, marks: &[Mark]) {
        for Mark(by, value) in marks {
            self.0.remove(&entry(object, *by, value));
        }
    }

    /// Whether there is no mark at all.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn start(namespace: &str, by: By, value: &str) -> String {
    format!("{}{namespace}{END}{value}{END}", by as u8)
}

fn entry(object: &ObjectMeta, by: By, value: &str) -> Box<str> {
    let namespace = object.namespace.as_deref().unwrap_or_default();
    let name = object.name.as_deref().unwrap_or_default();
    let entry = match by {
        // Those of all namespaces are neighbours.
        By::Model => format!("{}{namespace}/{name}", start("", by, value)),
        _ => format!("{}{name}", start(namespace, by, value)),
    };
    entry.into_boxed_str()
}
