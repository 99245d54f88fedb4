//! Resource types, defaults, validation, names and configuration of Ebb: no I/O, no client.
//!
//! Everything here is a value or a pure function over values. The API is Knative Serving's own
//! (`serving.knative.dev/v1`), so that people's YAML, `kubectl` and `kn` work unchanged.

pub mod annotations;
pub mod backoff;
pub mod by_value;
pub mod condition;
pub mod config;
pub mod crd;
pub mod defaults;
pub mod duration;
pub mod field_error;
mod fields;
pub mod first_scale;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzz;
pub mod host_template;
pub mod labels;
pub mod model_files;
pub mod model_source;
pub mod models;
pub mod names;
pub mod no_wake;
pub mod pod;
pub mod priority;
pub mod progress;
pub mod quantity;
pub mod report;
pub mod resource_version;
pub mod room_for;
#[cfg(feature = "schema")]
pub mod schema;
pub mod serving;
pub mod standby;
pub mod start_phase;
pub mod start_timeout;
pub mod starts;
pub mod validation;
pub mod waiting_events;
pub mod waiting_page;
