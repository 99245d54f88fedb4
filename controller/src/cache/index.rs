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
    /// Revisions, by each Route that is marked on them; and the core/v1 Services of a Route's tags.
    Route,
    /// Pods, by the UID of their Revision.
    Revision,
    /// Routes, by each Configuration that they follow.
    Follows,
    /// Routes, by each Revision that they name or send requests to.
    Names,
    /// Routes, by the host of each of their tags, wanted or in force.
    Host,
    /// Routes of all namespaces, by each model that they declare; the oldest comes first.
    Model,
}

/// A kind of mark and its value, by which an object is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark(pub(crate) By, pub(crate) String);

/// The marks of all objects of a kind.
#[derive(Debug, Default)]
pub(super) struct Index(BTreeSet<Box<str>>);

/// An object of any namespace. The older is less; of two of one age, as activators see ages, the first
/// by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Aged {
    /// When it was made, in seconds since 1970.
    created_s: i64,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

// === impl Aged ===

impl Aged {
    pub(crate) fn of(object: &ObjectMeta) -> Self {
        let created = object.creation_timestamp.as_ref();
        Self {
            created_s: created.map_or(0, |time| time.0.as_second()),
            namespace: object.namespace.clone().unwrap_or_default(),
            name: object.name.clone().unwrap_or_default(),
        }
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '/');
        Some(Self {
            created_s: parts.next()?.parse().ok()?,
            namespace: parts.next()?.to_owned(),
            name: parts.next()?.to_owned(),
        })
    }
}

impl std::fmt::Display for Aged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Zeros in front, so that texts sort as numbers do.
        write!(f, "{:020}/{}/{}", self.created_s, self.namespace, self.name)
    }
}

// === impl Index ===

impl Index {
    /// Names of the objects in the namespace that bear the mark, in order.
    pub(super) fn names(&self, namespace: &str, by: By, value: &str) -> Vec<&str> {
        let start = start(namespace, by, value);
        let from = (Bound::Included(start.as_str()), Bound::Unbounded);
        let entries = self.0.range::<str, _>(from);
        entries.map_while(|entry| entry.strip_prefix(start.as_str())).collect()
    }

    /// The objects of all namespaces that bear the mark, the oldest first.
    pub(super) fn anywhere(&self, by: By, value: &str) -> Vec<Aged> {
        let all = self.names("", by, value).into_iter();
        all.filter_map(Aged::read).collect()
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
    let entry = if by == By::Model {
        // Those of all namespaces are neighbours.
        format!("{}{}", start("", by, value), Aged::of(object))
    } else {
        let namespace = object.namespace.as_deref().unwrap_or_default();
        format!("{}{}", start(namespace, by, value), object.name.as_deref().unwrap_or_default())
    };
    entry.into_boxed_str()
}
