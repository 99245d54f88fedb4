//! The autoscaler: from the load that activators report to the scale of each revision.
//!
//! The core is [`Fleet`], a state machine that is stepped with events and returns actions. It is
//! made of pure parts: [`spec`] (the parameters of a revision's scaling), [`load`] over [`window`]
//! (its load), [`decision`] (the replicas that the load asks for: Knative's algorithm), [`bounds`],
//! [`zero`] (the way to zero and back), [`steady`] (small changes are followed only once they
//! last), [`drain`] (which pods go, and when), [`room`] (which go for others), [`standby`]
//! (the last one sleeps instead of going), [`activators`] (whether all of the load is known)
//! and [`hold`] (a lower scale that is held up while it is not).
//!
//! [`Autoscaler`] is the shell around it: [`Intake`] for reports (over the network: [`streams`]),
//! watches, the [`writer`], and the [`calls`] to pods that sleep.
//!
//! Rule that outranks all others: missing or outdated information never lowers a scale.

pub mod activators;
pub mod bounds;
pub mod calls;
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
pub mod room;
pub mod scale_target;
pub mod scaler;
pub mod shell;
pub mod sizes;
pub mod spec;
pub mod standby;
pub mod steady;
pub mod streams;
pub mod watches;
pub mod window;
pub mod writer;
pub mod zero;

pub use event::{Action, FleetEvent};
pub use fleet::Fleet;
pub use intake::Intake;
pub use shell::{Autoscaler, AutoscalerOptions, DrainControl, Roster, SizeReader};
pub use sizes::FleetSizes;
