//! The host table: which revisions get the requests of a host, and in what proportion; and the same
//! for models, whose requests come to one host of their own.
//!
//! Pure: made from the facts of all Routes. Each change makes another table, which shares with the
//! earlier one all that did not change; a table itself never changes. A request's revision follows
//! from its host, the door that it came through and a random number alone, at the models host from
//! the model that its body names instead of the host; never from a header of the client.

mod claims;
mod door;
mod facts;
mod host;
mod models;
mod split;
mod table;

pub use claims::RouteClaims;
pub use door::Door;
pub use facts::RouteFacts;
pub(crate) use facts::is_inside;
pub use host::{HostError, normalise};
pub use models::{Choice, ModelTable, ModelView};
pub use table::RouteTable;

#[cfg(test)]
mod tests;
