//! What follows from the end of a request.

use ebb_api::report::RevisionKey;
use ebb_daemon::desired;

use super::merge::newest;
use super::request::Step;
use super::{Outcome, Slot};
use crate::event::Write;

/// Brings a slot up to date after its request ended.
pub(super) fn follow_up(
    slot: &mut Slot,
    key: &RevisionKey,
    mut write: Write,
    result: Result<Step, kube::Error>,
) -> Outcome {
    match result {
        Ok(step) => {
            slot.failures = 0;
            match step {
                Step::Marked(names) => write.marks.retain(|name, _| !names.contains(name)),
                Step::Shown(seen) => {
                    slot.seen = seen;
                    write.desired = None;
                }
            }
            if !write.marks.is_empty() || write.desired.is_some() {
                restore(slot, write);
            }
            written(slot, key)
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {
            // Deleted: the watch will say so, or show the new Revision of the same name.
            tracing::debug!(revision.name = %key, "There is no Revision to write to any more");
            written(slot, key)
        }
        Err(error) if !write.is_marking() && desired::is_refused(&error) => {
            slot.failures = slot.failures.saturating_add(1);
            tracing::info!(
                revision.name = %key,
                "Another client changed the scale meanwhile; it is decided anew"
            );
            // The writes that wait were decided by the same number.
            (slot.waiting, slot.later) = (None, None);
            Outcome::Refused(key.clone())
        }
        Err(error) => {
            slot.failures = slot.failures.saturating_add(1);
            tracing::warn!(
                revision.name = %key,
                %error,
                failures = slot.failures,
                "A scale was not written and will be tried again"
            );
            restore(slot, write);
            Outcome::Failed
        }
    }
}

fn written(slot: &Slot, key: &RevisionKey) -> Outcome {
    if slot.waiting.is_some() { Outcome::Pending } else { Outcome::Written(key.clone(), slot.seen) }
}

/// Puts an unfinished write back, unless a newer one waits already.
fn restore(slot: &mut Slot, write: Write) {
    slot.waiting = Some(match slot.waiting.take() {
        Some(newer) => newest(write, newer),
        None => write,
    });
}
