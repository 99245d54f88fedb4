//! The nodes that a schema is made of.

use std::sync::Arc;

use serde_json::Value;

/// What one value may be.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Schema {
    /// Name in the OpenAPI document of a type that is referred to rather than written out.
    pub(crate) type_name: Option<Arc<str>>,
    /// Of a named type or a whole kind; other descriptions hang on fields.
    pub(crate) description: Option<Arc<str>>,
    pub(crate) shape: Shape,
    pub(crate) null: Null,
    pub(crate) default: Option<Box<Value>>,
    pub(crate) rules: Option<Box<Rules>>,
}

/// The form of a value.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    /// Anything: `x-kubernetes-preserve-unknown-fields` without a type.
    Any,
    IntOrString,
    /// A quantity such as `500m`; a plain number is one too.
    Quantity,
    Boolean,
    Integer {
        format: Option<Arc<str>>,
    },
    Number {
        format: Option<Arc<str>>,
    },
    String {
        format: Option<Arc<str>>,
    },
    /// An object whose keys are data, such as labels.
    Map {
        values: Arc<Schema>,
        atomic: bool,
    },
    Object(Fields),
    List {
        items: Arc<Schema>,
        kind: ListKind,
    },
}

/// The fields of an object.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fields {
    /// Sorted by name.
    pub(crate) known: Box<[Field]>,
    /// Whether fields that are not known are kept.
    pub(crate) open: bool,
    /// Whether server-side apply replaces the object as a whole.
    pub(crate) atomic: bool,
}

/// One field of an object.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Field {
    pub(crate) name: Arc<str>,
    pub(crate) description: Option<Arc<str>>,
    pub(crate) required: bool,
    pub(crate) schema: Arc<Schema>,
}

/// How a list merges.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum ListKind {
    /// As a whole.
    Atomic,
    /// By value.
    Set,
    /// Item by item, told apart by these fields; never empty. Strategic merge patch goes by the
    /// first one alone, as Kubernetes' own `patchMergeKey`s do.
    Map(Box<[Arc<str>]>),
}

/// What an explicit `null` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Null {
    /// A wrong type: custom kinds.
    Refused,
    /// A value: custom kinds with `nullable`.
    Kept,
    /// The same as no field at all: built-in kinds, which the real server decodes into structs.
    Dropped,
}

/// Limits on a value beyond its form.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Rules {
    /// The allowed values; an empty list allows any.
    pub(crate) allowed: Box<[Value]>,
    pub(crate) minimum: Option<serde_json::Number>,
    pub(crate) maximum: Option<serde_json::Number>,
    /// In characters.
    pub(crate) min_length: Option<u64>,
    /// In characters.
    pub(crate) max_length: Option<u64>,
    pub(crate) min_items: Option<u64>,
    pub(crate) max_items: Option<u64>,
}

// === impl Schema ===

impl Schema {
    /// A schema that only has a form.
    pub(super) fn of(shape: Shape) -> Self {
        Self {
            type_name: None,
            description: None,
            shape,
            null: Null::Refused,
            default: None,
            rules: None,
        }
    }

    /// The schema of field `name`, of a map's value, or of anything below an open object;
    /// `None` if there is no such field.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        match &self.shape {
            Shape::Object(fields) => match fields.get(name) {
                Some(field) => Some(&field.schema),
                None if fields.open => Some(&ANY),
                None => None,
            },
            Shape::Map { values, .. } => Some(values),
            Shape::Any => Some(&ANY),
            _ => None,
        }
    }

    /// Whether `name` is a field that the schema names, as opposed to a key of a map or of an
    /// open object.
    pub(crate) fn declares(&self, name: &str) -> bool {
        matches!(&self.shape, Shape::Object(fields) if fields.get(name).is_some())
    }

    /// Whether an object of this form merges field by field.
    pub(crate) fn merges_fields(&self) -> bool {
        match &self.shape {
            Shape::Object(fields) => !fields.atomic,
            Shape::Map { atomic, .. } => !atomic,
            Shape::Any => true,
            _ => false,
        }
    }

    /// The schema of the items and the kind of a list that merges; `None` for one that is replaced
    /// as a whole.
    pub(crate) fn merged_list(&self) -> Option<(&Self, &ListKind)> {
        match &self.shape {
            Shape::List { items, kind } if *kind != ListKind::Atomic => Some((items, kind)),
            _ => None,
        }
    }
}

// === impl Fields ===

impl Fields {
    /// The field called `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&Field> {
        let found = self.known.binary_search_by(|field| (*field.name).cmp(name));
        found.ok().map(|index| &self.known[index])
    }
}

/// The schema of an unknown field of an open object: anything.
static ANY: Schema = Schema {
    type_name: None,
    description: None,
    shape: Shape::Any,
    null: Null::Kept,
    default: None,
    rules: None,
};
