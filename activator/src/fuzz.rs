//! Bodies of this crate's fuzz targets (docs/fuzzing.md). Each takes one input, and panics if the
//! input shows a fault.

mod headers;
mod models;

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

pub use self::headers::headers;
pub use self::models::models;
pub use crate::guard::fuzz::heads;

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn the_inputs_of_headers_show_no_fault() {
        replay("headers", super::headers);
    }

    #[test]
    fn the_inputs_of_models_show_no_fault() {
        replay("models", super::models);
    }

    #[test]
    fn the_inputs_of_heads_show_no_fault() {
        replay("heads", super::heads);
    }
}
