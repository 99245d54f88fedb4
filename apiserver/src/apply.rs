//! Server-side apply: the owners of fields, and what follows from ownership.
//!
//! The rules are those of `sigs.k8s.io/structured-merge-diff` as the API server uses it. An applied
//! object is merged over the live one. Fields that its manager applied before and leaves out now
//! are removed, unless another manager owns them too. A change to a field that another manager owns
//! is a conflict; if it is forced, the other manager loses the field. Equal values are shared.
//!
//! Invariants: applying the same object twice gives the same object, times included, unless nobody
//! owned anything in between or it has empty lists of items, which nobody owns; the fields of
//! `ownership::UNOWNED` are never owned; every manager in `metadata.managedFields` owns something.

mod difference;
mod fields;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
mod merge;
mod ownership;

#[cfg(test)]
mod tests;

use serde_json::Value;

use self::fields::FieldSet;
pub use self::ownership::{Conflict, FieldWriter};
use self::ownership::{Managers, Operation};
use crate::schema::Schema;

/// Why an apply was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Other managers own fields with other values: a 409 of reason `Conflict`.
    #[error("{}", conflict_text(.0))]
    Conflicts(Vec<Conflict>),
    /// The applied object itself cannot be merged: a 400.
    #[error("failed to create typed patch object: {0}")]
    Invalid(String),
}

/// Applies `applied` over `live` and returns the whole new object with its `managedFields`.
///
/// `applied` is the object as it was sent, less the parts that the endpoint ignores (status of the
/// object itself, all but status of the status subresource). Metadata that only the server sets
/// (uid, resourceVersion, times) is taken from `live`, whatever `applied` says. Fields that the
/// schema does not know are dropped. The result equals `live` if the apply changes nothing.
/// Defaults are not filled in.
///
/// `blank` is an object of the kind before anything is written into it. What else a live object has
/// that nobody owns is owned from now on by a manager of its own.
///
/// # Errors
/// Conflicts unless `force`; an item of a merged list that lacks a key field or occurs twice.
pub fn apply(
    schema: &Schema,
    (live, blank): (Option<&Value>, &Value),
    applied: &Value,
    writer: &FieldWriter<'_>,
    force: bool,
) -> Result<Value, ApplyError> {
    merge::check(schema, applied).map_err(ApplyError::Invalid)?;
    let mut applied = applied.clone();
    schema.prune(&mut applied);
    ownership::strip_server_metadata(&mut applied);
    let owned = ownership::without_unowned(fields::applied_fields(schema, &applied));
    let Some(live) = live else {
        schema.drop_empty(&mut applied);
        let mut managers = Managers::default();
        managers.set(writer, Operation::Apply, owned);
        managers.write(&mut applied);
        return Ok(applied);
    };

    let mut managers = Managers::read(live);
    if managers.is_empty() {
        // The live fields have no known owner, so they could neither conflict nor be kept.
        let written = difference::compare(schema, blank, live).changed;
        managers.adopt(ownership::without_unowned(written), writer);
    }
    let before = managers.set(writer, Operation::Apply, owned);
    let mut merged = merge::merge(schema, Some(live), &applied);
    let kept = managers.union();
    merge::remove_dropped(schema, &mut merged, &before, &kept);

    let difference = difference::compare(schema, live, &merged);
    let changed = ownership::without_unowned(difference.changed);
    let conflicts = managers.conflicts(writer, &changed);
    if !force && !conflicts.is_empty() {
        return Err(ApplyError::Conflicts(conflicts));
    }
    managers.take_from_others(writer, Operation::Apply, &changed);
    managers.remove_from_all(&difference.removed);
    // Only now: an empty map is owned by who applies it, although it is not stored.
    schema.drop_empty(&mut merged);
    managers.write(&mut merged);
    Ok(merged)
}

/// Records the fields that an ordinary write (create, update, patch) changed in the `managedFields`
/// of `new`.
///
/// Of an object that has no managers only the creation is recorded: `old` is then nothing, or an
/// object without metadata, such as Go makes before it reads a body.
///
/// `new` is the object as it will be stored. Its own `managedFields`, if it has any, replace those
/// of `old`; an empty list (or one with an empty entry) drops all, as in the real server.
pub fn track_update(
    schema: &Schema,
    old: Option<&Value>,
    new: &mut Value,
    writer: &FieldWriter<'_>,
) {
    let mut managers = if ownership::asks_for_reset(new) {
        Managers::default()
    } else if old.is_some() && Managers::read(new).is_empty() {
        // A client that does not send managed fields does not ask for them to be dropped.
        old.map(Managers::read).unwrap_or_default()
    } else {
        Managers::read(new)
    };
    if managers.is_empty() && old.is_some_and(|old| old["metadata"].is_object()) {
        managers.write(new);
        return;
    }
    let difference = match old {
        Some(old) => difference::compare(schema, old, new),
        None => difference::Difference {
            changed: fields::all_fields(schema, new),
            removed: FieldSet::default(),
        },
    };
    let changed = ownership::without_unowned(difference.changed);
    managers.take_from_others(writer, Operation::Update, &changed);
    managers.remove_from_all(&difference.removed);
    if !changed.is_empty() {
        managers.add(writer, Operation::Update, &changed);
    }
    managers.write(new);
}

/// `Apply failed with 1 conflict: conflict with "x" using v1: .spec.replicas`; several are
/// grouped by manager.
fn conflict_text(conflicts: &[Conflict]) -> String {
    if let [conflict] = conflicts {
        return format!("Apply failed with 1 conflict: {}: {}", conflict.message, conflict.field);
    }
    let mut text = format!("Apply failed with {} conflicts: ", conflicts.len());
    let mut previous = "";
    for conflict in conflicts {
        if conflict.message != previous {
            if !previous.is_empty() {
                text.push('\n');
            }
            text.push_str(&conflict.message.replacen("conflict", "conflicts", 1));
            text.push(':');
            previous = &conflict.message;
        }
        text.push_str("\n- ");
        text.push_str(&conflict.field);
    }
    text
}
