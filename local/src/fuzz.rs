//! The body of this crate's fuzz target (docs/fuzzing.md). It takes one input, and panics if the
//! input shows a fault.

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

pub use crate::manifests::fuzz::manifests;

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn the_inputs_of_manifests_show_no_fault() {
        replay("manifests", super::manifests);
    }
}
