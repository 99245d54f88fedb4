//! Writes of one revision that wait for each other become one.

use crate::event::{Urgency, Write};

/// One write in the place of two: the newer scale, and the marks of both.
pub(super) fn newest(older: Write, newer: Write) -> Write {
    let Write { key, uid, urgency, is_lowering, marks, known, version, desired } = newer;
    // The older scale is yet to be written: the merged write makes the step of both, from the older
    // write's number.
    let is_joint = older.desired.is_some();
    let newer_known = known;
    let (known, version) = if is_joint { (older.known, older.version) } else { (known, version) };
    let desired = match (known, newer_known, desired) {
        // What is no step down by itself makes none with the older one. The pods were chosen for
        // the whole of that step, some of them are needed again, and an attempt that is under way
        // may still take any of them: the known scale stays, and the next step starts from there.
        (Some(known), Some(before), Some(desired)) if before <= desired && desired < known => {
            Some(known)
        }
        (_, _, desired) => desired,
    };
    let is_lower = match (known, desired) {
        (Some(known), Some(desired)) => desired < known,
        _ => desired.is_none() || desired <= older.desired,
    };
    let mut all_marks = older.marks;
    all_marks.extend(marks);
    let is_lowering = (is_lowering || older.is_lowering) && (!is_joint || is_lower);
    if is_joint && !is_lowering {
        // Marks choose for a lower scale alone, and each takes a request.
        all_marks.retain(|_, cost| cost.is_none());
    }
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
