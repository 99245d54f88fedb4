//! The autoscaler: from the load that activators report to the scale of each revision.
//!
//! The core is [`Fleet`], a state machine that is stepped with events and returns actions. It is
//! made of pure parts: [`spec`] (what a revision is held to), [`load`] over [`window`] (what it
//! bears), [`decision`] (what that asks for: Knative's algorithm), [`bounds`], [`zero`] (the way to
//! zero and back), [`steady`] (what has to last first), [`drain`] (which pods go, and when),
//! [`activators`] (whether all of the load is known) and [`hold`] (what becomes of a lower scale
//! when it is not).
//!
//! [`Autoscaler`] is the shell around it: [`Intake`] for reports (over the network: [`streams`]),
//! watches, and the [`writer`].
//!
//! Rule that outranks all others: what is missing or out of date never lowers a scale.

pub mod activators;
pub mod bounds;
pub mod cli;
pub mod decision;
pub mod delay;
pub mod drain;
pub mod event;
pub mod fleet;
pub mod hold;
pub mod intake;
pub mod load;
pub mod measures;
pub mod notices;
pub mod pods;
pub mod revision;
pub mod shell;
pub mod spec;
pub mod steady;
pub mod streams;
pub mod target;
pub mod watches;
pub mod window;
pub mod writer;
pub mod zero;

pub use event::{Action, FleetEvent};
pub use fleet::Fleet;
pub use intake::Intake;
pub use shell::{Autoscaler, AutoscalerOptions, DrainControl, Roster};
