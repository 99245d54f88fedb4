//! Structural schemas in compact form: what fields a kind has, and what may stand in them.
//!
//! A schema is compiled once, at start, from a CustomResourceDefinition or from k8s-openapi's
//! types. Equal parts are shared (a pod spec occurs in six kinds) and texts are kept once, so
//! that all kinds together take little memory. Descriptions hang on fields, not on the schema of
//! the field's value: "a string" is then one node, however many fields are strings.
//!
//! One schema answers every question about an object's shape: unknown fields, defaults, values
//! that are refused, how lists merge (patch, apply) and what `kubectl explain` shows.

pub mod compile;

mod builtin;
mod defaulting;
mod identity;
mod path;
mod pruning;
mod shape;
mod validation;

#[cfg(test)]
mod tests;

pub(crate) use self::identity::{interleave, item_key, weave};
pub use self::shape::Schema;
pub(crate) use self::shape::{Field, Fields, ListKind, Null, Rules, Shape};
pub use self::validation::{FieldProblem, ProblemKind};
