//! A stored object: its JSON as bytes, and the few facts that are asked for all the time.
//!
//! Bytes rather than a parsed tree: a tree costs several times the memory, and lists and watches
//! send the bytes as they are. An object is immutable; a change makes a new one.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

/// An owner of an object, as garbage collection needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    /// UID of the owner.
    pub(crate) uid: Box<str>,
    /// Whether a foreground deletion of the owner waits for this object.
    pub(crate) blocks: bool,
}

/// One version of an object. Invariant: `json` is the serialization of an object whose metadata
/// are the other fields.
#[derive(Debug)]
pub(crate) struct Object {
    namespace: Box<str>,
    name: Box<str>,
    uid: Arc<str>,
    revision: u64,
    labels: Box<[(Box<str>, Box<str>)]>,
    owners: Box<[Owner]>,
    finalizers: Box<[Box<str>]>,
    deleting: bool,
    json: Bytes,
}

// === impl Object ===

impl Object {
    /// Takes the facts out of `value` and keeps it as JSON bytes.
    pub(crate) fn new(value: &Value) -> Self {
        // A `String` grows by doubling, and `Bytes` would keep its spare capacity.
        Self::with_json(value, Bytes::from(value.to_string().into_boxed_str().into_boxed_bytes()))
    }

    /// Reads the bytes of an object back.
    pub(crate) fn from_json(json: Bytes) -> Result<Self, serde_json::Error> {
        let value: Value = serde_json::from_slice(&json)?;
        Ok(Self::with_json(&value, json))
    }

    fn with_json(value: &Value, json: Bytes) -> Self {
        let metadata = &value["metadata"];
        let text = |key: &str| Box::from(metadata[key].as_str().unwrap_or_default());
        let labels = metadata["labels"].as_object().into_iter().flatten();
        let owners = metadata["ownerReferences"].as_array().into_iter().flatten();
        let finalizers = metadata["finalizers"].as_array().into_iter().flatten();
        Self {
            namespace: text("namespace"),
            name: text("name"),
            uid: Arc::from(metadata["uid"].as_str().unwrap_or_default()),
            revision: revision_of(value),
            labels: labels
                .map(|(key, value)| {
                    let value = value.as_str().unwrap_or_default();
                    (Box::from(key.as_str()), Box::from(value))
                })
                .collect(),
            owners: owners
                .map(|owner| Owner {
                    uid: Box::from(owner["uid"].as_str().unwrap_or_default()),
                    blocks: owner["blockOwnerDeletion"] == true,
                })
                .collect(),
            finalizers: finalizers.filter_map(Value::as_str).map(Box::from).collect(),
            deleting: metadata["deletionTimestamp"].is_string(),
            json,
        }
    }

    /// Namespace, empty for a cluster-wide object.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// UID.
    pub(crate) fn uid(&self) -> &str {
        &self.uid
    }

    /// UID, to be kept elsewhere without a copy.
    pub(crate) fn shared_uid(&self) -> &Arc<str> {
        &self.uid
    }

    /// Revision of the store at which this version was written.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Value of the label `key`.
    pub(crate) fn label(&self, key: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(own, _)| &**own == key);
        found.map(|(_, value)| &**value)
    }

    /// Whether no label selector can tell the two apart.
    pub(crate) fn has_labels_of(&self, other: &Self) -> bool {
        self.labels == other.labels
    }

    /// Owners, as of `metadata.ownerReferences`.
    pub(crate) fn owners(&self) -> &[Owner] {
        &self.owners
    }

    /// Whether `finalizer` stands in the way of the object's removal.
    pub(crate) fn has_finalizer(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|own| &**own == finalizer)
    }

    /// Whether the object has a deletion timestamp.
    pub(crate) fn deleting(&self) -> bool {
        self.deleting
    }

    /// The object as JSON bytes; cheap to clone.
    pub(crate) fn json(&self) -> &Bytes {
        &self.json
    }

    /// The object as a tree.
    pub(crate) fn value(&self) -> Value {
        serde_json::from_slice(&self.json).expect("an object's bytes were serialized or checked")
    }
}

/// The `metadata.resourceVersion` of an object, 0 when absent or not a number.
pub(crate) fn revision_of(value: &Value) -> u64 {
    let text = value["metadata"]["resourceVersion"].as_str();
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The store may keep tens of thousands of objects.
    #[test]
    fn an_object_holds_its_bytes_and_no_more() {
        let object = Object::new(&json!({ "metadata": { "name": "a".repeat(1_100) } }));
        let length = object.json().len();
        let bytes = object.json.try_into_mut().expect("nobody else holds them");
        assert_eq!(bytes.capacity(), length);
    }
}
