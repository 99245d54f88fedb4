//! The patch formats that change an object in place: JSON patch, merge patch and strategic merge
//! patch. Server-side apply is another thing and lives in [`super::apply`].
//!
//! A patch that is refused leaves the object as it was.

mod strategic;

#[cfg(test)]
mod tests;

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, CopyOperation, PatchOperation, ReplaceOperation, TestOperation};
use serde_json::Value;

use crate::measure::{self, LEVELS_MAX, OBJECT_BYTES_MAX};
use crate::schema::Schema;

/// Operations that one JSON patch may have, as in the real server.
const OPERATIONS_MAX: usize = 10_000;
/// Bytes that the operations of one JSON patch may copy and move, together. The real server has the
/// same limit for copies: twenty that each double the object would make a megabyte of one byte.
const COPIED_BYTES_MAX: usize = OBJECT_BYTES_MAX;

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
    let Some(operations) = patch.as_array().filter(|list| list.iter().all(Value::is_object)) else {
        return Err(PatchError::Malformed("not a JSON patch: not a list of operations".to_owned()));
    };
    let count = operations.len();
    if count > OPERATIONS_MAX {
        return Err(PatchError::Malformed(format!(
            "{count} operations, and one patch may have {OPERATIONS_MAX}: send several"
        )));
    }
    let json_patch::Patch(operations) = serde_json::from_value(patch.clone())
        .map_err(|error| PatchError::Inapplicable(error.to_string()))?;
    let mut patched = target.clone();
    let mut copied = 0;
    for operation in operations {
        copied += growth(&patched, &operation)?;
        if copied > COPIED_BYTES_MAX {
            return Err(PatchError::Inapplicable(format!(
                "it copies and moves more than {COPIED_BYTES_MAX} bytes: send several patches"
            )));
        }
        let Some(operation) = lenient(&patched, operation) else { continue };
        // One by one: an operation may copy the result of an earlier one.
        json_patch::patch_unsafe(&mut patched, &[operation])
            .map_err(|error| PatchError::Inapplicable(error.to_string()))?;
    }
    *target = patched;
    Ok(())
}

/// The operation as the real server does it on a field that is not there: `replace` adds it, and
/// `copy` and `test` find null. RFC 6902 refuses all three. Nothing is left of a test that passes.
fn lenient(target: &Value, operation: PatchOperation) -> Option<PatchOperation> {
    let lacks = |at: &PointerBuf| {
        let parent = at.parent().and_then(|parent| parent.resolve(target).ok());
        parent.is_some_and(Value::is_object) && at.resolve(target).is_err()
    };
    match operation {
        PatchOperation::Replace(ReplaceOperation { path, value }) if lacks(&path) => {
            Some(PatchOperation::Add(AddOperation { path, value }))
        }
        PatchOperation::Copy(CopyOperation { path, from }) if lacks(&from) => {
            Some(PatchOperation::Add(AddOperation { path, value: Value::Null }))
        }
        PatchOperation::Test(TestOperation { path, value: Value::Null }) if lacks(&path) => None,
        operation => Some(operation),
    }
}

/// How many bytes of `target` an operation copies or moves. Refuses an operation that would nest
/// its result too deep. A path that does not exist is reported by the operation itself.
fn growth(target: &Value, operation: &PatchOperation) -> Result<usize, PatchError> {
    let (path, value, copied) = match operation {
        PatchOperation::Add(add) => (&add.path, Some(&add.value), false),
        PatchOperation::Replace(replace) => (&replace.path, Some(&replace.value), false),
        PatchOperation::Copy(copy) => (&copy.path, copy.from.resolve(target).ok(), true),
        PatchOperation::Move(moved) => (&moved.path, moved.from.resolve(target).ok(), true),
        PatchOperation::Remove(_) | PatchOperation::Test(_) => return Ok(0),
    };
    let Some(value) = value else { return Ok(0) };
    if path.count() + measure::levels(value) > LEVELS_MAX {
        return Err(PatchError::Inapplicable(format!(
            "{path} would be nested deeper than {LEVELS_MAX} levels"
        )));
    }
    Ok(if copied { measure::bytes(value) } else { 0 })
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
