//! The pod that rests: it gets no requests, as one that drains, and stays.

use std::sync::Arc;

use super::views::is_let_go;
use super::{Drain, Scene};
use crate::load::ReporterView;

impl Drain {
    /// Nothing on its way out, but for the pods that are gone: no activator may send requests there,
    /// whoever leads.
    #[must_use]
    pub fn start_over(self) -> Self {
        Self { gone: self.gone, ..Self::default() }
    }

    /// Lets the pod rest that is to. One that rested drains from the order on that named it first, if it
    /// is to go, and otherwise serves again.
    pub(super) fn follow_rest(&mut self, scene: &Scene<'_>) {
        let is_new = |(resting, _): &mut (Arc<str>, _)| scene.rests != Some(resting);
        if let Some((uid, order)) = self.resting.take_if(is_new) {
            if scene.pods.get(&uid).is_some_and(|pod| !pod.is_terminating) {
                self.draining.insert(uid.to_string(), order);
            } else {
                self.gone.insert(uid.to_string());
            }
        }
        if let Some(uid) = scene.rests
            && self.resting.is_none()
        {
            let order = self.draining.remove(&**uid).unwrap_or(scene.order);
            self.resting = Some((Arc::clone(uid), order));
        }
    }

    /// Whether every activator sends nothing to the pod that rests, and has nothing inside.
    pub(super) fn is_rested(&self, views: &[ReporterView<'_>]) -> bool {
        self.resting.as_ref().is_some_and(|(uid, order)| {
            !views.is_empty() && views.iter().all(|view| is_let_go(view, uid, *order))
        })
    }
}
