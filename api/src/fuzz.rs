//! Bodies of this crate's fuzz targets (docs/fuzzing.md). Each takes one input, and panics if the
//! input shows a fault.

mod reports;
mod services;
mod sources;

#[cfg(test)]
#[path = "../../fuzz/replay.rs"]
mod replay;

pub use self::reports::reports;
pub use self::services::services;
pub use self::sources::sources;

#[cfg(test)]
mod tests {
    use super::replay::replay;
    use super::{reports, services, sources};

    #[test]
    fn the_inputs_of_reports_show_no_fault() {
        replay("reports", reports);
    }

    #[test]
    fn the_inputs_of_services_show_no_fault() {
        replay("services", services);
    }

    #[test]
    fn the_inputs_of_sources_show_no_fault() {
        replay("sources", sources);
    }
}
