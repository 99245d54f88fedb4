//! Bodies of this crate's fuzz targets (docs/fuzzing.md). Each takes one input, and panics if the
//! input shows a fault.

pub(crate) mod objects;
mod patch;
mod protobuf;
mod request;

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

pub use self::patch::patch;
pub use self::protobuf::protobuf;
pub use self::request::request;
pub use crate::apply::fuzz::apply;
pub use crate::journal::fuzz::journal;

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn the_inputs_of_journal_show_no_fault() {
        replay("journal", super::journal);
    }

    #[test]
    fn the_inputs_of_protobuf_show_no_fault() {
        replay("protobuf", super::protobuf);
    }

    #[test]
    fn the_inputs_of_request_show_no_fault() {
        replay("request", super::request);
    }

    #[test]
    fn the_inputs_of_patch_show_no_fault() {
        replay("patch", super::patch);
    }

    #[test]
    fn the_inputs_of_apply_show_no_fault() {
        replay("apply", super::apply);
    }
}
