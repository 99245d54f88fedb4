//! Writes of one revision that wait for each other become one.

use crate::event::Write;

/// One write in the place of two: the newer scale, and the marks of both.
pub(super) fn newest(older: Write, newer: Write) -> Write {
    let Write { key, uid, urgency, is_lowering, marks, known, version, desired } = newer;
    // Marks that were to come before the older scale must also come before an equal or lower one.
    let still_lower = desired.is_none() || desired <= older.desired;
    let mut all_marks = older.marks;
    all_marks.extend(marks);
    Write {
        key,
        uid,
        urgency: match (older.desired, desired) {
            // The older scale is yet to be written: the merged write makes the step of both.
            (Some(_), Some(_)) => urgency.min(older.urgency),
            (Some(_), None) => older.urgency,
            (None, _) => urgency,
        },
        is_lowering: is_lowering || (older.is_lowering && still_lower),
        marks: all_marks,
        // For the same reason it starts from the older write's number.
        known: if older.desired.is_some() { older.known } else { known },
        version: if older.desired.is_some() { older.version } else { version },
        desired: desired.or(older.desired),
    }
}
