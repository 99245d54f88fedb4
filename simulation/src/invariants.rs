//! What holds in every world at every moment, in words. `judge` looks whether it does.
//!
//! "Well" means: nothing that the request or the decision depends on is under a fault, or was a
//! moment ago. How long a moment is stands beside each use in `judge`.

/// Each request ends in an answer of the model. Others are made up only so: 504 when the request's
/// own timeout has run out, to the millisecond, and no pod was free for it all the time; 503 with
/// `Retry-After` when the model cannot start; 404 when the host is not routed; 502 or a broken
/// connection when a process that held the request has ended without having been asked to.
pub(crate) const ANSWERED: &str = "no request that Ebb could have served is lost";
/// A Revision whose requests wait gets a pod, or they get the reason why not.
pub(crate) const STARTED: &str = "a revision with waiting requests gets a pod or a reason";
/// Every request ends: its timeout, or the client's patience, bounds it. A 504 comes no more than a
/// moment later than the timeout.
pub(crate) const ENDS: &str = "every request ends";
/// A request is answered by a Revision that its host was routed to while it was under way, by name
/// and UID.
pub(crate) const OWN_REVISION: &str = "no request is answered by another revision or UID";
/// A body arrives whole, in both directions, byte by byte and with its trailers, or the connection
/// breaks.
pub(crate) const WHOLE: &str = "no body is cut short and looks whole";
/// A request reaches one pod, unless the first attempt provably did not arrive.
pub(crate) const SENT_ONCE: &str = "a request is sent to one pod at most";
/// `containerConcurrency` holds in each pod while the activators agree who owns the revision.
pub(crate) const LIMIT: &str = "a limit is never exceeded while the members agree";
/// No activator lets a request wait while it knows of a pod with room, nor while a pod that it has to
/// know has room in truth.
pub(crate) const NO_IDLE_SLOT: &str = "no request waits beside a free slot";
/// A scale falls only while every activator whose pod runs is heard by whoever decides.
pub(crate) const HEARD: &str = "the scale never falls while an activator is unheard";
/// A pod that Ebb takes away has no request inside.
pub(crate) const EMPTY_POD: &str = "no pod is taken away with a request inside";
/// Only the holder of the lease writes what the lease is for: specs, statuses, labels, scales and
/// marks, field by field, and in the very term in which it sent the write.
pub(crate) const ONE_WRITER: &str = "one writer for each field and term";
/// Some time after the last fault everything is as the newest objects ask for, with the replicas that
/// are to be kept.
pub(crate) const CONVERGES: &str = "everything converges once the faults have ended";
/// A revision without traffic ends at zero.
pub(crate) const TO_ZERO: &str = "a revision without traffic ends at zero";
/// No process ends by a panic, and none ends by itself, but for a controller that no longer leads
/// because it, or its way to the API server, was disturbed.
pub(crate) const ALIVE: &str = "no process ends by itself";
/// What is held for requests and revisions goes with them: objects by their UIDs, what activators
/// know, and what metrics show.
pub(crate) const BOUNDED: &str = "nothing is kept for what is gone";
/// Hosts inside the cluster are unknown at the outer door.
pub(crate) const INSIDE: &str = "no cluster-local host is known at the outer door";
/// A pod that breaks off request after request gets no more of them while another pod is well.
pub(crate) const PASSED_OVER: &str = "a pod that fails is passed over";
/// The settings in force are those that a user made, at every moment.
pub(crate) const SETTINGS: &str = "settings hold until they are changed";
/// A pod is marked for deletion only while it is on its way out.
pub(crate) const MARKED: &str = "no mark stays on a pod that stays";
