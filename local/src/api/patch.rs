//! The patch formats that change an object in place: JSON patch, merge patch and strategic merge
//! patch. Server-side apply is another thing and lives in [`super::apply`].
//!
//! A patch that is refused leaves the object as it was.

mod strategic;

#[cfg(test)]
mod tests;

use serde_json::Value;

use super::schema::Schema;

/// Operations that one JSON patch may have, as in the real server: each can copy a large part of
/// the object.
const OPERATIONS_MAX: usize = 10_000;

/// Why a patch was refused.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The patch is not what its content type says: a 400.
    #[error("the patch is malformed: {0}")]
    Malformed(String),
    /// The patch does not fit the object: a 422.
    #[error("the server rejected our request due to an error in our request: {0}")]
    Inapplicable(String),
}

/// Applies a JSON patch (RFC 6902): a list of operations, all or none of which are done.
pub fn json(target: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let operations = patch.as_array().map_or(0, Vec::len);
    if operations > OPERATIONS_MAX {
        return Err(PatchError::Malformed(format!(
            "{operations} operations, and one patch may have {OPERATIONS_MAX}: send several"
        )));
    }
    let patch: json_patch::Patch = serde_json::from_value(patch.clone())
        .map_err(|error| PatchError::Malformed(format!("not a JSON patch: {error}")))?;
    json_patch::patch(target, &patch).map_err(|error| PatchError::Inapplicable(error.to_string()))
}

/// Applies a JSON merge patch (RFC 7386): objects are merged, `null` removes, all else replaces.
pub fn merge(target: &mut Value, patch: &Value) -> Result<(), PatchError> {
    expect_object(patch)?;
    json_patch::merge(target, patch);
    Ok(())
}

/// Applies a strategic merge patch: a merge patch in which lists merge as their kind says, with
/// the directives `$patch`, `$retainKeys`, `$setElementOrder` and `$deleteFromPrimitiveList`.
/// For built-in kinds; the real server refuses it for custom ones, and so should the caller (415).
pub fn strategic(schema: &Schema, target: &mut Value, patch: &Value) -> Result<(), PatchError> {
    let fields = expect_object(patch)?;
    let Value::Object(object) = &*target else {
        return Err(PatchError::Inapplicable("only an object can be patched".to_owned()));
    };
    let mut patched = object.clone();
    strategic::merge_object(schema, &mut patched, fields)?;
    *target = Value::Object(patched);
    Ok(())
}

fn expect_object(patch: &Value) -> Result<&serde_json::Map<String, Value>, PatchError> {
    patch.as_object().ok_or_else(|| {
        PatchError::Malformed("a merge patch is an object of the fields to change".to_owned())
    })
}
