//! Objects as a client asked to see them: whole, as rows, or their metadata.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::media::Shape;
use crate::object::Object;
use crate::request::is_events_v1;
use crate::resources::{self, ResourceType};
use crate::store::Page;
use crate::table::{self, IncludeObject};

/// How to show the objects of one resource.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// The resource.
    pub(crate) resource: Arc<ResourceType>,
    /// The shape.
    pub(crate) shape: Shape,
    /// How much of its object a row carries beside the cells.
    pub(crate) include: IncludeObject,
    /// Whether a table says what its columns are.
    pub(crate) has_columns: bool,
}

// === impl View ===

impl View {
    /// One object. `now` is for the ages in rows.
    pub(crate) fn object(&self, object: &Object, now: Timestamp) -> Bytes {
        if self.shape == Shape::Whole && !is_events_v1(&self.resource) {
            return object.json().clone();
        }
        self.value(&self.whole(object.value()), now).to_string().into()
    }

    /// One object that is not stored, such as the result of a dry run.
    pub(crate) fn unstored(&self, value: Value, now: Timestamp) -> Bytes {
        self.value(&self.whole(value), now).to_string().into()
    }

    /// A list.
    pub(crate) fn page(&self, page: &Page, now: Timestamp) -> Bytes {
        let mut metadata = json!({ "resourceVersion": page.revision.to_string() });
        if let Some(next) = &page.next {
            metadata["continue"] = Value::from(next.as_str());
            if let Some(remaining) = page.remaining {
                metadata["remainingItemCount"] = Value::from(remaining);
            }
        }
        let objects = &page.objects;
        if self.shape == Shape::Table {
            let values: Vec<Value> =
                objects.iter().map(|object| self.whole(object.value())).collect();
            let table = table::render(&self.resource, &values, metadata, self.include, now);
            return table.to_string().into();
        }
        let (kind, api_version) = match self.shape {
            Shape::Metadata => ("PartialObjectMetadataList".into(), "meta.k8s.io/v1".into()),
            _ => (format!("{}List", self.resource.kind), self.resource.api_version()),
        };
        let head = json!({ "kind": kind, "apiVersion": api_version, "metadata": metadata });
        let head = head.to_string();
        // The items are bytes already: they are inserted before the closing brace of the head.
        let length: usize = objects.iter().map(|object| object.json().len() + 1).sum();
        let mut list = BytesMut::with_capacity(head.len() + length + 16);
        list.put_slice(&head.as_bytes()[..head.len() - 1]);
        list.put_slice(b",\"items\":[");
        for (index, object) in objects.iter().enumerate() {
            if index > 0 {
                list.put_u8(b',');
            }
            list.put_slice(&self.object(object, now));
        }
        list.put_slice(b"]}");
        list.freeze()
    }

    /// The object in this resource's form: events differ between their two groups.
    fn whole(&self, value: Value) -> Value {
        if is_events_v1(&self.resource) { resources::event_to_events_v1(&value) } else { value }
    }

    fn value(&self, value: &Value, now: Timestamp) -> Value {
        match self.shape {
            Shape::Whole => value.clone(),
            Shape::Table => {
                let revision = &value["metadata"]["resourceVersion"];
                let metadata = json!({ "resourceVersion": revision });
                let mut table = table::render(&self.resource, [value], metadata, self.include, now);
                if !self.has_columns {
                    table["columnDefinitions"] = Value::Null;
                }
                table
            }
            Shape::Metadata => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": value["metadata"],
            }),
        }
    }
}
