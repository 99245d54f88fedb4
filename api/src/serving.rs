//! `serving.knative.dev/v1`: Service, Configuration, Revision and Route.

mod configuration;
mod revision;
mod route;
mod service;
mod template;

pub use configuration::{Configuration, ConfigurationSpec, ConfigurationStatus};
pub use revision::{
    ContainerStatus, Protocol, ROUTING_ACTIVE, ROUTING_PENDING, ROUTING_RESERVE, Revision,
    RevisionSpec, RevisionStatus,
};
pub use route::{Addressable, Route, RouteSpec, RouteStatus, TrafficTarget};
pub use service::{Service, ServiceSpec, ServiceStatus};
pub use template::RevisionTemplateSpec;

/// Group of the public kinds.
pub const GROUP: &str = "serving.knative.dev";
/// Version of the public kinds.
pub const VERSION: &str = "v1";
