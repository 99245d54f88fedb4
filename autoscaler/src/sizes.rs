//! How much an autoscaler keeps, for whoever looks whether it stays within bounds.

/// Numbers of what is kept. In a cluster without load, and without faults for a while, all but the
/// first four come back to 0 where it leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FleetSizes {
    /// Revisions.
    pub revisions: usize,
    /// Names of revisions, those of which there are only pods included.
    pub names: usize,
    /// Pods of revisions.
    pub pods: usize,
    /// Activators.
    pub reporters: usize,
    /// Last reports, for each revision and activator.
    pub reports: usize,
    /// Pods that those name.
    pub named: usize,
    /// Pods that drain or are condemned.
    pub leaving: usize,
    /// Pods that are gone, and that an activator may still know. One that does not lead forgets them
    /// when it loses the next pod.
    pub gone: usize,
    /// Revisions with a write under way, waiting or resting.
    pub writing: usize,
}
