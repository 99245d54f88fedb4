//! Writes of one revision that wait for each other become one.

use crate::event::{Urgency, Write};

/// One write in the place of two: the newer scale, and the marks of both.
pub(super) fn newest(older: Write, newer: Write) -> Write {
    let Write { key, uid, urgency, is_lowering, marks, known, version, desired } = newer;
    // The older scale is yet to be written: the merged write makes the step of both, from the older
    // write's number.
    let is_joint = older.desired.is_some();
    let (known, version) = if is_joint { (older.known, older.version) } else { (known, version) };
    // A newer scale that is higher than the older one may still be lower than what Kubernetes knows:
    // then it deletes pods, and the older marks say which.
    let is_lower = match (known, desired) {
        (Some(known), Some(desired)) => desired < known,
        _ => desired.is_none() || desired <= older.desired,
    };
    let mut all_marks = older.marks;
    all_marks.extend(marks);
    let is_lowering = (is_lowering || older.is_lowering) && (!is_joint || is_lower);
    Write {
        key,
        uid,
        urgency: match (older.desired, desired) {
            (Some(_), Some(_)) if is_lowering => urgency.max(Urgency::Lower),
            (Some(_), Some(_)) => urgency.min(older.urgency),
            (Some(_), None) => older.urgency,
            (None, _) => urgency,
        },
        is_lowering,
        marks: all_marks,
        known,
        version,
        desired: desired.or(older.desired),
    }
}
